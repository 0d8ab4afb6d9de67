"""Checks of the voxel grid of the sampled frames against points, pixels and the ground.

Measured as in `images`: cells of the own voxelisation that the file has, of all in either, 1.000
healthy and 0.09 to 0.42 with a cloud of another frame, mirrored or shifted by one layer; points
whose cell has their class 0.979 to 0.997 healthy (road and road line are one here, because road
line wins a cell), 0.10 to 0.65 broken; pixels whose cell has their class 0.983 to 0.998 healthy,
0.65 to 0.89 with SEMANTIC-CAM of another frame, 0.70 to 0.94 with mirrored images.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.anovox import geometry
from pipeline.datasets.anovox.class_ids import ROAD, ROAD_LINE
from pipeline.datasets.protocol.geometry import unproject
from pipeline.inspection.check import Check, not_measured
from pipeline.inspection.images import MIN_COMPARED_POINTS, SKY_DEPTH_M, agreement, graded, total
from pipeline.inspection.sample import Sample

CELL_SHARES = (0.97, 0.995)
POINT_SHARES = (0.90, 0.95)
"""Below the first a check fails, below the second it warns."""
PIXEL_SHARES = (0.90, 0.95)
GROUND_RADIUS_M = 20.0
BORDER_M = 0.05
"""Ground this near to the border of two layers of cells may lie in either."""
NUM_PIXELS = 20_000
MAX_LIFTED_M = 60.0
"""Beyond, a pixel's depth is coarser than a cell."""
EXPLAINED_SHARE = 0.8
EXPLAINED_M = 1.0
"""An extra cell this near to the surface that DEPTH_CAM shows may come from depth points."""
NO_GRID = "No VOXEL_GRID could be read with its cloud; voxels are then to be computed."
_ARRAYS = ("voxels", "exact_xyz", "point_class")
_CONTENT_MEANINGS = {
    "pass": "Points and cells may be mapped onto each other, and the grid is of this frame.",
    "warn": "Few cells differ: another rule for ties, or points dropped in one of the two.",
    "FAIL": "The grid is of another frame, shift or class table than SEMANTIC-LIDAR: recompute "
    "voxels from SEMANTIC-LIDAR, and do not use the file's.",
    "merged": "Depth points were merged into the grid (the extra cells lie on what DEPTH_CAM "
    "shows): the file has more cells than the LiDAR.",
    "shared": "The grid holds the cells of all LiDARs of the set; each pose is to use voxels "
    "computed from its own SEMANTIC-LIDAR.",
}


def check_voxel_height(samples: Sequence[Sample]) -> Check:
    """The layer of the ground near the car is where the mount and AnoVox's shift put it.

    By the lowest cell of each column, so that it does not depend on class ids; the classes of
    these cells are told.
    """
    name, usable = "voxel height", [s for s in samples if s.has("voxels")]
    if not usable:
        return not_measured(name, "the layer of the ground", NO_GRID)
    legal = _ground_layers(usable[0])
    lowest = np.concatenate([_lowest_cells(s) for s in usable])
    expected = f"ground at vz {' or '.join(map(str, legal))} (lidar mount, z shift)"
    if len(lowest) < MIN_COMPARED_POINTS:
        return not_measured(name, expected, f"Only {len(lowest)} columns of cells near the car.")
    found, road = _most_common(lowest[:, 2]), lowest[np.isin(lowest[:, 3], (ROAD, ROAD_LINE)), 2]
    is_legal = found in legal
    return Check(
        name=name,
        status="pass" if is_legal else "FAIL",
        found=f"ground at vz {found}"
        + (f", road at {_most_common(road)}" if len(road) else ", no cell is road"),
        expected=expected,
        num_frames=len(usable),
        num_items=len(lowest),
        unit="cells",
        meaning="The grid has the shift of AnoVox's generator (mount height subtracted)."
        if is_legal
        else f"The grid was made with another shift ({(found - legal[0]) / 2:+.1f} m in z): its "
        "cells lie elsewhere than the points; recompute voxels from SEMANTIC-LIDAR.",
    )


def check_voxel_content(samples: Sequence[Sample], *, num_lidars: int) -> Check:
    """Own voxelisation of SEMANTIC-LIDAR reproduces cells and classes of the file.

    With several LiDARs the file holds the cells of all, displaced against each other: then only
    cells that are missing count (docs/anovox-format.md, "Voxel grid").
    """
    name = "voxel content"
    expected = f"{CELL_SHARES[1]:.1%} of the cells of the own voxelisation, and their classes"
    usable = [s for s in samples if s.has(*_ARRAYS)]
    if not usable:
        return not_measured(name, expected, NO_GRID)
    common, missing, extra, same, explained = np.sum([_compared(s) for s in usable], axis=0)
    is_merged = num_lidars == 1 and extra > 0 and explained >= EXPLAINED_SHARE * extra
    num_others = 0 if num_lidars > 1 or is_merged else extra
    cells, classes = common / max(common + missing + num_others, 1), same / max(common, 1)
    status = graded(cells if num_lidars > 1 else min(cells, classes), CELL_SHARES)
    key = "merged" if is_merged and status != "FAIL" else "shared" if num_lidars > 1 else ""
    return Check(
        name=name,
        status="warn" if key == "merged" else status,
        found=f"cells {cells:.1%} ({missing} missing, {extra} extra), classes {classes:.1%}",
        expected=expected,
        num_frames=len(usable),
        num_items=int(common + missing + extra),
        unit="cells",
        meaning=_CONTENT_MEANINGS[key if key and status != "FAIL" else status],
    )


def check_point_voxels(samples: Sequence[Sample]) -> Check:
    """The cell of a point is occupied and has its class."""
    name, expected = "points vs voxels", f"{POINT_SHARES[1]:.0%} in a cell of their class"
    usable = [s for s in samples if s.has(*_ARRAYS)]
    if not usable:
        return not_measured(name, expected, NO_GRID)
    found = total([agreement(_point_agrees(s)) for s in usable])
    status = graded(found.share, POINT_SHARES)
    return Check(
        name=name,
        status=status,
        found=str(found),
        expected=expected,
        num_frames=len(usable),
        num_items=found.num,
        unit="points",
        meaning="Voxel labels and point labels say the same."
        if status == "pass"
        else "Voxel labels contradict point labels: grid and cloud are of different frames, shifts "
        "or class tables.",
    )


def check_pixel_voxels(samples: Sequence[Sample]) -> Check:
    """A pixel lifted by its depth has the class of the cell it falls into, if one is there."""
    name, expected = "pixels vs voxels", f"{PIXEL_SHARES[1]:.0%} of those that meet a cell"
    usable = [s for s in samples if s.has("depth_m", "semantic", "voxels")]
    if not usable:
        return not_measured(name, expected, NO_GRID)
    found = total([agreement(_pixel_agrees(s)) for s in usable])
    if found.num < MIN_COMPARED_POINTS:
        return not_measured(name, expected, f"Only {found.num} lifted pixels meet a cell.")
    status = graded(found.share, PIXEL_SHARES)
    return Check(
        name=name,
        status=status,
        found=str(found),
        expected=expected,
        num_frames=len(usable),
        num_items=found.num,
        unit="pixels",
        meaning="Image labels, depth and voxel labels meet in space."
        if status == "pass"
        else "Lifted pixels meet cells of other classes: SEMANTIC-CAM or DEPTH_CAM is of another "
        "frame, left and right are swapped, or the grid lies elsewhere.",
    )


def _ground_layers(sample: Sample) -> list[int]:
    """vz of flat ground below the LiDAR; two where it is near the border of two layers."""
    edge = np.array([[0.0, 0.0, -sample.height_m + side] for side in (-BORDER_M, BORDER_M)])
    return sorted({int(vz) for vz in sample.voxel_cells(edge)[:, 2]})


def _lowest_cells(sample: Sample) -> NDArray[np.uint16]:
    """The lowest cell (K, 4) of each column within `GROUND_RADIUS_M` of the LiDAR."""
    voxels = sample["voxels"]
    x, y, _ = sample.voxel_centres(voxels).T
    near = voxels[np.hypot(x, y) < GROUND_RADIUS_M]
    near = near[np.argsort(near[:, 2], kind="stable")]
    column = near[:, 0].astype(np.int64) * geometry.GRID_SHAPE[1] + near[:, 1]
    return near[np.unique(column, return_index=True)[1]]


def _most_common(values: NDArray[np.uint16]) -> int:
    return int(np.bincount(values).argmax())


def _compared(sample: Sample) -> tuple[int, int, int, int, int]:
    """Cells in both, missing in the file, extra in it, with equal class, extra but explained."""
    own, voxels = sample.voxelised(), sample["voxels"]
    own_keys, keys = geometry.voxel_keys(own), geometry.voxel_keys(voxels)
    common, in_own, in_file = np.intersect1d(own_keys, keys, return_indices=True)
    extra = voxels[~np.isin(keys, own_keys)]
    same = int(np.count_nonzero(own[in_own, 3] == voxels[in_file, 3]))
    return len(common), len(own) - len(common), len(extra), same, _num_explained(sample, extra)


def _num_explained(sample: Sample, voxels: NDArray[np.uint16]) -> int:
    """Cells on the surface that DEPTH_CAM shows."""
    if "depth_m" not in sample.arrays or len(voxels) == 0:
        return 0
    view = sample.view(sample.voxel_centres(voxels))
    error_m = np.abs(sample["depth_m"][view.v, view.u] - view.depth_m)
    return int(np.count_nonzero(error_m < EXPLAINED_M + 0.05 * view.depth_m))


def _point_agrees(sample: Sample) -> NDArray[np.bool_]:
    """Per point inside the grid: its cell is there and has its class."""
    cells = sample.voxel_cells(sample["exact_xyz"])
    inside = ((cells >= 0) & (cells < geometry.GRID_SHAPE)).all(axis=1)
    is_there, voxel_class = _class_at(sample, cells[inside])
    return is_there & (voxel_class == _merged(sample["point_class"][inside]))


def _pixel_agrees(sample: Sample) -> NDArray[np.bool_]:
    """Per lifted pixel that meets a cell: it has its class."""
    frame, depth_m = sample.calibration, sample["depth_m"]
    step = max(1, round((depth_m.size / NUM_PIXELS) ** 0.5))
    v, u = (axis.ravel() for axis in np.mgrid[: sample.height : step, : sample.width : step])
    near = depth_m[v, u] < min(MAX_LIFTED_M, SKY_DEPTH_M)
    u, v = u[near], v[near]
    lidar_from_camera = np.linalg.inv(frame.camera_from_lidar)
    points = unproject(u + 0.5, v + 0.5, depth_m[v, u], frame.intrinsics, lidar_from_camera)
    is_there, voxel_class = _class_at(sample, sample.voxel_cells(points))
    return (voxel_class == _merged(sample["semantic"][v, u]))[is_there]


def _class_at(
    sample: Sample, cells: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.integer]]:
    """Whether the file has these cells (K, 3), and the class of those it has."""
    voxels = sample["voxels"]
    keys = geometry.voxel_keys(voxels)
    order = np.argsort(keys)
    wanted = geometry.voxel_keys(cells)
    at = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return keys[at] == wanted, _merged(voxels[at, 3])


def _merged(class_id: NDArray[np.integer]) -> NDArray[np.integer]:
    """Road line as road: in a cell with both, road line wins whatever the share."""
    return np.where(class_id == ROAD_LINE, ROAD, class_id)
