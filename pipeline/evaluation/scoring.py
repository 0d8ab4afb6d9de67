"""A model's scores on every frame of a split, counted once."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from pipeline.data.batches import Batch, BlockReader
from pipeline.evaluation.levels import Tally
from pipeline.models.scores import Scores

Progress = Callable[[int, int], None]
"""Takes frames done and frames in all."""
Watch = Callable[[str], Progress]
"""A progress for a phase, by the phase's name."""


def batches_of(reader: BlockReader, *, batch_size: int, progress: Progress) -> Iterator[Batch]:
    """Every row of the split once, in order, never augmented; progress after each batch's use."""
    for start in range(0, reader.num_rows, batch_size):
        rows = range(start, min(start + batch_size, reader.num_rows))
        yield reader.batch(list(rows), augment_seed=None)
        progress(rows.stop, reader.num_rows)


@torch.inference_mode()
def score_split(
    model: nn.Module,
    reader: BlockReader,
    *,
    batch_size: int,
    near_classes: Sequence[int],
    device: torch.device,
    progress: Progress,
) -> Tally:
    """Tally of `model` (fp32, evaluation mode) over the split; a NaN score raises ValueError."""
    model = model.to(device).eval()
    tally = Tally(
        split=reader.split, split_hash=reader.manifest.split_hash, near_classes=near_classes
    )
    for batch in batches_of(reader, batch_size=batch_size, progress=progress):
        tally.update(*of_current_clouds(model(batch.to(device)), batch), reader.index)
    return tally


def of_current_clouds(scores: Scores, batch: Batch) -> tuple[Scores, Batch]:
    """Scores and batch (on the CPU) without the past clouds of a window, which nobody judges."""
    points, semantic = scores.point_score, scores.semantic
    if points is not None:
        points, _ = batch.of_current(points.cpu())
    if semantic is not None:
        semantic, _ = batch.of_current(semantic.cpu())
    scores = dataclasses.replace(scores, point_score=points, semantic=semantic)
    return scores, batch.without_past()
