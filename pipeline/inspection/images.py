"""Checks of the sampled frames between image and cloud: mirror, depth, classes, sky.

Each is a share of points that agree, summed over a scene's sampled frames. Measured on 38 synthetic
scenes (16 channels and 192x128 pixels; 64 channels and 768x512 pixels; 5 frames each), as minimum
to maximum over scenes, against files of a frame at least 5 m away:

- depth of points off the ground: healthy 0.950 to 0.999, depth of another frame 0.12 to 0.58,
  mirrored 0.11 to 0.25. Flat ground has one depth everywhere and cannot tell;
- classes of visible points: healthy 0.963 to 0.992, SEMANTIC-CAM of another frame 0.56 to 0.80,
  classes of another frame 0.39 to 0.71, mirrored 0.68 to 0.82. Visible objects (neither road nor
  building): healthy 0.987 to 1.000, broken 0.00 to 0.60 (a whole cloud of another frame 0.40 to
  0.91, because only its points that fit the depth are visible: row alignment finds that);
- class margin over the mirrored image: healthy 0.19 to 0.50 (both sides of a street are alike);
- sky, intersection over union of SEMANTIC-CAM and DEPTH_CAM: healthy 1.000, another frame's 0.47
  to 0.84, CARLA 0.9.13 ids 0.

144 other synthetic scenes, of eight towns and three seeds, pass every line without a warning.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.anovox.class_ids import EGO, ROAD, ROAD_LINE
from pipeline.inspection.check import Check, CheckStatus, not_measured
from pipeline.inspection.sample import CameraView, Sample

_SKY = 11
BUILDING = 3
SKY_DEPTH_M = 999.0
MIN_COMPARED_POINTS = 50
MAX_MEDIAN_ERROR_M = 0.3
DEPTH_SHARES = (0.65, 0.88)
CLASS_SHARES = (0.90, 0.94)
OBJECT_SHARES = (0.75, 0.90)
SKY_SHARES = (0.90, 0.97)
"""Below the first a check fails, below the second it warns."""
DEPTH_MARGIN, CLASS_MARGIN = 0.2, 0.1
"""By which the true projection must beat the mirrored one in at least one of depth and class."""
CONVINCING_SHARE = 0.8
"""A mirrored projection that agrees this well, and better than the true one, is the true one."""
DEPTH_TOLERANCE_M, DEPTH_TOLERANCE = 0.3, 0.01
"""Metres and share of the depth: noise of 0.1 m three times, and rounding to a pixel."""
UNREADABLE = "Depth, labels or clouds could not be read: see files readable."


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of so many that were compared so many agree."""

    num_agreeing: int = 0
    num: int = 0

    @property
    def share(self) -> float:
        """0 of nothing."""
        return self.num_agreeing / self.num if self.num else 0.0

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(
            num_agreeing=self.num_agreeing + other.num_agreeing, num=self.num + other.num
        )

    def __str__(self) -> str:
        return f"{self.share:.1%}"


def agreement(agrees: NDArray[np.bool_]) -> Agreement:
    """Of one array."""
    return Agreement(num_agreeing=int(np.count_nonzero(agrees)), num=agrees.size)


def total(parts: Sequence[Agreement]) -> Agreement:
    """Summed over frames."""
    return sum(parts, Agreement())


def graded(share: float, limits: tuple[float, float]) -> CheckStatus:
    """FAIL below the first limit, warn below the second."""
    return "FAIL" if share < limits[0] else "warn" if share < limits[1] else "pass"


def check_projection(samples: Sequence[Sample]) -> Check:
    """Left is left: the projection beats its mirror image in depth or classes, and loses in none.

    Two witnesses, because one of them may be damaged for a reason of its own.
    """
    name = "projection sign"
    expected = (
        f"better than mirrored by {DEPTH_MARGIN:.2f} in depth or {CLASS_MARGIN:.2f} in class, "
        "worse in neither"
    )
    by_depth, mirrored_depth, by_class, mirrored_class = (
        total([measure(s, is_mirrored) for s in samples if s.has(*needed)])
        for measure, needed in ((_depth, ("depth_m", "points")), (_class, _CLASS_ARRAYS))
        for is_mirrored in (False, True)
    )
    if max(by_depth.num, by_class.num) < MIN_COMPARED_POINTS:
        return not_measured(name, expected, UNREADABLE)
    pairs = ((by_depth, mirrored_depth, DEPTH_MARGIN), (by_class, mirrored_class, CLASS_MARGIN))
    heard = [pair for pair in pairs if min(pair[0].num, pair[1].num) >= MIN_COMPARED_POINTS]
    is_mirrored = any(m.share > max(t.share, CONVINCING_SHARE) for t, m, _ in heard)
    is_shown = any(t.share - m.share >= margin for t, m, margin in heard)
    meaning = "u = cx - fx y / x holds: images and clouds may be fused."
    if is_mirrored:
        meaning = (
            "Left and right are swapped between images and clouds: camera features would be read "
            "at the mirrored place; the y axis of the clouds or the images are flipped."
        )
    elif not is_shown:
        meaning = "Neither depth nor classes show that cloud and image belong together."
    return Check(
        name=name,
        status="pass" if is_shown and not is_mirrored else "FAIL",
        found=f"depth {by_depth} (mirrored {mirrored_depth}), "
        f"class {by_class} (mirrored {mirrored_class})",
        expected=expected,
        num_frames=len(samples),
        num_items=by_class.num or by_depth.num,
        unit="points",
        meaning=meaning,
    )


def check_depth(samples: Sequence[Sample]) -> Check:
    """DEPTH_CAM at the pixels of LIDAR points is their depth, off the ground above all."""
    name = "depth"
    expected = (
        f"median error < {MAX_MEDIAN_ERROR_M} m, {DEPTH_SHARES[1]:.0%} of points off the ground"
    )
    usable = [s for s in samples if s.has("depth_m", "points")]
    found = total([_depth(s, False) for s in usable])
    if found.num < MIN_COMPARED_POINTS:
        why = f"Only {found.num} points off the ground are in view." if usable else UNREADABLE
        return not_measured(name, expected, why)
    errors = np.concatenate([depth_errors_m(s) for s in usable])
    median_m = float(np.median(errors))
    status = "FAIL" if median_m >= MAX_MEDIAN_ERROR_M else graded(found.share, DEPTH_SHARES)
    return Check(
        name=name,
        status=status,
        found=f"median error {median_m:.3f} m, {found} off the ground",
        expected=expected,
        num_frames=len(usable),
        num_items=found.num,
        unit="points",
        meaning="Depth images belong to these clouds."
        if status == "pass"
        else "Depth images and clouds are of different places or times: a folder of another pose "
        "or frame, mirrored, or another encoding; do not lift pixels with this depth.",
    )


def check_pixel_classes(samples: Sequence[Sample]) -> Check:
    """Class of a visible point is that of its pixel; objects count apart from road and building."""
    name = "points vs pixels"
    expected = f"{CLASS_SHARES[1]:.0%} of visible points, {OBJECT_SHARES[1]:.0%} of objects"
    usable = [s for s in samples if s.has("depth_m", *_CLASS_ARRAYS)]
    pairs = [_visible_classes(s) for s in usable]
    all_points, objects = (total([pair[i] for pair in pairs]) for i in (0, 1))
    if all_points.num < MIN_COMPARED_POINTS:
        why = f"Only {all_points.num} points are visible by depth." if usable else UNREADABLE
        return not_measured(name, expected, why)
    status = graded(all_points.share, CLASS_SHARES)
    found = f"{all_points}, too few objects"
    if objects.num >= MIN_COMPARED_POINTS:
        found = f"{all_points}, objects {objects} of {objects.num}"
        status = "FAIL" if objects.share < OBJECT_SHARES[0] else status
        status = "warn" if status == "pass" and objects.share < OBJECT_SHARES[1] else status
    return Check(
        name=name,
        status=status,
        found=found,
        expected=expected,
        num_frames=len(usable),
        num_items=all_points.num,
        unit="points",
        meaning="Labels of cloud and image are of one frame and one class table."
        if status == "pass"
        else "Labels of cloud and image contradict each other: one of SEMANTIC-LIDAR and "
        "SEMANTIC-CAM is of another frame, or the projection is wrong.",
    )


def check_sky(samples: Sequence[Sample]) -> Check:
    """Pixels without depth are those of class 11."""
    name, expected = "sky class", f"intersection over union {SKY_SHARES[1]} with class 11"
    usable = [s for s in samples if s.has("depth_m", "semantic")]
    found, common = total([_sky(s) for s in usable]), _class_of_sky(usable)
    if found.num < MIN_COMPARED_POINTS:
        why = f"Only {found.num} pixels show sky." if usable else UNREADABLE
        return not_measured(name, expected, why)
    status = graded(found.share, SKY_SHARES)
    return Check(
        name=name,
        status=status,
        found=f"{found.share:.3f}; pixels without depth are mostly class {common}",
        expected=expected,
        num_frames=len(usable),
        num_items=found.num,
        unit="pixels",
        meaning="SEMANTIC-CAM follows AnoVox's class table and goes with DEPTH_CAM."
        if status == "pass"
        else "SEMANTIC-CAM follows another class table (CARLA 0.9.13 has 13 for sky), or it and "
        "DEPTH_CAM are of different frames.",
    )


def depth_errors_m(sample: Sample) -> NDArray[np.float64]:
    """Absolute error in metres of DEPTH_CAM at every LIDAR point in view."""
    view = sample.view(sample["points"])
    return np.abs(sample["depth_m"][view.v, view.u] - view.depth_m)


def is_visible(sample: Sample, view: CameraView) -> NDArray[np.bool_]:
    """Points (K,) whose depth one of the 3x3 pixels around theirs has: not hidden by anything."""
    depth_m, least = sample["depth_m"], np.full(len(view.u), np.inf)
    for v, u in _around(sample, view):
        np.minimum(least, np.abs(depth_m[v, u] - view.depth_m), out=least)
    return least <= DEPTH_TOLERANCE_M + DEPTH_TOLERANCE * view.depth_m


_CLASS_ARRAYS = ("semantic", "exact_xyz", "point_class")


def _around(
    sample: Sample, view: CameraView
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows and columns of the 3x3 pixels around the points', clipped at the border."""
    for dv in (-1, 0, 1):
        for du in (-1, 0, 1):
            yield (
                np.clip(view.v + dv, 0, sample.height - 1),
                np.clip(view.u + du, 0, sample.width - 1),
            )


def _depth(sample: Sample, is_mirrored: bool) -> Agreement:
    """Points of LIDAR off the ground whose depth DEPTH_CAM has."""
    points = sample["points"][sample.is_off_ground(sample["points"])]
    return agreement(is_visible(sample, sample.view(points, is_mirrored=is_mirrored)))


def _class(sample: Sample, is_mirrored: bool) -> Agreement:
    """All points in view whose pixel has their class; no depth, so that it is another witness."""
    view = sample.view(sample["exact_xyz"], is_mirrored=is_mirrored)
    return agreement(sample["semantic"][view.v, view.u] == sample["point_class"][view.rows])


def _visible_classes(sample: Sample) -> tuple[Agreement, Agreement]:
    """Visible points whose pixel has their class, and objects with it within one pixel."""
    view = sample.view(sample["exact_xyz"])
    semantic, point_class = sample["semantic"], sample["point_class"][view.rows]
    visible = is_visible(sample, view)
    is_object = visible & ~np.isin(point_class, (ROAD, ROAD_LINE, BUILDING, EGO))
    is_near = np.zeros(len(point_class), np.bool_)
    for v, u in _around(sample, view):
        is_near |= semantic[v, u] == point_class
    same = semantic[view.v, view.u] == point_class
    return agreement(same[visible]), agreement(is_near[is_object])


def _sky(sample: Sample) -> Agreement:
    by_depth, by_class = sample["depth_m"] >= SKY_DEPTH_M, sample["semantic"] == _SKY
    either = by_depth | by_class
    return agreement((by_depth & by_class)[either])


def _class_of_sky(samples: Sequence[Sample]) -> int:
    sky = [s["semantic"][s["depth_m"] >= SKY_DEPTH_M] for s in samples]
    counts = np.bincount(np.concatenate([np.empty(0, np.uint8), *sky]), minlength=1)
    return int(counts.argmax())
