"""Pixel scores at every pixel of the stored image, against the labels of its pixels."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from jaxtyping import Float32
from torch import Tensor

from pipeline.data.batch import Batch
from pipeline.models.pixels import upsampled

PIXEL_SLICES = ("pixel", "pixel_static")


def pixel_items(
    pixel_score: Float32[Tensor, "B h w"], batch: Batch, index: pd.DataFrame
) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Slice, row of `index`, scores and labels, for every frame of a batch with pixel labels."""
    assert batch.pixel_label is not None
    size = (batch.image.shape[2], batch.image.shape[3])
    score = upsampled(pixel_score.float().cpu(), size=size).flatten(1).numpy()
    label = batch.pixel_label.cpu().flatten(1).numpy()
    for frame, row in enumerate(batch.row.tolist()):
        yield "pixel", row, score[frame], label[frame]
        if index["kind"].iloc[row] == "static":
            yield "pixel_static", row, score[frame], label[frame]
