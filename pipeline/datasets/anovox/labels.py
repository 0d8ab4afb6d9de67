"""Which frame, point, pixel and voxel is anomalous, by the rule found for the scene.

Never by the archive's name, the existence of an ANOMALY file or `anomaly_is_alive`: those mark
every frame of a scene, also the many in which no sensor sees the object. There is no fallback; a
contradiction between the kind of archive and its ids is a FrameError. The vehicle that brakes in a
dynamic scene is anomalous inside its window and normal outside it, whatever id it has; other
actors steered by an agent, and the ego, are ignored.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.anovox.class_ids import CATEGORY, anomalous_ids, is_anomaly, label_of_class
from pipeline.datasets.anovox.frame import Frame
from pipeline.datasets.anovox.geometry import FLIP, point_voxel
from pipeline.datasets.anovox.label_rules import IDS, WINDOW_GUESS, SceneRule
from pipeline.datasets.anovox.lead_vehicle import in_body, lead_classes
from pipeline.datasets.protocol.classes import ANOMALOUS_LABEL, IGNORE_LABEL, NORMAL_LABEL
from pipeline.datasets.protocol.frames import FrameError
from pipeline.datasets.protocol.geometry import unproject

MIN_VOXELS = 1
TRUTH_MODALITIES = ("depth", "semantic", "semantic_lidar", "voxels")
BRAKING_CATEGORY = "braking"
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
    """Of the object placed in the scene, seen or not; `braking` for the vehicle of a dynamic scene,
    empty in normality."""
    anomaly_phase: str
    """`braking` or `standing` inside a dynamic scene's window, else empty."""
    anomaly_type: str
    """Blueprint of that object; empty in normality."""
    anomaly_size: str
    """Its size class; empty where the archive does not say."""
    anomaly_distance_m: float
    """Median range of its points, else range of its location; nan in normality."""
    label_rule: str
    """`ids`, `kinematics` or `window_guess`; by the last all labels are 255."""


class _Labels(NamedTuple):
    """Labels of points (P,), pixels (H, W) and voxels (M,), and which points are the object's."""

    point: NDArray[np.uint8]
    pixel: NDArray[np.uint8]
    voxel: NDArray[np.uint8]
    on_object: NDArray[np.bool_]


def truth(frame: Frame, rule: SceneRule, *, min_points: int, min_pixels: int) -> Truth:
    """Labels of a frame that was read with `TRUTH_MODALITIES`, by its scene's rule.

    The frame is anomalous if any of points, pixels and voxels has at least its minimum (1 voxel)
    of anomalous labels; normal if none has a single one and no braking is going on unseen; and
    ignored in between. Raises FrameError for an anomalous id in a normality frame, and for one
    that is not of the object placed.
    """
    _check_seen(frame, rule)
    labels = _labels_of_lead(frame, rule) if rule.has_lead else _labels_by_class(frame)
    num_points, num_pixels, num_voxels = (
        int(np.count_nonzero(label == ANOMALOUS_LABEL))
        for label in (labels.point, labels.pixel, labels.voxel)
    )
    phase = rule.window.phase(frame.key.frame_id) if rule.window else ""
    frame_label = _frame_label(
        (num_points, min_points), (num_pixels, min_pixels), (num_voxels, MIN_VOXELS)
    )
    if phase and frame_label == NORMAL_LABEL:
        frame_label = IGNORE_LABEL
    anomaly = frame.anomaly
    return Truth(
        frame_label=IGNORE_LABEL if rule.label_rule == WINDOW_GUESS else frame_label,
        point_label=labels.point,
        pixel_label=labels.pixel,
        voxel_label=labels.voxel,
        num_anomaly_points=num_points,
        num_anomaly_pixels=num_pixels,
        num_anomaly_voxels=num_voxels,
        anomaly_category=_category(frame, rule),
        anomaly_phase=phase,
        anomaly_type=anomaly.type_id if anomaly else "",
        anomaly_size=anomaly.size if anomaly else "",
        anomaly_distance_m=_distance_m(frame, labels.on_object),
        label_rule=rule.label_rule,
    )


def _category(frame: Frame, rule: SceneRule) -> str:
    if rule.has_lead:
        return BRAKING_CATEGORY
    return frame.anomaly.category if frame.anomaly else ""


def _voxel_class(frame: Frame) -> NDArray[np.uint8]:
    return frame.voxels[:, 3].astype(np.uint8)


def _labels_by_class(frame: Frame) -> _Labels:
    return _Labels(
        point=label_of_class(frame.point_class),
        pixel=label_of_class(frame.semantic),
        voxel=label_of_class(_voxel_class(frame)),
        on_object=is_anomaly(frame.point_class),
    )


def _labels_of_lead(frame: Frame, rule: SceneRule) -> _Labels:
    """By class, except for the vehicle ahead, whose label is that of the moment."""
    by_class = _labels_by_class(frame)
    points, pixels, voxels = _lead_masks(frame, rule)
    moment = _moment_label(frame, rule)
    labels = []
    for label, mask in zip(by_class[:3], (points, pixels, voxels), strict=True):
        own = mask if rule.label_rule != IDS else mask & (label != ANOMALOUS_LABEL)
        labels.append(np.where(own, np.uint8(moment), label))
    return _Labels(*labels, on_object=points | by_class.on_object)


def _moment_label(frame: Frame, rule: SceneRule) -> int:
    """Label of those parts of the vehicle ahead that have no anomalous id.

    Under `ids` a part may have missed the relabelling (an image segment without a LiDAR hit):
    inside the window it is ignored, not normal.
    """
    is_braking = rule.window is not None and rule.window.phase(frame.key.frame_id) != ""
    if rule.label_rule == WINDOW_GUESS or (is_braking and rule.label_rule == IDS):
        return IGNORE_LABEL
    return ANOMALOUS_LABEL if is_braking else NORMAL_LABEL


def _lead_masks(
    frame: Frame, rule: SceneRule
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Points (P,), pixels (H, W) and voxels (M,) of the vehicle ahead.

    Without a location (possible under `ids` and `window_guess`) a vehicle cannot be told from
    others: none is picked by ids, and a guess takes every one.
    """
    assert frame.anomaly is not None
    bears = np.isin(np.arange(256), list(lead_classes(frame.anomaly)))
    points, pixels = bears[frame.point_class], bears[frame.semantic]
    voxels = bears[_voxel_class(frame)]
    if frame.anomaly.location is None:
        picked = rule.label_rule == WINDOW_GUESS
        return points & picked, pixels & picked, voxels & picked
    points[points] = _in_body(frame, rule, frame.exact_xyz[points])
    pixels[pixels] = _in_body(frame, rule, _lifted(frame, pixels))
    cells = point_voxel(
        frame.exact_xyz[points], frame.voxels, voxel_from_lidar=frame.voxel_from_lidar
    )
    held = np.zeros(len(voxels), bool)
    held[cells[cells >= 0]] = True
    return points, pixels, voxels & held


def _in_body(frame: Frame, rule: SceneRule, points: NDArray[np.floating]) -> NDArray[np.bool_]:
    assert frame.anomaly is not None
    return in_body(
        points,
        frame.anomaly,
        heading_rad=rule.headings.get(frame.key.frame_id, float("nan")),
        world_from_lidar=frame.world_from_lidar,
    )


def _lifted(frame: Frame, pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Points (N, 3) in the LiDAR frame of the pixels where the mask (H, W) is true."""
    row, column = np.nonzero(pixels)
    lidar_from_camera = np.linalg.inv(frame.camera_from_lidar)
    return unproject(
        column + 0.5, row + 0.5, frame.depth_m[pixels], frame.intrinsics, lidar_from_camera
    )


def _frame_label(*counts: tuple[int, int]) -> int:
    """Of (number found, minimum) pairs."""
    if any(found >= least for found, least in counts):
        return ANOMALOUS_LABEL
    return IGNORE_LABEL if any(found for found, _ in counts) else NORMAL_LABEL


def _check_seen(frame: Frame, rule: SceneRule) -> None:
    """No anomalous id but that of the object placed (or the generic one)."""
    legal = {frame.anomaly.category, _GENERIC} if frame.anomaly else set()
    if rule.label_rule != IDS:
        legal = set()  # the rule was chosen because no frame shows an anomalous id
    for ids in (frame.point_class, frame.semantic, _voxel_class(frame)):
        seen = {CATEGORY[i] for i in anomalous_ids(ids)}
        if seen - legal:
            placed = (frame.anomaly.category or "a vehicle") if frame.anomaly else "nothing"
            raise FrameError(
                f"frame {frame.key.frame_id} of scene {frame.key.scene_id} in {frame.key.archive} "
                f"shows {', '.join(sorted(seen - legal))}, but its archive places {placed}"
                f"{'' if rule.label_rule == IDS else ', labelled by its motion'}; the archive is "
                "mixed up: extract it again or leave the scene out"
            )


def _distance_m(frame: Frame, on_object: NDArray[np.bool_]) -> float:
    """Metres from the LiDAR to the object."""
    if frame.anomaly is None:
        return float("nan")
    points = frame.exact_xyz[on_object].astype(np.float64)
    if len(points) > 0:
        return float(np.median(np.linalg.norm(points, axis=1)))
    if frame.anomaly.location is None:
        return float("nan")
    location = FLIP @ [*frame.anomaly.location, 1.0]
    return float(np.linalg.norm((np.linalg.inv(frame.world_from_lidar) @ location)[:3]))
