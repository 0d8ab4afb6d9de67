"""Checks on the two clouds of the sampled frames: range, order of the rows, classes of the ground.

Ranges measured on 38 synthetic scenes (16 channels and 192x128 pixels; 64 channels and 768x512
pixels): classes of the ground near the car 0.92 to 0.97 healthy, 0.02 to 0.08 with the class table
of CARLA 0.9.13; row offset 0.066 to 0.070 m healthy, 4 to 8 m with shuffled rows.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.anovox.class_ids import (
    ANOMALY,
    CLASS_NAMES,
    IGNORE,
    ROAD,
    ROAD_LINE,
    unknown_ids,
)
from pipeline.datasets.anovox.scene import Scene
from pipeline.inspection.check import Check, CheckStatus, not_measured
from pipeline.inspection.sample import Sample
from pipeline.inspection.setup import LidarArgs

NOISE_DEVIATIONS = 6.0
"""Of the noise that a range may exceed the sensor's: reached once in a billion points."""
ROW_FACTOR = 2.0
"""Between expected and found row offset; rows out of order are off by metres, 20 times and more."""
UNKNOWN_NOISE_LIMIT_M = 0.5
GROUND_CLASSES = (ROAD, 2, 10, ROAD_LINE, 25)
"""Road, sidewalk, terrain, road line, ground."""
GROUND_RING_M = (2.6, 12.0)
"""Around the LiDAR, beyond the car's own roof and bonnet."""
MIN_GROUND_SHARE = 0.6
MIN_GROUND_POINTS = 50


def check_range(samples: Sequence[Sample], scene: Scene, args: LidarArgs) -> Check:
    """No point beyond the LiDAR's range, noise included."""
    noise_m = 0.0 if math.isnan(args.noise_m) else args.noise_m
    limit = scene.setup.lidar_range_m * 1.001 + NOISE_DEVIATIONS * noise_m
    clouds = [s[name] for s in samples for name in ("points", "exact_xyz") if name in s.arrays]
    expected = f"at most {limit:.1f} m from the sensor (range of the setup)"
    if not clouds:
        return not_measured("cloud range", expected, "No cloud could be read: see files readable.")
    farthest = max(float(np.linalg.norm(cloud[:, :3], axis=1).max()) for cloud in clouds)
    is_within = farthest <= limit
    return Check(
        name="cloud range",
        status="pass" if is_within else "FAIL",
        found=f"{farthest:.1f} m",
        expected=expected,
        num_frames=len(samples),
        num_items=sum(map(len, clouds)),
        unit="points",
        meaning="All points can be this LiDAR's."
        if is_within
        else "These coordinates are not metres in this LiDAR's frame: compare sensor_setup.json.",
    )


def check_rows(samples: Sequence[Sample], args: LidarArgs) -> Check:
    """Row i of LIDAR and of SEMANTIC-LIDAR is one ray: ranges differ by the noise alone."""
    name, target_m = "row alignment", args.expected_row_offset_m
    limit_m = UNKNOWN_NOISE_LIMIT_M if math.isnan(target_m) else max(ROW_FACTOR * target_m, 0.01)
    expected = f"equal N, median range difference below {limit_m:.3f} m"
    if not math.isnan(target_m):
        expected += f", about {target_m:.3f} m (0.6745 x noise_stddev)"
    pairs = [s for s in samples if "points" in s.arrays and "exact_xyz" in s.arrays]
    if not pairs:
        return not_measured(name, expected, "No pair of clouds could be read: see files readable.")
    offsets = [_row_offset_m(s["points"], s["exact_xyz"]) for s in pairs]
    largest, num_unequal = max(offsets), sum(math.isinf(offset) for offset in offsets)
    is_noiseless = not math.isnan(target_m) and min(offsets) * ROW_FACTOR < target_m
    status: CheckStatus = "FAIL" if largest > limit_m else "warn" if is_noiseless else "pass"
    meanings = {
        "pass": "Labels of SEMANTIC-LIDAR may be used for the points of LIDAR, row by row.",
        "warn": "LIDAR has less noise than its setup says: it may be a copy of SEMANTIC-LIDAR.",
        "FAIL": "Point labels would land on wrong points: the two clouds are of different frames "
        "or in different order; extract the archive again, and do not train on its point labels.",
    }
    found = f"median {float(np.median(offsets)):.3f} m, at most {largest:.3f} m"
    return Check(
        name=name,
        status=status,
        found=f"N differs in {num_unequal} frames" if num_unequal else found,
        expected=expected,
        num_frames=len(pairs),
        num_items=sum(len(s["points"]) for s in pairs),
        unit="points",
        meaning=meanings[status],
    )


def check_class_ids(samples: Sequence[Sample], scene: Scene, in_voxels: Sequence[int]) -> Check:
    """Ids of AnoVox's table only, anomalous ones nowhere in normality; says which special occur.

    `in_voxels` are the ids of the voxel grids of all frames.
    """
    name = "class ids"
    expected = "ids of AnoVox's table" + (
        ", none of 29-34 or 100 in normality" if scene.kind == "normality" else ""
    )
    seen = _seen_ids(samples) | set(in_voxels)
    if not seen:
        return not_measured(name, expected, "No label file could be read: see files readable.")
    unknown = unknown_ids(np.array(sorted(seen), np.uint8))
    anomalous = sorted(seen & ANOMALY) if scene.kind == "normality" else []
    special = (
        ", ".join(f"{i} {CLASS_NAMES[i]}" for i in sorted(seen & (ANOMALY | IGNORE))) or "none"
    )
    found = f"{len(seen)} ids; anomalous, agents and ego: {special}"
    if unknown:
        found = f"unknown ids {unknown}"
    elif anomalous:
        found = f"anomalous ids {anomalous}"
    is_bad = bool(unknown or anomalous)
    return Check(
        name=name,
        status="FAIL" if is_bad else "pass",
        found=found,
        expected=expected,
        num_frames=len(samples),
        num_items=len(seen),
        unit="ids",
        meaning="The label files are of another layout or archive: use the release's id files."
        if is_bad
        else "Every id has a meaning; what they mean is checked by ground and sky.",
    )


def check_ground(samples: Sequence[Sample]) -> Check:
    """Points on the plane below the car are road, road line, sidewalk, terrain or ground."""
    name, expected = "ground class", f"at least {MIN_GROUND_SHARE:.0%} of ground classes"
    classes = [_ground_classes(s) for s in samples if "exact_xyz" in s.arrays]
    near = np.concatenate(classes) if classes else np.empty(0, np.uint8)
    if len(near) < MIN_GROUND_POINTS:
        return not_measured(name, expected, f"Only {len(near)} points lie on the ground near by.")
    share = float(np.isin(near, GROUND_CLASSES).mean())
    common = int(np.bincount(near).argmax())
    is_ground = share >= MIN_GROUND_SHARE
    return Check(
        name=name,
        status="pass" if is_ground else "FAIL",
        found=f"{share:.1%}; most are {common} {CLASS_NAMES.get(common, 'unknown')}",
        expected=expected,
        num_frames=len(classes),
        num_items=len(near),
        unit="points",
        meaning="The ids of the cloud follow AnoVox's class table."
        if is_ground
        else "SEMANTIC-LIDAR follows another class table (CARLA 0.9.13 and before have 7 for road) "
        "or its axes differ: labels would be wrong throughout; do not use this archive.",
    )


def _row_offset_m(points: NDArray[np.floating], exact_xyz: NDArray[np.floating]) -> float:
    """Median difference of the ranges in metres; infinite if the numbers of rows differ."""
    if len(points) != len(exact_xyz):
        return math.inf
    noisy, exact = (np.linalg.norm(xyz[:, :3], axis=1) for xyz in (points, exact_xyz))
    return float(np.median(np.abs(noisy - exact)))


def _seen_ids(samples: Sequence[Sample]) -> set[int]:
    labels = [s[name] for s in samples for name in ("point_class", "semantic") if name in s.arrays]
    return {int(i) for label in labels for i in np.flatnonzero(np.bincount(label.ravel()))}


def _ground_classes(sample: Sample) -> NDArray[np.uint8]:
    x, y, z = sample["exact_xyz"].T
    distance = np.hypot(x, y)
    near, far = GROUND_RING_M
    is_ground = (distance > near) & (distance < far) & (np.abs(z + sample.height_m) < 0.3)
    return sample["point_class"][is_ground]
