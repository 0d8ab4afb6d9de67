"""From features to logits: every point is scored before anything is pooled."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.layers import full_precision
from pipeline.models.scores import ScoreName

NOTHING_SEEN = -64.0
"""The lowest score that metrics tell apart; scores from the semantic head have no prior."""


class PointHead(nn.Module):
    """Point logits from summed features: column 0 anomaly, then `num_classes` normal classes.

    The mean anomaly logit starts near that of the prior.

    Starting at log(prior / (1 - prior)) keeps the first steps from being spent on learning how
    rare anomalies are (arXiv 1708.02002, section 3.3).
    """

    def __init__(self, width: int, *, dropout: float, prior: float, num_classes: int = 0) -> None:
        super().__init__()
        narrow = (width + 1) // 2
        self.hidden = nn.Linear(width, narrow)
        self.last = nn.Linear(narrow, 1 + num_classes)
        self.dropout = dropout
        with torch.no_grad():
            self.last.bias[0] = prior_logit(prior)

    def forward(self, features: Float32[Tensor, "P C"]) -> Float32[Tensor, "P columns"]:
        with full_precision(features):
            hidden = F.relu(self.hidden(F.relu(features, inplace=True)), inplace=True)
            weight = F.dropout(self.last.weight, self.dropout, self.training)
            return F.linear(hidden, weight, self.last.bias)


def prior_logit(prior: float) -> float:
    """log(prior / (1 - prior)); ValueError unless 0 < prior < 1."""
    if not 0 < prior < 1:
        raise ValueError(
            f"the share of anomalous points in the train split is {prior}; it must lie between 0 "
            "and 1: give the train split scenes of both kinds"
        )
    return math.log(prior / (1 - prior))


def empty_frame_logit(how: ScoreName, *, prior: float) -> float:
    """Score of a frame without points: that of the prior, or below all others (normal)."""
    return prior_logit(prior) if how == "supervised" else NOTHING_SEEN


def frame_scores(
    point_score: Float32[Tensor, "P"],
    point_offset: Int64[Tensor, "B"],
    *,
    sizes: Sequence[int],
    top_k: int,
    of_empty_frame: float,
) -> Float32[Tensor, "B"]:
    """Mean of each frame's `top_k` highest point logits (of all, where it has fewer).

    `sizes` are the points of each frame, which `point_offset` says too.
    """
    counts = torch.diff(point_offset, prepend=point_offset.new_zeros(1))
    parts = point_score.split(list(sizes))
    # Padded, so that k is one number for all frames, those without points included.
    lowest = point_score.new_full((top_k,), -torch.inf)
    top = torch.stack([torch.cat([own, lowest]).topk(top_k).values for own in parts])
    num_taken = counts.clamp(max=top_k)
    is_taken = torch.arange(top_k, device=top.device) < num_taken[:, None]
    mean = torch.where(is_taken, top, 0.0).sum(1) / num_taken.clamp(min=1)
    return torch.where(counts > 0, mean, of_empty_frame)
