"""Previous clouds of a scene beside the current one, in its LiDAR frame, with relative time.

Which rows they are is looked up in the index, so nothing is scanned. Past points bear label 255:
they show what moved, and only points of the current cloud are scored.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64

from pipeline.anovox.labels import IGNORE_LABEL
from pipeline.data.frames import StoredFrame


def previous_rows(index: pd.DataFrame, *, window: int) -> list[tuple[int, ...]]:
    """Rows of the `window` - 1 frames before each row, nearest first, of its scene and pose.

    A frame that is not there (before the scene's start, in quarantine) is left out, and none takes
    its place.
    """
    names = ("archive", "scene_id", "pose")
    views = list(zip(*(index[name].tolist() for name in names), strict=True))
    ticks = index["frame_index"].tolist()
    rows = {(*view, tick): row for row, (view, tick) in enumerate(zip(views, ticks, strict=True))}
    return [
        tuple(rows[*view, tick - back] for back in range(1, window) if (*view, tick - back) in rows)
        for view, tick in zip(views, ticks, strict=True)
    ]


def relative_pose(
    world_from_lidar: Float64[np.ndarray, "4 4"], world_from_past: Float64[np.ndarray, "4 4"]
) -> Float64[np.ndarray, "4 4"]:
    """Takes points of a past LiDAR frame to the current one."""
    return np.linalg.inv(world_from_lidar) @ world_from_past


def moved(
    points: Float32[np.ndarray, "P 4"],
    current_from_past: Float64[np.ndarray, "4 4"],
    *,
    time_s: float,
) -> Float32[np.ndarray, "P 5"]:
    """Points in the current LiDAR frame (computed in float64), their time as fifth column."""
    found = np.empty((len(points), 5), np.float32)
    rotation, translation = current_from_past[:3, :3], current_from_past[:3, 3]
    found[:, :3] = points[:, :3].astype(np.float64) @ rotation.T + translation
    found[:, 3], found[:, 4] = points[:, 3], time_s
    return found


def with_past(
    frame: StoredFrame,
    past: Sequence[tuple[StoredFrame, Float64[np.ndarray, "4 4"], float]],
) -> StoredFrame:
    """The current cloud at time 0, then each past one (frame, current_from_past, time in s < 0)."""
    points = [moved(frame.points, np.eye(4), time_s=0.0)]
    classes, labels = [frame.point_class], [frame.point_label]
    for other, current_from_past, time_s in past:
        assert time_s < 0, time_s
        points.append(moved(other.points, current_from_past, time_s=time_s))
        classes.append(other.point_class)
        labels.append(np.full(len(other.points), IGNORE_LABEL, np.uint8))
    return StoredFrame(
        frame.image, np.concatenate(points), np.concatenate(classes), np.concatenate(labels)
    )
