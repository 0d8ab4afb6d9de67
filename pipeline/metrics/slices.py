"""Slices of the scores: which points and frames count in each.

A slice name is the metric's prefix: `point` becomes `test/point_ap`. Slices answer what a pooled
number hides: whether the camera sees the point at all (`_in_view`), whether the score tells an
anomaly from an ordinary small object (`small_object`), whether it knows more than which archive a
frame is from (`_static`, `_dynamic`: frames of those archives only), and whether it finds what it
was never trained on (`_held_out`: anomalies of the categories that the split holds out, against
what is normal in static archives).
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from pipeline.datasets.protocol.classes import ClassTable, is_one_of
from pipeline.metrics.frame_view import FrameView
from pipeline.metrics.pixels import PIXEL_SLICES
from pipeline.metrics.voxels import VOXEL_SLICES

DISTANCES_M = {
    "point_0_10m": (0.0, 10.0),
    "point_10_20m": (10.0, 20.0),
    "point_20_40m": (20.0, 40.0),
    "point_40m": (40.0, math.inf),
}
"""Slices by range from the LiDAR: from, up to."""
_POINT_SLICES = (
    "point",
    "point_in_view",
    "point_static",
    "small_object",
    "small_object_in_view",
    "point_held_out",
    "point_held_out_in_view",
    *DISTANCES_M,
)
FRAME_SLICES = (
    "frame",
    "frame_static",
    "frame_static_20in_view",
    "frame_dynamic",
    "frame_held_out",
)
_MIN_POINTS_IN_VIEW = 20
"""Anomalous points in view that `frame_static_20in_view` asks of an anomalous frame."""


def category_slices(classes: ClassTable) -> dict[str, tuple[int, ...]]:
    """Class ids of the slices by category.

    They hold a category's points against the normal points of frames in static archives.
    """
    return {f"point_{name}": ids for name, ids in classes.categories.items()}


def slice_names(classes: ClassTable) -> tuple[str, ...]:
    """Every slice there may be, in the order of tables."""
    points = (*_POINT_SLICES, *category_slices(classes))
    return (*points, *VOXEL_SLICES, *PIXEL_SLICES, *FRAME_SLICES)


def point_masks(
    view: FrameView,
    meta: Mapping[Hashable, Any],
    *,
    classes: ClassTable,
    is_near: Bool[np.ndarray, "256"],
    held_out: Sequence[str],
) -> dict[str, Bool[np.ndarray, "P"]]:
    """A frame's points of each slice that has any; those labelled 255 fall out when counted.

    `is_near`: by class, whether it is one of the ordinary small objects.
    """
    small = (view.point_label == 1) | is_near[view.point_class]
    range_m = np.linalg.norm(view.points[:, :3], axis=1)
    masks = {
        "point": np.ones(len(range_m), bool),
        "point_in_view": view.in_view,
        "small_object": small,
        "small_object_in_view": small & view.in_view,
    }
    for name, (low, high) in DISTANCES_M.items():
        masks[name] = (range_m >= low) & (range_m < high)
    if meta["kind"] == "static":
        masks["point_static"] = masks["point"]
        if held_out:
            own = (view.point_label == 0) | (meta["anomaly_category"] in held_out)
            masks |= {"point_held_out": own, "point_held_out_in_view": own & view.in_view}
        for name, ids in category_slices(classes).items():
            masks[name] = is_one_of(ids)[view.point_class]
    return {name: mask for name, mask in masks.items() if mask.any()}


def frame_slices(record: Mapping[str, Any], *, held_out: Sequence[str]) -> list[str]:
    """Slices of a frame, by its line of the table of frames."""
    names = ["frame"]
    if record["kind"] == "dynamic":
        names.append("frame_dynamic")
    if record["kind"] == "static":
        names.append("frame_static")
        is_normal = record["frame_label"] == 0
        if is_normal or record["num_anomaly_points_in_view"] >= _MIN_POINTS_IN_VIEW:
            names.append("frame_static_20in_view")
        if held_out and (is_normal or record["anomaly_category"] in held_out):
            names.append("frame_held_out")
    return names
