"""What is minimised, as sums and counts that add up over ranks, and what a constant would reach.

A term is divided by its count over all ranks, never by the local one, so that two workers compute
the loss of one. The best constant predictor's loss tells learning from a loss that is merely small.
"""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor
from torch.nn import functional as F

from pipeline.data.batches import Batch
from pipeline.data.pixels import cell_labels
from pipeline.model_config import LossConfig
from pipeline.models.pixels import PIXEL_STRIDE
from pipeline.models.scores import Scores

IGNORE = 255


@dataclass(frozen=True, kw_only=True)
class Term:
    """One summand of the loss: weight * (sum of totals over ranks) / max(1, sum of counts)."""

    total: Float32[Tensor, ""]
    """Sum over this rank's items; attached to the model even when there are none."""
    count: Float32[Tensor, ""]
    """What the sum is divided by: labelled items, for `focal` the positives expected among them."""
    weight: float


def loss_terms(
    scores: Scores,
    batch: Batch,
    *,
    config: LossConfig,
    pos_weight: float,
    pixel_pos_weight: float | None = None,
) -> dict[str, Term]:
    """Terms by name: `point`, `frame` and `pixel`, or `seed` for the prior system's loss.

    `pos_weight` is normal / anomalous points of the train split, for `bce`, and `pixel_pos_weight`
    that of cells, for models that score pixels. Label 255 is left out.
    Raises ValueError when a point loss meets a model that scores frames only.
    """
    if config.name == "seed_self_supervised":
        return {"seed": seed_self_supervised(scores.frame_score)}
    if scores.point_score is None:
        raise ValueError(
            f"loss.name={config.name} needs point scores, which this model has not; use "
            "model.name=detector or loss.name=seed_self_supervised"
        )
    point = (scores.point_score, batch.point_label)
    terms = {"point": item_term(*point, config=config, pos_weight=pos_weight)}
    if scores.pixel_score is not None:
        assert batch.pixel_label is not None
        assert pixel_pos_weight is not None
        cells = cell_labels(batch.pixel_label, stride=PIXEL_STRIDE)
        pixel = (scores.pixel_score.flatten(), cells.flatten())
        term = item_term(*pixel, config=config, pos_weight=pixel_pos_weight)
        terms["pixel"] = dataclasses.replace(term, weight=config.pixel_weight)
    if config.frame_weight:
        frame = (scores.frame_score, batch.frame_label)
        terms["frame"] = bce(*frame, pos_weight=1.0, weight=config.frame_weight)
    return terms


def item_term(
    score: Float32[Tensor, "N"],
    label: UInt8[Tensor, "N"],
    *,
    config: LossConfig,
    pos_weight: float,
) -> Term:
    """The term of points or cells that `loss.name` names; `pos_weight` is normal / anomalous."""
    if config.name == "focal":
        alpha, gamma = config.focal_alpha, config.focal_gamma
        return focal(score, label, alpha=alpha, gamma=gamma, prior=1 / (1 + pos_weight))
    return bce(score, label, pos_weight=pos_weight)


def bce(
    score: Float32[Tensor, "N"],
    label: UInt8[Tensor, "N"],
    *,
    pos_weight: float,
    weight: float = 1.0,
) -> Term:
    """Binary cross-entropy of logits, positives times `pos_weight`; count = labelled items."""
    score, target = _labelled(score, label)
    weights = score.new_tensor(pos_weight)
    total = F.binary_cross_entropy_with_logits(score, target, pos_weight=weights, reduction="sum")
    return Term(total=total, count=score.new_tensor(len(score)), weight=weight)


def focal(
    score: Float32[Tensor, "N"],
    label: UInt8[Tensor, "N"],
    *,
    alpha: float,
    gamma: float,
    prior: float,
) -> Term:
    """alpha_t (1 - p_t)^gamma cross-entropy (arXiv 1708.02002, eq. 5); positives weigh alpha.

    The paper divides by the positives. Most small batches hold none here, so the count is the
    number expected of a batch of this size: labelled items times `prior`, the train split's share.
    """
    score, target = _labelled(score, label)
    # p_t is the probability given to the truth: everything follows from one signed logit.
    signed = score * (2 * target - 1)
    share = 1 - alpha + (2 * alpha - 1) * target
    total = (share * torch.sigmoid(-signed) ** gamma * F.softplus(-signed)).sum()
    return Term(total=total, count=score.new_tensor(len(score) * prior), weight=1.0)


def seed_self_supervised(score: Float32[Tensor, "B"]) -> Term:
    """mean(s) + 0.1 std(s) of s = sigmoid(score), the prior system's loss; it needs no label.

    std is unbiased as in that system, and 0 for a single frame. Negative control: 0 is reached by
    answering 0 to everything.
    """
    s = torch.sigmoid(score)
    spread = s.std() if len(s) > 1 else s.new_zeros(())
    return Term(total=s.sum() + 0.1 * len(s) * spread, count=s.new_tensor(len(s)), weight=1.0)


def _labelled(
    score: Float32[Tensor, "N"], label: UInt8[Tensor, "N"]
) -> tuple[Float32[Tensor, "M"], Float32[Tensor, "M"]]:
    known = label != IGNORE
    return score[known], label[known].to(score.dtype)


def constant_predictor_loss(prevalence: float, *, config: LossConfig, pos_weight: float) -> float:
    """Lowest value of the point term (`seed`: of the loss) when every score is the same constant.

    `prevalence` is the share of positives among labelled points, strictly between 0 and 1.
    """
    if config.name == "seed_self_supervised":
        return 0.0
    assert 0 < prevalence < 1, prevalence
    if config.name == "bce":
        positive, negative = prevalence * pos_weight, 1 - prevalence
        p = positive / (positive + negative)
        return -positive * math.log(p) - negative * math.log(1 - p)
    # One minimum over the logit, found on a grid so fine that its error is below 1e-6 of the value.
    logit = np.linspace(-30, 30, 60_001)
    positive = _sigmoid(-logit) ** config.focal_gamma * np.logaddexp(0, -logit)
    negative = _sigmoid(logit) ** config.focal_gamma * np.logaddexp(0, logit)
    odds = (1 - prevalence) / prevalence
    alpha = config.focal_alpha
    return float(np.min(alpha * positive + odds * (1 - alpha) * negative))


def _sigmoid(x: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "N"]:
    return np.exp(-np.logaddexp(0, -x))
