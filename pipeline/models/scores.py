"""What every model answers: raw logits, higher = more anomalous."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Logits of a batch of B frames with P points in all, past clouds of a window left out."""

    point_score: Float32[Tensor, "P"] | None
    """None for models that score whole frames only."""
    frame_score: Float32[Tensor, "B"]
    pixel_score: Float32[Tensor, "B h w"] | None = None
    """At stride 8 (`models.pixels`); None for models without a pixel head."""


def scores_of_nothing(parameters: Iterable[Tensor]) -> Float32[Tensor, "0"]:
    """Scores of zero items that still hang on every parameter.

    A DDP rank whose share of a step is empty gets zero gradients from them and so joins the
    collective instead of leaving the other ranks waiting.
    """
    anchor = torch.stack([p.sum() for p in parameters if p.requires_grad]).sum()
    return anchor.float().expand(1)[:0]
