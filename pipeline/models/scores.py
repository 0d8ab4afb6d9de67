"""What every model answers: raw logits, higher = more anomalous."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float32
from torch import Tensor

ScoreName = Literal["supervised", "max_logit", "energy", "entropy"]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Logits of a batch of B frames with P points in all, past clouds of a window left out."""

    point_score: Float32[Tensor, "P"] | None
    """None for models that score whole frames only."""
    frame_score: Float32[Tensor, "B"]
    pixel_score: Float32[Tensor, "B h w"] | None = None
    """At stride 8 (`models.pixels`); None for models without a pixel head."""
    semantic: Float32[Tensor, "P classes"] | None = None
    """Logits of the normal classes; None for models without a semantic head."""
    mixed_score: Float32[Tensor, "M"] | None = None
    """Scores of outliers made by feature mixing; None outside of training with them."""


def scores_of_nothing(parameters: Iterable[Tensor]) -> Float32[Tensor, "0"]:
    """Scores of zero items that still hang on every parameter.

    A DDP rank whose share of a step is empty gets zero gradients from them and so joins the
    collective instead of leaving the other ranks waiting.
    """
    anchor = torch.stack([p.sum() for p in parameters if p.requires_grad]).sum()
    return anchor.float().expand(1)[:0]


def anomaly_score(logits: Float32[Tensor, "N columns"], how: ScoreName) -> Float32[Tensor, "N"]:
    """Score of points from a head's logits: column 0 anomaly, then the normal classes.

    `supervised` is column 0. From the classes' logits z: `max_logit` is -max z (arXiv 1911.11132),
    `energy` is -logsumexp z (arXiv 2010.03759, T = 1) and `entropy` that of softmax z in nats,
    between 0 and log(classes).
    """
    if how == "supervised":
        return logits[:, 0]
    classes = logits[:, 1:]
    if how == "max_logit":
        return -classes.amax(dim=1)
    if how == "energy":
        return -classes.logsumexp(dim=1)
    log_share = classes.log_softmax(dim=1)
    return -(log_share.exp() * log_share).sum(dim=1)
