"""Point scores carried into the voxel grid of the data set, where AnoVox's benchmark compares.

A voxel counts when it holds a scored point. The benchmark rebuilds its grid from the modality at
hand; here the grid is the one that AnoVox ships, in its own axes (docs/anovox-format.md,
"Voxel grid"), and points are assigned by their exact places, as its labels were.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Int64, UInt8

from pipeline.config.schema import VoxelScore
from pipeline.data.batch import Batch, Voxels

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
    count = np.bincount(row[held], minlength=len(voxels.cells))
    if how == "centre_point":
        pooled = _nearest(point_score[held], row[held], count, _corner_distance(batch)[held])
    else:
        pooled = _POOLING[how](point_score[held], row[held], count)
    cells = np.flatnonzero(count)
    return PooledVoxels(
        score=pooled[cells].astype(np.float32),
        label=voxel_labels(batch)[cells],
        frame=np.searchsorted(voxels.offset.numpy(), cells, side="right"),
    )


def voxel_labels(batch: Batch) -> UInt8[np.ndarray, "V"]:
    """Labels of all cells, by class; where a point's label is not that of its class, by the point.

    The latter is the vehicle ahead in dynamic scenes, which is labelled by its motion
    (`anovox.labels`): cells of its class that hold one of its points are labelled alike.
    """
    voxels, label_of = _of(batch), batch.known_classes.label_of
    cell_class = voxels.cells[:, 3].numpy().astype(np.uint8)
    label = label_of(cell_class)
    row, point_class = voxels.of_point.numpy(), batch.point_class.numpy()
    point_label = batch.point_label.numpy()
    moved = np.flatnonzero((row >= 0) & (point_label != label_of(point_class)))
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
    # Frame by frame: a pose per point would be larger than the cloud.
    clouds = batch.points[:, :3].double().split(batch.counts().tolist())
    poses, grid = voxels.voxel_from_lidar.double(), voxels.grid
    moved = [
        cloud @ pose[:3, :3].T + pose[:3, 3] for cloud, pose in zip(clouds, poses, strict=True)
    ]
    place = torch.cat(moved).numpy()
    corner = voxels.cells.numpy()[voxels.of_point.numpy(), :3] * grid.size_m - grid.offset_m
    return np.linalg.norm(place - corner, axis=1)


def _nearest(
    score: np.ndarray, row: np.ndarray, count: np.ndarray, distance: np.ndarray
) -> np.ndarray:
    """Score of each cell's point at the smallest distance; of equals the first."""
    least = np.full(len(count), np.inf)
    np.minimum.at(least, row, distance)
    # What is written last stays, so points are taken from the last to the first.
    nearest = np.flatnonzero(distance == least[row])[::-1]
    pooled = np.zeros(len(count), np.float32)
    pooled[row[nearest]] = score[nearest]
    return pooled


def _max(score: np.ndarray, row: np.ndarray, count: np.ndarray) -> np.ndarray:
    pooled = np.full(len(count), -np.inf, np.float32)
    np.maximum.at(pooled, row, score)
    return pooled


def _mean(score: np.ndarray, row: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.bincount(row, weights=score, minlength=len(count)) / np.maximum(count, 1)


def _median(score: np.ndarray, row: np.ndarray, count: np.ndarray) -> np.ndarray:
    pooled, cells = np.zeros(len(count)), np.flatnonzero(count)
    ordered = score[np.lexsort((score, row))]
    start, own = (count.cumsum() - count)[cells], count[cells]
    pooled[cells] = (ordered[start + (own - 1) // 2] + ordered[start + own // 2]) / 2
    return pooled


_POOLING: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "max": _max,
    "mean": _mean,
    "median": _median,
}
"""From score and cell of each point, and the number of points of each cell, to scores of cells;
those of empty cells have no meaning."""
