"""A model's scores on every frame of a split, counted once."""

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from pipeline.config import VoxelScore
from pipeline.data.batches import Batch
from pipeline.data.block_reader import BlockReader
from pipeline.evaluation.levels import Tally
from pipeline.models.precision import Precision, autocast
from pipeline.progress import Progress


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
    voxel_score: VoxelScore,
    device: torch.device,
    progress: Progress,
    precision: Precision = "fp32",
) -> Tally:
    """Tally of `model` (evaluation mode) over the split; a NaN score raises ValueError.

    Voxels and pixels are counted where the reader brings them (`extras`).
    """
    model = model.to(device).eval()
    tally = empty_tally(reader, near_classes=near_classes, voxel_score=voxel_score)
    for batch in batches_of(reader, batch_size=batch_size, progress=progress):
        with autocast(precision, device):
            scores = model(batch.to(device))
        tally.update(scores, batch.without_past(), reader.index)
    return tally


def empty_tally(
    reader: BlockReader, *, near_classes: Sequence[int], voxel_score: VoxelScore
) -> Tally:
    """Nothing counted yet of the reader's split."""
    manifest = reader.manifest
    return Tally(
        split=reader.split,
        split_hash=manifest.split_hash,
        near_classes=near_classes,
        held_out=manifest.prepare["hold_out_categories"],
        voxel_score=voxel_score,
    )
