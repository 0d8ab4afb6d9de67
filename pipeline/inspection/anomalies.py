"""Checks of the ANOMALY records: where the object lies, and when the vehicle ahead brakes.

The record alone labels nothing: it exists in every frame, seen or not (`anomaly_is_alive` too).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.anovox.annotations import Anomaly, read_record
from pipeline.datasets.anovox.class_ids import ANOMALY
from pipeline.datasets.anovox.geometry import FLIP
from pipeline.datasets.anovox.lead_vehicle import ONSET_FRAMES, ONSET_M_S2, braking_onset
from pipeline.datasets.anovox.scene import Scene
from pipeline.datasets.protocol.frames import FrameError
from pipeline.inspection.check import Check, CheckStatus, not_measured
from pipeline.inspection.sample import Sample

BRAKED = 100
"""Class of the vehicle ahead inside its window, where the archive has it."""
_MIN_POINTS = 5
MAX_DISTANCE_M = {"static": 2.0, "dynamic": 3.5}
"""From the record's location, which is a vehicle's middle, to the nearest labelled point."""
MAX_ONSET_FRAMES = 3
"""Between the first braking frame and the first labelled one; the label comes one frame early."""
_UNSEEN = "The object is hidden, out of range or out of view, as it may be in a whole scene."


def check_anomaly(samples: Sequence[Sample], scene: Scene) -> Check:
    """ANOMALY's location, carried into the LiDAR frame, lies on the points labelled anomalous."""
    name, limit_m = "anomaly location", MAX_DISTANCE_M[scene.kind]
    expected = f"within {limit_m:g} m of labelled points"
    placed = [s for s in samples if s.frame is not None and s.frame.anomaly is not None]
    if not placed:
        why = "No ANOMALY and ACTION file could be read: see files readable."
        return not_measured(name, expected, why)
    first = placed[0].calibration.anomaly
    assert first is not None
    distances = [d for s in placed if (d := _distance_m(s)) is not None]
    what = f"variant {'B' if first.location is None else 'A'}, {first.category or first.type_id}"
    found, status, meaning = f"{what}, not seen in these frames", "pass", _UNSEEN
    if first.location is None:
        found, meaning = f"{what}, no location", "This variant has no location to compare."
    elif distances:
        worst_m = max(distances)
        found = f"{what}, {worst_m:.2f} m"
        status = "pass" if worst_m <= limit_m else "FAIL"
        meaning = "The record, the poses of ACTION and the point labels speak of one object."
        if status == "FAIL":
            meaning = (
                "The record's object is not where the labels are: poses or records are of another "
                "frame, or the world axes differ; distances of anomalies would be wrong."
            )
    return Check(
        name=name,
        status=status,
        found=found,
        expected=expected,
        num_frames=len(distances),
        num_items=sum(_num_labelled(s) for s in placed),
        unit="points",
        meaning=meaning,
    )


def check_kinematics(scene: Scene, labelled: Sequence[int]) -> Check:
    """The vehicle ahead brakes when its labels begin; `labelled` are the frames with id 100."""
    name = "braking onset"
    expected = f"{ONSET_M_S2:g} m/s2 for {ONSET_FRAMES} frames, near the first id {BRAKED}"
    try:
        speeds = np.array([_speed_mps(scene, frame_id) for frame_id in scene.frame_ids])
    except ValueError as error:
        return not_measured(name, expected, f"{error}.")
    onset, start = braking_onset(speeds), scene.first_frame_id
    first = min(labelled) - start if labelled else None
    status: CheckStatus = "pass"
    found = "no braking" if onset is None else f"brakes at {scene.frame_ids[onset] - start}"
    found += ", native ids only" if first is None else f", id {BRAKED} from {first} on"
    meaning = "Velocity and label window agree."
    if onset is None:
        status, meaning = "warn", "No hard braking in the recorded velocities: look at this scene."
    elif first is None:
        meaning = f"Without id {BRAKED} frames are to be labelled by the kinematics."
    elif abs(scene.frame_ids[onset] - start - first) > MAX_ONSET_FRAMES:
        status, meaning = "FAIL", "The label window is not when the vehicle brakes: do not use it."
    return Check(
        name=name,
        status=status,
        found=found,
        expected=expected,
        num_frames=len(speeds),
        num_items=len(speeds),
        unit="records",
        meaning=meaning,
    )


def _labelled(sample: Sample, anomaly: Anomaly) -> NDArray[np.bool_]:
    """Points of an anomalous class or, for a vehicle with native ids, of the record's tags."""
    wanted = ANOMALY if anomaly.category else ANOMALY | set(anomaly.tags) | {114}
    return np.isin(sample["point_class"], sorted(wanted))


def _num_labelled(sample: Sample) -> int:
    anomaly = sample.calibration.anomaly
    assert anomaly is not None
    return int(_labelled(sample, anomaly).sum()) if sample.has("point_class") else 0


def _distance_m(sample: Sample) -> float | None:
    """From the record's location to the nearest labelled point; None if too few are there."""
    frame = sample.calibration
    anomaly = frame.anomaly
    assert anomaly is not None
    if anomaly.location is None or _num_labelled(sample) < _MIN_POINTS:
        return None
    location = np.linalg.inv(frame.world_from_lidar) @ FLIP @ [*anomaly.location, 1.0]
    points = sample["exact_xyz"][_labelled(sample, anomaly)]
    return float(np.linalg.norm(points - location[:3], axis=1).min())


def _speed_mps(scene: Scene, frame_id: int) -> float:
    """Of the vehicle ahead: velocity (variant A, m/s) or speed (variant B, km/h)."""
    path = scene.files(frame_id).anomaly
    if path is None:
        raise ValueError(f"{scene.path} has no ANOMALY folder")
    try:
        values = read_record(path, scene_id=scene.scene_id, frame_id=frame_id)
    except FrameError as error:
        raise ValueError(str(error)) from None
    speed = _speed_of(values)
    if not math.isfinite(speed):
        raise ValueError(f"{path} has neither velocity nor speed")
    return speed


def _speed_of(values: Mapping[str, Any]) -> float:
    """Metres per second, nan if the record has neither key."""
    try:
        if "velocity" in values:
            return math.hypot(*(float(axis) for axis in values["velocity"]))
        return float(values["speed"]) / 3.6
    except (KeyError, TypeError, ValueError):
        return math.nan
