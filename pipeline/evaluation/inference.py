"""The scores of a detector and of the baseline on every frame of a split, counted in one pass."""

import copy
import logging
import threading
from collections.abc import Sequence

import torch
from torch import nn

from pipeline.config.schema import EvaluationConfig, VoxelScore
from pipeline.data.batch import Batch
from pipeline.data.block_reader import BlockReader
from pipeline.data.manifest import Manifest
from pipeline.evaluation.boosted_tree import Baseline, baseline_scores
from pipeline.evaluation.threads import add_spans, one_core_each, spans_of
from pipeline.metrics.tally import SplitCounts
from pipeline.models.precision import Precision, autocast, choose_precision
from pipeline.models.scores import Scores
from pipeline.runtime.progress import Progress

logger = logging.getLogger(__name__)


class SplitScores:
    """Counts of the detector, of the baseline, or of both on the same frames; None where not run.

    State are the two tallies and the precision that the detector was computed in.
    """

    def __init__(
        self,
        reader: BlockReader,
        tally: SplitCounts,
        detector: "DetectorForward | None",
        plain: Baseline | None,
    ) -> None:
        self._index, self._detector, self._plain = reader.index, detector, plain
        self.precision = "" if detector is None else detector.precision
        self.detector = None if detector is None else copy.deepcopy(tally)
        self.baseline = None if plain is None else copy.deepcopy(tally)

    def add(self, batch: Batch) -> None:
        """Score and count a batch; a NaN score or a row seen before raises ValueError."""
        scores = None if self._detector is None else self._detector(batch)
        batch = batch.without_past()
        known = self.detector or self.baseline
        assert known is not None
        truths = known.truths(batch, self._index)
        if self.detector is not None and scores is not None:
            self.detector.update(scores, batch, self._index, truths)
        if self.baseline is not None and self._plain is not None:
            plain = baseline_scores(self._plain, batch, [truth.view for truth in truths])
            self.baseline.update(plain, batch, self._index, truths)

    def __add__(self, other: "SplitScores") -> "SplitScores":
        merged = copy.copy(self)
        for name in ("detector", "baseline"):
            ours, theirs = getattr(self, name), getattr(other, name)
            setattr(merged, name, None if ours is None else ours + theirs)
        return merged

    def __getstate__(self) -> dict:
        """What a worker sends back: the counts alone."""
        names = ("detector", "baseline", "precision")
        return {name: getattr(self, name) for name in names}


class DetectorForward:
    """A model that threads share; on a GPU one batch at a time, as its memory is for one."""

    def __init__(self, model: nn.Module, device: torch.device, precision: Precision) -> None:
        self._model, self._device = model.to(device).eval(), device
        self.precision: Precision = precision
        self._one = threading.Lock() if device.type == "cuda" else None

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Scores:
        """Scores of a batch, in evaluation mode."""
        if self._one is None:
            return self._scores(batch)
        with self._one:
            return self._scores(batch)

    def _scores(self, batch: Batch) -> Scores:
        with autocast(self.precision, self._device):
            return self._model(batch.to(self._device))


def make_scores(
    reader: BlockReader,
    num: int,
    *,
    config: EvaluationConfig,
    model: nn.Module | None = None,
    device: str = "cpu",
    plain: Baseline | None = None,
) -> list[SplitScores]:
    """Counts of nothing for `num` threads (`prediction.Make`, once the keywords are bound)."""
    detector = None if model is None else _detector(model, torch.device(device), config)
    tally = empty_tally(
        reader,
        lookalike_classes=lookalikes(config, reader.manifest),
        voxel_score=config.voxel_score,
    )
    return [SplitScores(reader, tally, detector, plain) for _ in range(num)]


def _detector(model: nn.Module, device: torch.device, config: EvaluationConfig) -> DetectorForward:
    precision = choose_precision(config.precision, key="evaluation.precision", device=device)
    logger.info("evaluation: %s", precision.reason)
    return DetectorForward(model, device, precision.name)


def score_split(
    model: nn.Module,
    reader: BlockReader,
    *,
    batch_size: int,
    lookalike_classes: Sequence[int],
    voxel_score: VoxelScore,
    device: torch.device,
    progress: Progress,
    precision: Precision = "fp32",
) -> SplitCounts:
    """Counts of `model` (evaluation mode) over the split; a NaN score raises ValueError.

    By this process, one batch after the other. Voxels and pixels are counted where the reader
    brings them (`extras`).
    """
    tally = empty_tally(reader, lookalike_classes=lookalike_classes, voxel_score=voxel_score)
    scores, frames = SplitScores(reader, tally, DetectorForward(model, device, precision), None), 0

    def done(num_frames: int) -> None:
        nonlocal frames
        frames += num_frames
        progress(frames, reader.num_rows)

    with one_core_each():
        add_spans([scores], reader, spans_of(reader.num_rows, batch_size=batch_size), done)
    assert scores.detector is not None
    return scores.detector


def lookalikes(config: EvaluationConfig, manifest: Manifest) -> list[int]:
    """`evaluation.lookalike_classes`, or those of the data set."""
    return config.lookalike_classes or manifest.dataset.classes.lookalike_ids


def empty_tally(
    reader: BlockReader, *, lookalike_classes: Sequence[int], voxel_score: VoxelScore
) -> SplitCounts:
    """Nothing counted yet of the reader's split."""
    manifest = reader.manifest
    return SplitCounts(
        split=reader.split,
        split_hash=manifest.split_hash,
        classes=manifest.dataset.classes,
        lookalike_classes=lookalike_classes,
        held_out=manifest.prepare["hold_out_categories"],
        voxel_score=voxel_score,
    )
