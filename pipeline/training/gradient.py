"""The gradient of one step's loss: forward and backward, of all frames at once or in parts.

Every term of the loss is divided by its count over all ranks and frames of the step, so neither the
number of ranks nor that of parts changes the result.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.config.schema import Config
from pipeline.data.batch import Batch
from pipeline.losses.anomaly import loss_terms
from pipeline.losses.reduction import MIN_COUNT, Term, local_share, stacked
from pipeline.losses.semantic import class_counts
from pipeline.models.pixels import map_size
from pipeline.models.precision import Precision, autocast
from pipeline.models.scores import Scores
from pipeline.training.health_checks import score_moments
from pipeline.training.timing import StepClock
from pipeline.training.worker import Worker


@dataclass(frozen=True, kw_only=True)
class StepSums:
    """What a step adds up to over all ranks, on the device."""

    names: Sequence[str]
    """Of the loss terms."""
    weights: Sequence[float]
    sums: Float64[Tensor, "N"]
    """Terms' totals, their counts, `health_checks.score_moments` and, with a semantic head, the
    points of each class."""


class Gradient:
    """Computes gradients of `model` as `worker.wrap` gave it, and leaves them in its parameters."""

    def __init__(
        self,
        model: nn.Module,
        worker: Worker,
        config: Config,
        *,
        clock: StepClock,
        precision: Precision,
        scaler: torch.amp.GradScaler,
        pos_weight: float,
        pixel_pos_weight: float | None,
    ) -> None:
        self._model, self._worker, self._config = model, worker, config
        self._clock = clock
        self._precision: Precision = precision
        self._scaler = scaler
        self._pos_weight, self._pixel_pos_weight = pos_weight, pixel_pos_weight

    def __call__(self, batch: Batch) -> StepSums:
        """Of the step of which `batch` is this rank's part; every rank must call it."""
        size = self._config.train.frames_per_gpu
        return self._in_parts(batch.parts(size), batch) if size else self._at_once(batch)

    def _at_once(self, batch: Batch) -> StepSums:
        """One sum over ranks, between forward and backward."""
        scores, terms, current = self._forward(batch)
        names, own = stacked(terms)
        sums = self._sum(torch.cat([own.flatten(), _counted(scores, current)]))
        totals, counts = sums[: 2 * len(names)].view(2, -1)
        self._backward(terms, names, totals, counts)
        return self._step_sums(terms, names, sums)

    def _in_parts(self, parts: Sequence[Batch], batch: Batch) -> StepSums:
        """Counts come from the labels before the first part, and all sums after the last one.

        Ranks may have parts of different number: only the last one's backward talks to the others.
        """
        counts = self._sum(self._label_counts(batch))
        found: list[Tensor] = []
        for part in parts[:-1]:
            with self._alone():
                found.append(self._part(part, counts)[2])
        terms, names, last = self._part(parts[-1], counts)
        sums = self._sum(torch.stack([*found, last]).sum(0))
        return self._step_sums(terms, names, sums)

    def _part(
        self, batch: Batch, counts: Tensor
    ) -> tuple[dict[str, Term], list[str], Float64[Tensor, "N"]]:
        scores, terms, current = self._forward(batch)
        names, own = stacked(terms)
        # Totals matter where a count hangs on the model, which the config refuses for parts.
        self._backward(terms, names, torch.zeros_like(counts), counts)
        return terms, names, torch.cat([own.flatten(), _counted(scores, current)])

    def _alone(self) -> AbstractContextManager:
        """Gradients stay on this rank, to be added to."""
        if isinstance(self._model, DistributedDataParallel):
            return self._model.no_sync()
        return nullcontext()

    def _forward(self, batch: Batch) -> tuple[Scores, dict[str, Term], Batch]:
        with autocast(self._precision, self._worker.device):
            scores = self._model(batch)
        current = batch.without_past()
        terms = self._terms(scores, current)
        self._clock.lap("forward")
        return scores, terms, current

    def _sum(self, values: Float64[Tensor, "N"]) -> Float64[Tensor, "N"]:
        """Over all ranks."""
        total = self._worker.sum(values)
        self._clock.lap("all_reduce")
        return total

    def _terms(self, scores: Scores, batch: Batch) -> dict[str, Term]:
        return loss_terms(
            scores,
            batch,
            config=self._config.loss,
            pos_weight=self._pos_weight,
            pixel_pos_weight=self._pixel_pos_weight,
            score=self._config.model.score,
            with_outliers=self._config.outliers.any,
        )

    def _label_counts(self, batch: Batch) -> Float64[Tensor, "N"]:
        """Counts of the terms, which hang on labels alone: those of scores that are all 0."""
        current = batch.without_past()
        blank = blank_scores(current, self._config)
        return stacked(self._terms(blank, current))[1][1]

    def _backward(
        self, terms: dict[str, Term], names: Sequence[str], totals: Tensor, counts: Tensor
    ) -> None:
        """Of this rank's loss, scaled so that DDP's mean over ranks is the global loss."""
        counts = counts.clamp(min=MIN_COUNT)
        shares = [
            local_share(terms[n], total=totals[i], count=counts[i]) for i, n in enumerate(names)
        ]
        loss = torch.stack(shares).sum().float() * self._worker.num_workers
        self._scaler.scale(loss).backward()
        self._clock.lap("backward")

    def _step_sums(self, terms: dict[str, Term], names: Sequence[str], sums: Tensor) -> StepSums:
        return StepSums(names=names, weights=[terms[n].weight for n in names], sums=sums)


def blank_scores(batch: Batch, config: Config) -> Scores:
    """Scores of the shapes that the model would give, all 0."""
    num_points, num_frames = batch.points.shape[0], batch.num_frames
    new = batch.points.new_zeros
    num_classes = len(batch.known_classes.semantic_names) if config.model.semantic_head else 0
    rows, columns = map_size(batch.image.shape[2], batch.image.shape[3])
    return Scores(
        point_score=new(num_points),
        frame_score=new(num_frames),
        pixel_score=new(num_frames, rows, columns) if config.model.pixel_head else None,
        semantic=new(num_points, num_classes) if config.model.semantic_head else None,
    )


def _counted(scores: Scores, batch: Batch) -> Float64[Tensor, "N"]:
    """This rank's scores for the collapse guard, and its points of each class."""
    parts = [score_moments(scores)]
    if scores.semantic is not None:
        parts.append(class_counts(batch))
    return torch.cat(parts)
