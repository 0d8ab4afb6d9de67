"""Which frame, point, pixel and voxel is anomalous, by class ids alone.

Never by the archive's name, the existence of an ANOMALY file or `anomaly_is_alive`: those mark
every frame of a scene, also the many in which no sensor sees the object. There is no fallback; a
contradiction between the kind of archive and its ids is a FrameError. Valid for normality and
static frames; the braking vehicle of dynamic ones bears an ordinary id.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.anovox.arrays import FrameError
from pipeline.anovox.frame import Frame
from pipeline.anovox.geometry import FLIP
from pipeline.anovox.labels import (
    ANOMALOUS_LABEL,
    CATEGORY,
    IGNORE_LABEL,
    NORMAL_LABEL,
    is_anomaly,
    label_of_class,
)

MIN_VOXELS = 1
LABEL_RULE = "ids"
TRUTH_MODALITIES = ("semantic", "semantic_lidar", "voxels")
_GENERIC = "anomaly"


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Labels of one frame: 0 normal, 1 anomalous, 255 ignored."""

    frame_label: int
    point_label: NDArray[np.uint8]
    """(P,)"""
    pixel_label: NDArray[np.uint8]
    """(H, W)"""
    voxel_label: NDArray[np.uint8]
    """(M,)"""
    num_anomaly_points: int
    num_anomaly_pixels: int
    num_anomaly_voxels: int
    anomaly_category: str
    """Of the object placed in the scene, seen or not; empty in normality."""
    anomaly_type: str
    """Blueprint of that object; empty in normality."""
    anomaly_size: str
    """Its size class; empty where the archive does not say."""
    anomaly_distance_m: float
    """Median range of its points, else range of its location; nan in normality."""
    label_rule: str


def truth(frame: Frame, *, min_points: int, min_pixels: int) -> Truth:
    """Labels of a frame that was read with `TRUTH_MODALITIES`.

    The frame is anomalous if any of points, pixels and voxels has at least its minimum (1 voxel)
    of anomalous ids, normal if none has a single one, and ignored in between. Raises FrameError
    for an anomalous id in a normality frame, and for one that is not of the object placed.
    """
    voxel_class = frame.voxels[:, 3].astype(np.uint8)
    _check_seen(frame, (frame.point_class, frame.semantic, voxel_class))
    num_points, num_pixels, num_voxels = (
        int(np.count_nonzero(is_anomaly(ids)))
        for ids in (frame.point_class, frame.semantic, voxel_class)
    )
    anomaly = frame.anomaly
    return Truth(
        frame_label=_frame_label(
            (num_points, min_points), (num_pixels, min_pixels), (num_voxels, MIN_VOXELS)
        ),
        point_label=label_of_class(frame.point_class),
        pixel_label=label_of_class(frame.semantic),
        voxel_label=label_of_class(voxel_class),
        num_anomaly_points=num_points,
        num_anomaly_pixels=num_pixels,
        num_anomaly_voxels=num_voxels,
        anomaly_category=anomaly.category if anomaly else "",
        anomaly_type=anomaly.type_id if anomaly else "",
        anomaly_size=anomaly.size if anomaly else "",
        anomaly_distance_m=_distance_m(frame),
        label_rule=LABEL_RULE,
    )


def _frame_label(*counts: tuple[int, int]) -> int:
    """Of (number found, minimum) pairs."""
    if any(found >= least for found, least in counts):
        return ANOMALOUS_LABEL
    return IGNORE_LABEL if any(found for found, _ in counts) else NORMAL_LABEL


def _check_seen(frame: Frame, class_ids: tuple[NDArray[np.uint8], ...]) -> None:
    """No anomalous id but that of the object placed (or the generic one)."""
    legal = {frame.anomaly.category, _GENERIC} if frame.anomaly else set()
    for ids in class_ids:
        seen = {CATEGORY[int(i)] for i in np.unique(ids[is_anomaly(ids)])}
        if seen - legal:
            raise FrameError(
                f"frame {frame.key.frame_id} of scene {frame.key.scene_id} in {frame.key.archive} "
                f"shows {', '.join(sorted(seen - legal))}, but its archive places "
                f"{frame.anomaly.category if frame.anomaly else 'nothing'}; the archive is mixed "
                "up: extract it again or leave the scene out"
            )


def _distance_m(frame: Frame) -> float:
    """Metres from the LiDAR to the object."""
    if frame.anomaly is None:
        return float("nan")
    on_object = frame.exact_xyz[is_anomaly(frame.point_class)].astype(np.float64)
    if len(on_object) > 0:
        return float(np.median(np.linalg.norm(on_object, axis=1)))
    if frame.anomaly.location is None:
        return float("nan")
    location = FLIP @ [*frame.anomaly.location, 1.0]
    return float(np.linalg.norm((np.linalg.inv(frame.world_from_lidar) @ location)[:3]))
