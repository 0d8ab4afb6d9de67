"""Summands of the loss as a sum over items and a count, so that ranks add up to one.

Every rank holds a part of a step. The step's term is the total over all ranks divided by the count
over all ranks, and `local_share` is what a rank must minimise so that DDP's mean of the gradients
is the gradient of exactly that.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor

MIN_COUNT = 1.0
"""A smaller count divides as this one: a step without items has the loss 0, not 0 / 0."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One summand of the loss: weight * (sum of totals over ranks) / max(1, sum of counts)."""

    total: Float32[Tensor, ""]
    """Sum over this rank's items; attached to the model even when there are none."""
    count: Float32[Tensor, ""]
    """What the sum is divided by: labelled items, for `focal` the positives expected among them;
    for `dice` the size of both sets, attached to the model too."""
    weight: float


def local_share(
    term: Term, *, total: Float[Tensor, ""], count: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """What this rank adds to the gradient of total / count, both of them sums over all ranks.

    Where the count hangs on the model, d(T/C) = dT/C - T dC/C^2, with T and C as constants.
    """
    share = term.total / count.clamp(min=MIN_COUNT)
    if term.count.requires_grad:
        # Chosen on the device: the host would have to wait for the count.
        slope = torch.where(count > MIN_COUNT, total / count**2, 0.0)
        share = share - slope * term.count
    return term.weight * share


def stacked(terms: dict[str, Term]) -> tuple[list[str], Float[Tensor, "2 N"]]:
    """Names in order, and this rank's totals (row 0) and counts (row 1) in float64, detached."""
    names = sorted(terms)
    totals = [terms[name].total.detach() for name in names]
    counts = [terms[name].count.detach() for name in names]
    return names, torch.stack([*totals, *counts]).view(2, -1).double()
