"""A model's scores on every frame of a split, counted once."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from pipeline.data.batches import Batch, BlockReader
from pipeline.evaluation.levels import Tally


def batches_of(reader: BlockReader, *, batch_size: int) -> Iterator[Batch]:
    """Every row of the split once, in order, never augmented."""
    for start in range(0, reader.num_rows, batch_size):
        rows = range(start, min(start + batch_size, reader.num_rows))
        yield reader.batch(list(rows), augment_seed=None)


@torch.inference_mode()
def score_split(
    model: nn.Module,
    reader: BlockReader,
    *,
    batch_size: int,
    near_classes: Sequence[int],
    device: torch.device,
    progress: Callable[[int, int], None],
) -> Tally:
    """Tally of `model` (fp32, evaluation mode) over the reader's split.

    `progress` is called with frames done and frames in all. A NaN score raises ValueError.
    """
    model = model.to(device).eval()
    tally = Tally(
        split=reader.split, split_hash=reader.manifest.split_hash, near_classes=near_classes
    )
    done = 0
    for batch in batches_of(reader, batch_size=batch_size):
        tally.update(model(batch.to(device)), batch, reader.index)
        done += batch.num_frames
        progress(done, reader.num_rows)
    return tally
