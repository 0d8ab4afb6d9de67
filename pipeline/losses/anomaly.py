"""Losses as (sum, count) pairs that add up over ranks, and the loss of the best constant predictor.

A term is divided by its count over all ranks, never by the local one, so that two workers compute
the loss of one. The best constant predictor's loss tells learning from a loss that is merely small.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor
from torch.nn import functional as F

from pipeline.config.model import LossConfig
from pipeline.data.batch import Batch
from pipeline.data.pixels import cell_labels
from pipeline.data.transforms.outliers import OUTLIER_LABEL
from pipeline.datasets.protocol.classes import ANOMALOUS_LABEL
from pipeline.losses.reduction import Term
from pipeline.losses.semantic import cross_entropy, known, lovasz, outlier, targets
from pipeline.models.pixels import PIXEL_STRIDE
from pipeline.models.scores import ScoreName, Scores


def main_term(config: LossConfig) -> str:
    """Name of the term that tells whether the run learned anything."""
    return {"cross_entropy": "semantic", "prior_self_supervised": "prior"}.get(config.name, "point")


def loss_terms(
    scores: Scores,
    batch: Batch,
    *,
    config: LossConfig,
    pos_weight: float,
    pixel_pos_weight: float | None = None,
    score: ScoreName = "supervised",
    with_outliers: bool = False,
) -> dict[str, Term]:
    """Terms by name: `point`, `frame` and `pixel`, or `prior` for the prior system's loss.

    A model with a semantic head adds `semantic` and `lovasz`, and `cross_entropy` consists of those
    two; `with_outliers` adds those of synthetic outliers (see `outlier_terms`). `pos_weight` is
    normal / anomalous points of the train split, for `bce`, and `pixel_pos_weight` that of cells,
    for models that score pixels; `score` is `model.score`. Label 255 is left out. Which terms there
    are never depends on the batch, so ranks can add theirs up.
    Raises ValueError when a point loss meets a model that scores frames only.
    """
    if config.name == "prior_self_supervised":
        return {"prior": prior_self_supervised(scores.frame_score)}
    if scores.point_score is None:
        raise ValueError(
            f"loss.name={config.name} needs point scores, which this model does not produce; use "
            "model.name=detector or loss.name=prior_self_supervised"
        )
    terms = semantic_terms(scores, batch, config=config)
    if with_outliers:
        terms |= outlier_terms(scores, batch, config=config, score=score)
    if config.name == "cross_entropy":
        return terms
    point = (scores.point_score, batch.point_label)
    terms["point"] = item_term(*point, config=config, pos_weight=pos_weight)
    if config.dice_weight:
        terms["dice"] = dice(*point, weight=config.dice_weight)
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
    return POINT_LOSSES[config.name].term(score, label, config, pos_weight)


def semantic_terms(scores: Scores, batch: Batch, *, config: LossConfig) -> dict[str, Term]:
    """`semantic` and `lovasz` over points labelled normal; none without a semantic head."""
    if scores.semantic is None:
        return {}
    target, terms = targets(batch), {}
    if weight := 1.0 if config.name == "cross_entropy" else config.semantic_weight:
        terms["semantic"] = cross_entropy(scores.semantic, target, weight=weight)
    if weight := config.lovasz_weight:
        terms["lovasz"] = lovasz(scores.semantic, target, batch.sizes(), weight=weight)
    return terms


def outlier_terms(
    scores: Scores, batch: Batch, *, config: LossConfig, score: ScoreName
) -> dict[str, Term]:
    """`outlier` over synthetic outliers, points and mixed features alike, and its other side.

    The other side, `known`, is there for `max_logit` and `energy`, whose level nothing else fixes:
    a supervised score has its own loss on normal points, and entropy a fixed range.
    """
    weight = config.outlier_weight
    if scores.point_score is None or not weight:
        return {}
    own, is_outlier = scores.point_score, batch.point_label == OUTLIER_LABEL
    if scores.mixed_score is not None:
        own = torch.cat([own, scores.mixed_score])
        is_outlier = torch.cat([is_outlier, torch.ones_like(scores.mixed_score, dtype=torch.bool)])
    num_classes = 0 if scores.semantic is None else scores.semantic.shape[1]
    term = outlier(own, is_outlier, how=score, num_classes=num_classes, weight=weight)
    terms = {"outlier": term}
    if score in ("max_logit", "energy"):
        terms["known"] = known(scores.point_score, batch.point_label, weight=weight)
    return terms


def bce(
    score: Float32[Tensor, "N"],
    label: UInt8[Tensor, "N"],
    *,
    pos_weight: float,
    weight: float = 1.0,
) -> Term:
    """Binary cross-entropy of logits, positives times `pos_weight`; count = labelled items."""
    score, target, real = _labelled(score, label)
    total = F.binary_cross_entropy_with_logits(
        score, target, real, pos_weight=score.new_full((), pos_weight), reduction="sum"
    )
    return Term(total=total, count=real.sum(), weight=weight)


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
    score, target, real = _labelled(score, label)
    # p_t is the probability given to the truth: everything follows from one signed logit.
    signed = score * (2 * target - 1)
    share = (1 - alpha) * real + (2 * alpha - 1) * target
    # (1 - p_t)^gamma by its logarithm: as a power its gradient is NaN where 1 - p_t rounds to 0.
    modulation = torch.exp(-gamma * F.softplus(signed))
    total = (share * modulation * F.softplus(-signed)).sum()
    return Term(total=total, count=real.sum() * prior, weight=1.0)


def dice(score: Float32[Tensor, "N"], label: UInt8[Tensor, "N"], *, weight: float = 1.0) -> Term:
    """1 - 2 sum(p y) / (sum p + sum y) over all points of a step (arXiv 1606.04797, p unsquared).

    Written as total / count with total = sum p + sum y - 2 sum(p y) and count = sum p + sum y: both
    add up over ranks, and as both hang on the model, `reduction.local_share` differentiates both.
    """
    score, target, real = _labelled(score, label)
    p = torch.sigmoid(score) * real
    size = p.sum() + target.sum()
    return Term(total=size - 2 * (p * target).sum(), count=size, weight=weight)


def prior_self_supervised(score: Float32[Tensor, "B"]) -> Term:
    """mean(s) + 0.1 std(s) of s = sigmoid(score), the prior system's loss; it needs no label.

    std is unbiased as in that system, and 0 for a single frame. Negative control: 0 is reached by
    answering 0 to everything.
    """
    s = torch.sigmoid(score)
    spread = s.std() if len(s) > 1 else s.new_zeros(())
    return Term(total=s.sum() + 0.1 * len(s) * spread, count=s.new_full((), len(s)), weight=1.0)


def _labelled(
    score: Float32[Tensor, "N"], label: UInt8[Tensor, "N"]
) -> tuple[Float32[Tensor, "N"], Float32[Tensor, "N"], Float32[Tensor, "N"]]:
    """Scores, targets, and 1 where there is a label; all three are 0 where there is none.

    Items without a label stay in place: to know how many are left, a GPU must be waited for.
    """
    real = label <= ANOMALOUS_LABEL
    target = (label == ANOMALOUS_LABEL).to(score.dtype)
    return torch.where(real, score, 0.0), target, real.to(score.dtype)


def constant_predictor_loss(
    prevalence: float,
    *,
    config: LossConfig,
    pos_weight: float,
    class_counts: Sequence[float] = (),
) -> float:
    """Lowest value of the main term when every item gets the same constant answer.

    `prevalence` is the share of positives among labelled points, strictly between 0 and 1. For
    `cross_entropy` the constant is the classes' frequencies, from the points of each
    (`class_counts`), and its loss their entropy. For `dice` it is p = 1, for 1 - 2 p y / (p + y)
    falls with p.
    """
    if config.name == "prior_self_supervised":
        return 0.0
    if config.name == "cross_entropy":
        return entropy_of(class_counts)
    assert 0 < prevalence < 1, prevalence
    return POINT_LOSSES[config.name].constant(prevalence, config, pos_weight)


def _bce_of_constant(prevalence: float, config: LossConfig, pos_weight: float) -> float:
    positive, negative = prevalence * pos_weight, 1 - prevalence
    p = positive / (positive + negative)
    return -positive * math.log(p) - negative * math.log(1 - p)


def _focal_of_constant(prevalence: float, config: LossConfig, pos_weight: float) -> float:
    # One minimum over the logit, found on a grid so fine that its error is below 1e-6 of the value.
    logit = np.linspace(-30, 30, 60_001)
    positive = _sigmoid(-logit) ** config.focal_gamma * np.logaddexp(0, -logit)
    negative = _sigmoid(logit) ** config.focal_gamma * np.logaddexp(0, logit)
    odds = (1 - prevalence) / prevalence
    alpha = config.focal_alpha
    return float(np.min(alpha * positive + odds * (1 - alpha) * negative))


@dataclass(frozen=True, kw_only=True)
class PointLoss:
    """A loss of points or cells by their labels."""

    term: Callable[[Tensor, Tensor, LossConfig, float], Term]
    """Of scores, labels, the loss section and normal / anomalous items of the train split."""
    constant: Callable[[float, LossConfig, float], float]
    """What the best constant score reaches; the share of anomalous items comes first."""


POINT_LOSSES = {
    "focal": PointLoss(
        term=lambda score, label, config, pos_weight: focal(
            score,
            label,
            alpha=config.focal_alpha,
            gamma=config.focal_gamma,
            prior=1 / (1 + pos_weight),
        ),
        constant=_focal_of_constant,
    ),
    "bce": PointLoss(
        term=lambda score, label, config, pos_weight: bce(score, label, pos_weight=pos_weight),
        constant=_bce_of_constant,
    ),
    "dice": PointLoss(
        term=lambda score, label, config, pos_weight: dice(score, label),
        constant=lambda prevalence, config, pos_weight: (1 - prevalence) / (1 + prevalence),
    ),
}
"""By `loss.name`."""


def entropy_of(counts: Sequence[float]) -> float:
    """Entropy in nats of the frequencies of items counted per class; 0 without items."""
    some = np.array([count for count in counts if count > 0], dtype=np.float64)
    share = some / some.sum()
    return float(-(share * np.log(share)).sum())


def _sigmoid(x: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "N"]:
    return np.exp(-np.logaddexp(0, -x))
