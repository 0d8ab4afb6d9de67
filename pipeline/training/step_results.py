"""Figures of a step, read by the host one step later: then checked, added up and logged.

A GPU works on while the host prepares the next step, as long as nothing that a step needs is asked
for. So its loss, gradient norm and signs of collapse are copied without waiting, and judged when
the step after it has been handed to the device.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from pipeline.config.schema import Config
from pipeline.losses.anomaly import main_term
from pipeline.losses.reduction import MIN_COUNT
from pipeline.training.checkpoints import CheckpointMeta
from pipeline.training.health_checks import CollapseGuard, CollapseSigns, check_finite
from pipeline.training.step_logging import StepLogger


class HostCopy:
    """A copy of some numbers that is under way; on a CPU it is there at once."""

    def __init__(self, values: Float64[Tensor, "N"]) -> None:
        self._host, self._done = values, None
        if values.device.type == "cuda":
            self._host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._host.copy_(values, non_blocking=True)
            self._done = torch.cuda.Event()
            self._done.record()

    def read(self) -> list[float]:
        """The numbers; waits until they have arrived."""
        if self._done is not None:
            self._done.synchronize()
        return self._host.numpy().tolist()


@dataclass(frozen=True, kw_only=True)
class StepFigures:
    """What is to be known of a step once it is done."""

    step: int
    epoch: int
    lr: float
    names: Sequence[str]
    """Of the loss terms."""
    weights: Sequence[float]
    copy: HostCopy
    """Terms' totals, their counts, `health_checks.score_moments` and points of each class, all over
    all ranks, then gradient norm and loss scale."""

    def read(self) -> "StepResult":
        """Waits until the step is done."""
        numbers, num = self.copy.read(), len(self.names)
        *rest, grad_norm, loss_scale = numbers[2 * num :]
        return StepResult(
            totals=dict(zip(self.names, numbers[:num], strict=True)),
            counts=dict(zip(self.names, numbers[num : 2 * num], strict=True)),
            weights=dict(zip(self.names, self.weights, strict=True)),
            moments=(rest[0], rest[1], rest[2]),
            class_counts=rest[3:],
            grad_norm=grad_norm,
            loss_scale=loss_scale,
        )


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Numbers of one step over all ranks."""

    totals: dict[str, float]
    counts: dict[str, float]
    """As they are, not at least `terms.MIN_COUNT`."""
    weights: dict[str, float]
    moments: tuple[float, float, float]
    class_counts: list[float]
    """Points of each class; empty for models without a semantic head."""
    grad_norm: float
    """Before clipping."""
    loss_scale: float
    """1 without a gradient scaler."""

    def means(self) -> dict[str, float]:
        """Each term's mean over its items."""
        return {n: self.totals[n] / max(MIN_COUNT, self.counts[n]) for n in self.totals}

    def metrics(self, lr: float) -> dict[str, float]:
        """The step's metrics; without a gradient norm where the scaled gradient overflowed."""
        means = self.means()
        metrics = {f"train/{name}_loss": mean for name, mean in means.items()}
        metrics["train/loss"] = sum(self.weights[name] * mean for name, mean in means.items())
        metrics["train/lr"] = lr
        if math.isfinite(self.grad_norm):
            metrics["train/grad_norm"] = self.grad_norm
        if self.loss_scale != 1:
            metrics["train/loss_scale"] = self.loss_scale
        return metrics


class StepResults:
    """Guards, the epoch's loss and the telling of steps, each one step behind the device.

    Nothing may be saved before `settle`: a step that is not judged must not reach a checkpoint.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._pending: StepFigures | None = None
        self.guard = CollapseGuard(config.health_checks)
        self.step_logger: StepLogger | None = None
        """Of rank 0."""
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Start the sums of an epoch."""
        self.epoch_loss = [0.0, 0.0]
        """Main term's total and count and, with a semantic head, points of each class, since the
        epoch began."""

    def restore(self, meta: CheckpointMeta) -> None:
        """Go on from a checkpoint."""
        self.epoch_loss = list(meta.epoch_loss)
        self.guard.largest_grad_norm = meta.largest_grad_norm

    def put(self, figures: StepFigures) -> None:
        """Settle the step before this one, which is under way by now."""
        self.settle()
        self._pending = figures

    def settle(self) -> None:
        """Judge and tell the newest step; RunFailed when it is `non_finite` or `collapsed`."""
        figures, self._pending = self._pending, None
        if figures is None:
            return
        result = figures.read()
        metrics = result.metrics(figures.lr)
        loss, grad_norm = metrics["train/loss"], result.grad_norm
        check_finite(figures.step, loss=loss, grad_norm=grad_norm, loss_scale=result.loss_scale)
        self._add(result)
        # A step that overflowed changed nothing, and its gradient has no size.
        if self._config.health_checks.enabled and math.isfinite(grad_norm):
            signs = CollapseSigns(moments=result.moments, loss=loss, grad_norm=grad_norm)
            self.guard.update(figures.step, signs)
        if self.step_logger:
            self.step_logger.step(figures.step + 1, metrics, epoch=figures.epoch)

    def _add(self, result: StepResult) -> None:
        name, sums = main_term(self._config.loss), self.epoch_loss
        if name in result.totals and name != "prior":
            sums[0] += result.totals[name]
            sums[1] += max(MIN_COUNT, result.counts[name])
        sums += [0.0] * (2 + len(result.class_counts) - len(sums))
        for number, count in enumerate(result.class_counts, 2):
            sums[number] += count
