"""Hand-crafted per-point features for the baseline.

They serve two ends: each alone shows whether anomalies can be told by position or size (a shortcut
of the data), and all together feed the boosted tree that a detector must beat.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int64, UInt8

from pipeline.data.batch import Batch
from pipeline.datasets.protocol.classes import is_one_of
from pipeline.metrics.frame_view import FrameView, frame_views

FEATURES = (
    "x_m",
    "abs_y_m",
    "z_m",
    "range_m",
    "intensity",
    "num_points_in_05m",
    "num_points_in_1m",
    "column_height_m",
    "image_row_px",
    "image_column_px",
    "red",
    "green",
    "blue",
    "brightness",
    "saturation",
    "frame_index",
)
"""Columns of a feature array; those of the image are nan for points out of view."""
SMALL_CELL_M = 0.5
"""Edge of the smaller cubes whose points are counted; that of the larger ones is twice as long."""
COLUMN_M = 0.5
"""Edge of the vertical columns whose height is a feature."""
CELL_BITS = 14
"""Of a cell's number along one axis."""
PLACE_BITS = 63 - 3 * CELL_BITS
"""What is left of an integer for a point's place in its cloud: two million points."""


@dataclass(frozen=True, kw_only=True)
class PointSample:
    """N points of a split: every anomalous and ordinary small one, a share of the others."""

    features: Float32[np.ndarray, "N F"]
    label: UInt8[np.ndarray, "N"]
    """0 or 1; points labelled 255 are left out."""
    is_near: Bool[np.ndarray, "N"]
    """The point is of an ordinary small object (`evaluation.lookalike_classes`)."""
    weight: Float32[np.ndarray, "N"]
    """Points of the split that this one stands for."""


def sample_points(
    batches: Iterable[Batch],
    index: pd.DataFrame,
    *,
    lookalike_classes: list[int],
    keep: float,
    seed: int,
) -> PointSample:
    """All anomalous and ordinary small points of `batches`, and the share `keep` of the others.

    Which of the others are kept depends on the seed and on the frame's row alone, so batches may
    come in any order and from any number of workers.
    """
    drawn = Sampler(index, lookalike_classes=lookalike_classes, keep=keep, seed=seed)
    for batch in batches:
        drawn.add(batch)
    return drawn.sample()


class Sampler:
    """State is what was drawn of each frame, by row; samplers of other frames can be added."""

    def __init__(
        self, index: pd.DataFrame, *, lookalike_classes: Sequence[int], keep: float, seed: int
    ) -> None:
        self._frame_index = index["frame_index"].to_numpy()
        self._is_near = is_one_of(lookalike_classes)
        self._keep, self._seed = keep, seed
        self._drawn: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def add(self, batch: Batch) -> None:
        """Draw from the frames of a batch; each frame once."""
        for view in frame_views(batch):
            assert view.row not in self._drawn, view.row
            self._drawn[view.row] = self._of_frame(view)

    def _of_frame(self, view: FrameView) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        near = self._is_near[view.point_class] & (view.point_label == 0)
        special = near | (view.point_label == 1)
        rng = np.random.default_rng((self._seed, view.row))
        kept = special | (rng.random(len(near), np.float32) < self._keep)
        chosen = np.flatnonzero(kept & (view.point_label != 255))
        features = feature_rows(view, int(self._frame_index[view.row]), chosen)
        return features, view.point_label[chosen], near[chosen]

    def __add__(self, other: "Sampler") -> "Sampler":
        merged = copy.copy(self)
        merged._drawn = self._drawn | other._drawn
        assert len(merged._drawn) == len(self._drawn) + len(other._drawn)
        return merged

    def sample(self) -> PointSample:
        """What was drawn, frame after frame in the order of rows."""
        parts = [self._drawn[row] for row in sorted(self._drawn)]
        features = np.concatenate([part[0] for part in parts], axis=1).T
        labels, nears = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
        weight = np.where((labels == 1) | nears, 1.0, 1.0 / self._keep).astype(np.float32)
        return PointSample(features=features, label=labels, is_near=nears, weight=weight)


def point_features(view: FrameView, frame_index: int) -> Float32[np.ndarray, "P F"]:
    """`FEATURES` of every point of a frame; counts and heights come from its own cloud."""
    return feature_rows(view, frame_index).T


def feature_rows(
    view: FrameView, frame_index: int, chosen: Int64[np.ndarray, "N"] | None = None
) -> Float32[np.ndarray, "F N"]:
    """`point_features` with a row per feature, of all points or of the chosen ones."""
    chosen = np.arange(len(view.points)) if chosen is None else chosen
    xyz = view.points[:, :3]
    counts_05, counts_1 = num_points_in_cells(xyz)
    height = column_height(xyz)
    x, y, z, intensity = np.ascontiguousarray(view.points[chosen].T)
    rows = [
        x,
        np.abs(y),
        z,
        np.sqrt(x**2 + y**2 + z**2),
        intensity,
        counts_05[chosen],
        counts_1[chosen],
        height[chosen],
        *_image_features(view, chosen),
        frame_index,
    ]
    features = np.empty((len(FEATURES), len(chosen)), np.float32)
    for place, row in enumerate(rows):
        features[place] = row
    return features


def num_points_in_cells(
    xyz: Float32[np.ndarray, "P 3"],
) -> tuple[Int64[np.ndarray, "P"], Int64[np.ndarray, "P"]]:
    """Points that share each point's cube of 0.5 m and of 1 m: neighbours without a search.

    One sort serves both, as the eight small cubes of a large one lie one after the other.
    """
    cells = _cells(xyz, SMALL_CELL_M)
    key = _joined(*(cells >> 1), bits=CELL_BITS - 1)
    half = _joined(*(cells & 1), bits=1)
    ordered, order = _sorted(key << 3 | half)
    return _group_sizes(ordered, order), _group_sizes(ordered >> 3, order)


def column_height(xyz: Float32[np.ndarray, "P 3"]) -> Float32[np.ndarray, "P"]:
    """Highest minus lowest z, in metres, of the vertical column each point lies in."""
    ordered, order = _sorted(_joined(*_cells(xyz[:, :2], COLUMN_M), bits=CELL_BITS))
    starts, sizes = _groups(ordered)
    height = np.empty(len(xyz), np.float32)
    if len(xyz):
        z = xyz[order, 2]
        each = np.maximum.reduceat(z, starts) - np.minimum.reduceat(z, starts)
        height[order] = np.repeat(each, sizes)
    return height


def _cells(xyz: Float32[np.ndarray, "P axes"], size_m: float) -> Int64[np.ndarray, "axes P"]:
    """Cells from 0 on; beyond 4 km to either side, far beyond any LiDAR, the outermost ones."""
    half = 2 ** (CELL_BITS - 1)
    cells = np.floor(np.ascontiguousarray(xyz.T) / np.float32(size_m))
    return np.clip(cells, -half, half - 1).astype(np.int64) + half


def _joined(*parts: Int64[np.ndarray, "P"], bits: int) -> Int64[np.ndarray, "P"]:
    """One integer of `bits` bits each."""
    key = parts[0]
    for part in parts[1:]:
        key = key << bits | part
    return key


def _sorted(key: Int64[np.ndarray, "P"]) -> tuple[Int64[np.ndarray, "P"], Int64[np.ndarray, "P"]]:
    """Ascending keys and where they came from.

    The place goes along in the lowest bits, as NumPy sorts integers several times as fast as it
    finds their order.
    """
    assert len(key) <= 2**PLACE_BITS, len(key)
    packed = np.sort(key << PLACE_BITS | np.arange(len(key)))
    return packed >> PLACE_BITS, packed & (2**PLACE_BITS - 1)


def _groups(
    ordered: Int64[np.ndarray, "P"],
) -> tuple[Int64[np.ndarray, "G"], Int64[np.ndarray, "G"]]:
    """First place and size of each run of equal keys."""
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    return starts, np.diff(starts, append=len(ordered))


def _group_sizes(
    ordered: Int64[np.ndarray, "P"], order: Int64[np.ndarray, "P"]
) -> Int64[np.ndarray, "P"]:
    _, sizes = _groups(ordered)
    counts = np.empty(len(ordered), np.int64)
    counts[order] = np.repeat(sizes, sizes)
    return counts


def _image_features(view: FrameView, chosen: Int64[np.ndarray, "N"]) -> Float32[np.ndarray, "7 N"]:
    """Row, column, red, green, blue, brightness (0-255), saturation (0-1) where in view."""
    features = np.full((7, len(chosen)), np.nan, np.float32)
    seen = np.flatnonzero(view.in_view[chosen])
    pixel = np.ascontiguousarray(view.pixel[chosen[seen]].T)
    column, row = pixel.astype(np.int64)
    # The image's colours lie together in memory, so a pixel is read at once.
    read = view.image.transpose(1, 2, 0)[row, column]
    colour = np.ascontiguousarray(read.T).astype(np.float32)
    brightest, darkest = colour.max(axis=0), colour.min(axis=0)
    rows = [
        *pixel[::-1],
        *colour,
        colour.mean(axis=0),
        (brightest - darkest) / np.maximum(brightest, 1),
    ]
    for place, values in enumerate(rows):
        features[place, seen] = values
    return features
