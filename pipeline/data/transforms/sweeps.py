"""Previous clouds of a scene beside the current one, in its LiDAR frame, with relative time.

Which rows they are is looked up in the index, so nothing is scanned. Past points have label 255:
they show what moved, and only points of the current cloud are scored.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64

from pipeline.data.frames import NO_VOXEL, StoredFrame
from pipeline.datasets.protocol.classes import IGNORE_LABEL


def previous_rows(index: pd.DataFrame, *, num_sweeps: int) -> list[tuple[int, ...]]:
    """Rows of the `num_sweeps` - 1 frames before each row, nearest first, of its scene and pose.

    A frame that is not there (before the scene's start, in quarantine) is left out, and none takes
    its place.
    """
    names = ("archive", "scene_id", "pose")
    views = list(zip(*(index[name].tolist() for name in names), strict=True))
    ticks = index["frame_index"].tolist()
    rows = {(*view, tick): row for row, (view, tick) in enumerate(zip(views, ticks, strict=True))}
    return [
        tuple(
            rows[*view, tick - back]
            for back in range(1, num_sweeps)
            if (*view, tick - back) in rows
        )
        for view, tick in zip(views, ticks, strict=True)
    ]


def relative_pose(
    world_from_lidar: Float64[np.ndarray, "4 4"], world_from_past: Float64[np.ndarray, "4 4"]
) -> Float64[np.ndarray, "4 4"]:
    """Takes points of a past LiDAR frame to the current one."""
    return np.linalg.inv(world_from_lidar) @ world_from_past


def with_past(
    frame: StoredFrame,
    past: Sequence[tuple[StoredFrame, Float64[np.ndarray, "4 4"], float]],
) -> StoredFrame:
    """The current cloud at time 0, then each past one (frame, current_from_past, time in s < 0)."""
    clouds = [frame, *(other for other, _, _ in past)]
    ends = list(itertools.accumulate(len(cloud.points) for cloud in clouds))
    points = np.empty((ends[-1], 5), np.float32)
    points[: ends[0], :4], points[: ends[0], 4] = frame.points, 0.0
    for start, end, (other, pose, time_s) in zip(ends, ends[1:], past, strict=False):
        assert time_s < 0, time_s
        points[start:end, :4], points[start:end, 4] = other.points, time_s
        move(points[start:end], pose)
    label = np.full(ends[-1], IGNORE_LABEL, np.uint8)
    label[: ends[0]] = frame.point_label
    changed = frame._replace(
        points=points,
        point_class=np.concatenate([cloud.point_class for cloud in clouds]),
        point_label=label,
    )
    if frame.point_voxel is not None:
        # The grid is that of the current cloud.
        nowhere = np.full(ends[-1] - ends[0], NO_VOXEL, np.int32)
        changed = changed._replace(point_voxel=np.concatenate([frame.point_voxel, nowhere]))
    return changed


def move(points: Float32[np.ndarray, "P 5"], current_from_past: Float64[np.ndarray, "4 4"]) -> None:
    """Take points to the current LiDAR frame in place, computed in float64.

    Column by column: a matrix product this narrow takes several times as long.
    """
    x, y, z = (points[:, axis].astype(np.float64) for axis in range(3))
    for axis, (a, b, c, shift) in enumerate(current_from_past[:3].tolist()):
        points[:, axis] = a * x + b * y + c * z + shift
