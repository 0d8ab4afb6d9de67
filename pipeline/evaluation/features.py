"""Plain features of a LiDAR point: what a program knows without having learned to see.

They serve two ends: each alone shows whether anomalies can be told by position or size (a shortcut
of the data), and all together feed the boosted tree that a detector must beat.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int64, UInt8

from pipeline.data.batches import Batch
from pipeline.evaluation.views import FrameView, frame_views

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
COLUMN_M = 0.5
"""Edge of the vertical columns whose height is a feature."""


@dataclass(frozen=True, kw_only=True)
class PointSample:
    """N points of a split: every anomalous and ordinary small one, a share of the others."""

    features: Float32[np.ndarray, "N F"]
    label: UInt8[np.ndarray, "N"]
    """0 or 1; points labelled 255 are left out."""
    is_near: Bool[np.ndarray, "N"]
    """The point is of an ordinary small object (`evaluation.near_classes`)."""
    weight: Float32[np.ndarray, "N"]
    """Points of the split that this one stands for."""


def sample_points(
    batches: Iterable[Batch],
    index: pd.DataFrame,
    *,
    near_classes: list[int],
    keep: float,
    seed: int,
) -> PointSample:
    """All anomalous and ordinary small points of `batches`, and the share `keep` of the others."""
    rng = np.random.default_rng(seed)
    is_near = np.isin(np.arange(256), near_classes)
    frame_index = index["frame_index"].to_numpy()
    parts = [
        _sample_frame(view, int(frame_index[view.row]), is_near=is_near, keep=keep, rng=rng)
        for batch in batches
        for view in frame_views(batch)
    ]
    features, labels, nears = (np.concatenate([part[i] for part in parts]) for i in range(3))
    weight = np.where((labels == 1) | nears, 1.0, 1.0 / keep).astype(np.float32)
    return PointSample(features=features, label=labels, is_near=nears, weight=weight)


def _sample_frame(
    view: FrameView,
    frame_index: int,
    *,
    is_near: Bool[np.ndarray, "256"],
    keep: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    near = is_near[view.point_class] & (view.point_label == 0)
    special = near | (view.point_label == 1)
    chosen = (special | (rng.random(len(near)) < keep)) & (view.point_label != 255)
    features = point_features(view, frame_index)
    return features[chosen], view.point_label[chosen], near[chosen]


def point_features(view: FrameView, frame_index: int) -> Float32[np.ndarray, "P F"]:
    """`FEATURES` of every point of a frame; counts and heights come from its own cloud."""
    xyz, intensity = view.points[:, :3], view.points[:, 3]
    columns = [
        xyz[:, 0],
        np.abs(xyz[:, 1]),
        xyz[:, 2],
        np.sqrt((xyz**2).sum(axis=1)),
        intensity,
        num_points_in_cell(xyz, size_m=0.5),
        num_points_in_cell(xyz, size_m=1.0),
        column_height(xyz),
        *_image_features(view),
        frame_index,
    ]
    features = np.empty((len(FEATURES), len(xyz)), np.float32)
    for place, column in enumerate(columns):
        features[place] = column
    return features.T


def num_points_in_cell(xyz: Float32[np.ndarray, "P 3"], *, size_m: float) -> Int64[np.ndarray, "P"]:
    """Points that share each point's cube of edge `size_m`: neighbours without a search."""
    group, starts, order = _groups(_cell_keys(xyz, size_m))
    counts = np.empty(len(xyz), np.int64)
    counts[order] = np.diff(np.append(starts, len(xyz)))[group]
    return counts


def column_height(xyz: Float32[np.ndarray, "P 3"]) -> Float32[np.ndarray, "P"]:
    """Highest minus lowest z, in metres, of the vertical column each point lies in."""
    group, starts, order = _groups(_cell_keys(xyz[:, :2], COLUMN_M))
    height = np.empty(len(xyz), np.float32)
    if len(xyz):
        z = xyz[order, 2]
        height[order] = (np.maximum.reduceat(z, starts) - np.minimum.reduceat(z, starts))[group]
    return height


def _cell_keys(coordinates: Float32[np.ndarray, "P axes"], size_m: float) -> Int64[np.ndarray, "P"]:
    """One integer per cell; cells reach 2^19 edges to each side, far beyond any LiDAR."""
    cells = np.floor(coordinates / size_m).astype(np.int64) + 2**19
    keys = cells[:, 0]
    for axis in range(1, cells.shape[1]):
        keys = (keys << 20) | cells[:, axis]
    return keys


def _groups(keys: Int64[np.ndarray, "P"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group of each sorted key, where each group starts, and the order that sorts the keys."""
    order = np.argsort(keys)
    is_start = np.diff(keys[order], prepend=-1) != 0
    return np.cumsum(is_start) - 1, np.flatnonzero(is_start), order


def _image_features(view: FrameView) -> Float32[np.ndarray, "7 P"]:
    """Row, column, red, green, blue, brightness (0-255), saturation (0-1) where in view."""
    features = np.full((7, len(view.points)), np.nan, np.float32)
    pixel = view.pixel[view.in_view].T
    column, row = pixel.astype(np.int64)
    colour = view.image[:, row, column].astype(np.float32)
    brightest, darkest = colour.max(axis=0), colour.min(axis=0)
    features[:, view.in_view] = np.stack(
        [
            *pixel[::-1],
            *colour,
            colour.mean(axis=0),
            (brightest - darkest) / np.maximum(brightest, 1),
        ]
    )
    return features
