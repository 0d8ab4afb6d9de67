"""What is known of a batch's frames before any model scores them: prepared once, for every model.

A detector and the boosted tree beside it are counted on the same points, so their projections,
slices and metadata are found once per batch.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from pipeline.data.batch import Batch
from pipeline.datasets.protocol.classes import ClassTable
from pipeline.metrics.frame_view import FrameView, frame_views
from pipeline.metrics.slices import point_masks


@dataclass(frozen=True, kw_only=True)
class FrameTruth:
    """One frame with its metadata and the places of its points by slice."""

    view: FrameView
    meta: dict[Hashable, Any]
    """The frame's line of the split's index."""
    places: dict[str, tuple[Int64[np.ndarray, "_"], Int64[np.ndarray, "_"]]]
    """Normal and anomalous points of each slice that holds a point; those labelled 255 in none."""


def frame_truths(
    batch: Batch,
    index: pd.DataFrame,
    *,
    classes: ClassTable,
    is_near: Bool[np.ndarray, "256"],
    held_out: Sequence[str],
) -> list[FrameTruth]:
    """The frames of a batch, in order; `index` holds the split's metadata in global row order."""
    lines = index.iloc[batch.row.tolist()].to_dict("records")
    masks = partial(point_masks, classes=classes, is_near=is_near, held_out=held_out)
    return [
        FrameTruth(view=view, meta=meta, places=_places(view, masks(view, meta)))
        for view, meta in zip(frame_views(batch), lines, strict=True)
    ]


def _places(
    view: FrameView, masks: dict[str, Bool[np.ndarray, "P"]]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    normal = view.point_label == 0
    anomalous = np.flatnonzero(view.point_label == 1)
    return {
        name: (np.flatnonzero(mask & normal), anomalous[mask[anomalous]])
        for name, mask in masks.items()
    }
