"""Training health checks: collapse, no signal, single class, non-finite values.

Collapse is judged by what the model does, never by the name of its loss: for some consecutive
steps the scores do not differ, the gradient is gone and the loss does not move with the batch. A
model that learns violates at least one of the three at every step, because batches differ.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from pipeline.config.schema import HealthCheckConfig
from pipeline.models.scores import Scores
from pipeline.runtime.errors import RunFailed

LOGIT_LIMIT = 12.0
"""Beyond it a sigmoid is 0 or 1 to five digits: scores are compared as logits clamped to it."""
FLAT_SPREAD = 1e-3
"""Clamped logits with a smaller standard deviation are the same."""
LOST_GRADIENT = 1e-4
"""A gradient norm below this share of the run's largest, or below this squared, is gone."""
STILL_LOSS = 1e-4
"""A loss that moves less than this share of itself (at least: of 1) stands still."""


@dataclass(frozen=True, kw_only=True)
class CollapseSigns:
    """What one step tells, over all ranks."""

    moments: tuple[float, float, float]
    """`score_moments` of the step."""
    loss: float
    """The step's loss over all ranks."""
    grad_norm: float
    """Norm of the gradient over all ranks, before clipping."""


def score_moments(scores: Scores) -> Float64[Tensor, "3"]:
    """Number of scores, their sum and their sum of squares, as clamped logits: ranks' add up.

    Of point scores where the model gives them, else of frame scores.
    """
    score = scores.frame_score if scores.point_score is None else scores.point_score
    logit = score.detach().double().clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
    return torch.stack([logit.new_full((), len(logit)), logit.sum(), logit.square().sum()])


class CollapseGuard:
    """Stops a run with all signs of collapse in `health_checks.collapse_steps` steps in a row."""

    def __init__(self, config: HealthCheckConfig) -> None:
        self.recent: deque[CollapseSigns] = deque(maxlen=config.collapse_steps)
        self.largest_grad_norm = 0.0

    def update(self, step: int, signs: CollapseSigns) -> None:
        """Take one step's signs; raises RunFailed (`collapsed`) with one sentence."""
        self.recent.append(signs)
        self.largest_grad_norm = max(self.largest_grad_norm, signs.grad_norm)
        if len(self.recent) < (self.recent.maxlen or 0):
            return
        mean, spread = _mean_and_spread(self.recent)
        grad_norm = max(one.grad_norm for one in self.recent)
        losses = [one.loss for one in self.recent]
        flat = spread < FLAT_SPREAD
        lost = grad_norm <= max(LOST_GRADIENT * self.largest_grad_norm, LOST_GRADIENT**2)
        still = max(losses) - min(losses) < STILL_LOSS * max(1.0, abs(losses[-1]))
        if flat and lost and still:
            raise RunFailed(
                f"collapsed at step {step}: for {len(losses)} steps every score is {mean:.3g} "
                f"(logit; spread {spread:.1g}), the gradient norm is {grad_norm:.1g} (at most "
                f"{self.largest_grad_norm:.3g} before) and the loss stands at {losses[-1]:.3g}, so "
                "the model answers every input alike; change loss.name or lower train.lr",
                reason="collapsed",
            )


def _mean_and_spread(recent: Iterable[CollapseSigns]) -> tuple[float, float]:
    """Mean and standard deviation of all scores of several steps; of no score: nan and inf."""
    count, total, squares = (
        sum(column) for column in zip(*(r.moments for r in recent), strict=True)
    )
    if not count:
        return math.nan, math.inf
    mean = total / count
    return mean, math.sqrt(max(0.0, squares / count - mean**2))


def check_finite(step: int, *, loss: float, grad_norm: float, loss_scale: float = 1.0) -> None:
    """RunFailed (`non_finite`) when the loss or the gradient norm is nan or infinite.

    A gradient scaler tries how far it can go: above a `loss_scale` of 1 a gradient that is not
    finite means that the scale was too high. The scaler leaves such a step out and halves it.
    """
    values = [("loss", loss), ("gradient norm", grad_norm)]
    for name, value in values[: 1 if loss_scale > 1 else 2]:
        if not math.isfinite(value):
            raise RunFailed(
                f"the {name} is {value} at step {step}; lower train.lr, set train.grad_clip, or "
                "use train.precision=fp32",
                reason="non_finite",
            )


def check_signal(loss: float, *, constant: float, margin: float) -> None:
    """RunFailed (`no_signal`) unless `loss` is a share `margin` below the best constant's loss."""
    limit = constant * (1 - margin)
    if not loss < limit:
        raise RunFailed(
            f"no signal: the last epoch's loss {loss:.4g} is not {margin:.0%} below {constant:.4g},"
            " the loss of the best constant score; train longer, or check labels and train.lr",
            reason="no_signal",
        )


def check_two_classes(split: str, *, num_positive: int, num_negative: int) -> None:
    """RunFailed (`one_class`) when a split has no positive or no negative item."""
    if num_positive and num_negative:
        return
    missing = "normal" if num_positive else "anomalous"
    raise RunFailed(
        f"split {split} has no {missing} item among {num_positive + num_negative} labelled ones; "
        "give it scenes of both kinds (prepare.split_seed, prepare.val_fraction, "
        "prepare.test_fraction)",
        reason="one_class",
    )
