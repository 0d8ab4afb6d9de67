"""Point scores carried into AnoVox's own voxel grid, the ground on which its benchmark compares.

A voxel counts when it holds a scored point. The benchmark rebuilds its grid from the modality at
hand; here the grid is the one that AnoVox ships, in its own axes (anovox-format.md sections 3.7 and
7), and points are assigned by their exact places, as its labels were.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Int64, UInt8

from pipeline.anovox.geometry import GRID_OFFSET_M, VOXEL_SIZE_M
from pipeline.anovox.labels import label_of_class
from pipeline.config import VoxelScore
from pipeline.data.batches import Batch, Voxels

SIZES = ("tiny", "small", "medium", "big", "huge")
"""What AnoVox calls the sizes of its objects."""
VOXEL_SLICES = ("voxel", "voxel_anomalies_only", *(f"voxel_{size}" for size in SIZES))
"""The benchmark's groups: all frames (its Normality_Included), those in which points and voxels
show an anomaly (its Anomalies_Only), and those by the object's size."""


@dataclass(frozen=True, kw_only=True)
class PooledVoxels:
    """The N cells of a batch that hold a scored point, frame by frame."""

    score: Float32[np.ndarray, "N"]
    label: UInt8[np.ndarray, "N"]
    """0 normal, 1 anomalous, 255 ignore."""
    frame: Int64[np.ndarray, "N"]
    """0 to B - 1."""


def pooled_voxels(
    point_score: Float32[np.ndarray, "P"], batch: Batch, *, how: VoxelScore
) -> PooledVoxels:
    """Scores of cells from those of their points, for a batch on the CPU that has voxels.

    `how` is `max`, `mean`, `median` or `centre_point`: the point nearest to the cell's lower
    corner, which is what the benchmark calls its centre point.
    """
    voxels = _of(batch)
    row = voxels.of_point.numpy()
    held = np.flatnonzero(row >= 0)
    by = _corner_distance(batch)[held] if how == "centre_point" else point_score[held]
    # Points cell by cell, in ascending order inside a cell.
    order = held[np.lexsort((by, row[held]))]
    cells, start, count = np.unique(row[order], return_index=True, return_counts=True)
    ends = voxels.offset.numpy()
    return PooledVoxels(
        score=_POOLING[how](point_score[order], start, count).astype(np.float32),
        label=voxel_labels(batch)[cells],
        frame=np.searchsorted(ends, cells, side="right"),
    )


def voxel_labels(batch: Batch) -> UInt8[np.ndarray, "V"]:
    """Labels of all cells, by class; where a point's label is not that of its class, by the point.

    The latter is the vehicle ahead in dynamic scenes, which is labelled by its motion
    (`anovox.truth`): cells of its class that hold one of its points are labelled alike.
    """
    voxels = _of(batch)
    cell_class = voxels.cells[:, 3].numpy().astype(np.uint8)
    label = label_of_class(cell_class)
    row, point_class = voxels.of_point.numpy(), batch.point_class.numpy()
    point_label = batch.point_label.numpy()
    moved = np.flatnonzero((row >= 0) & (point_label != label_of_class(point_class)))
    moved = moved[cell_class[row[moved]] == point_class[moved]]
    label[row[moved]] = point_label[moved]
    return label


def voxel_items(
    point_score: Float32[np.ndarray, "P"], batch: Batch, index: pd.DataFrame, *, how: VoxelScore
) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Slice, row of `index`, scores and labels, for every frame that holds a cell."""
    pooled = pooled_voxels(point_score, batch, how=how)
    seen = np.zeros(batch.num_frames, bool)
    seen[batch.point_frame().numpy()[batch.point_label.numpy() == 1]] = True
    ends = np.searchsorted(pooled.frame, np.arange(batch.num_frames), side="right")
    for frame, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        score, label = pooled.score[start:end], pooled.label[start:end]
        if len(score) == 0:
            continue
        row = int(batch.row[frame])
        is_shown = bool(seen[frame] and (label == 1).any())
        for name in _slices(index["anomaly_size"].iloc[row], is_shown=is_shown):
            yield name, row, score, label


def _slices(size: str, *, is_shown: bool) -> list[str]:
    if not is_shown:
        return ["voxel"]
    return ["voxel", "voxel_anomalies_only", *([f"voxel_{size}"] if size in SIZES else [])]


def _of(batch: Batch) -> Voxels:
    assert batch.voxels is not None
    return batch.voxels


def _corner_distance(batch: Batch) -> Float[np.ndarray, "P"]:
    """Metres from each point to the lower corner of its cell; of no meaning without a cell."""
    voxels = _of(batch)
    if len(voxels.cells) == 0:
        return np.zeros(len(batch.points))
    pose = voxels.voxel_from_lidar.numpy().astype(np.float64)[batch.point_frame().numpy()]
    points = batch.points.numpy()[:, :3].astype(np.float64)
    place = np.einsum("pij,pj->pi", pose[:, :3, :3], points) + pose[:, :3, 3]
    corner = voxels.cells.numpy()[voxels.of_point.numpy(), :3] * VOXEL_SIZE_M - GRID_OFFSET_M
    return np.linalg.norm(place - corner, axis=1)


def _max(score: np.ndarray, start: np.ndarray, count: np.ndarray) -> np.ndarray:
    return score[start + count - 1]


def _first(score: np.ndarray, start: np.ndarray, count: np.ndarray) -> np.ndarray:
    return score[start]


def _mean(score: np.ndarray, start: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.add.reduceat(score.astype(np.float64), start) / count if len(start) else score


def _median(score: np.ndarray, start: np.ndarray, count: np.ndarray) -> np.ndarray:
    return (score[start + (count - 1) // 2] + score[start + count // 2]) / 2


_POOLING: dict[str, Callable[[Any, Any, Any], np.ndarray]] = {
    "max": _max,
    "centre_point": _first,
    "mean": _mean,
    "median": _median,
}
"""Each takes the ordered scores, and where each cell's begin and how many they are."""
