"""CARLA's frames of reference and AnoVox's voxel grid: pure functions on NumPy arrays.

AnoVox mixes two worlds. Clouds and voxels are right-handed (x forward, y left, z up); ACTION,
ANOMALY and the mount are CARLA's left-handed axes (y right). Everything here returns right-handed
frames; `FLIP` is the only place where the two meet.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.anovox.class_ids import ROAD_LINE
from pipeline.datasets.protocol.geometry import transform

Vector = Sequence[int | float] | NDArray

FLIP = np.diag([1.0, -1.0, 1.0, 1.0])
"""Between CARLA's left-handed axes (y right) and the files' right-handed ones (y left)."""

CAMERA_FROM_CARLA = np.array(
    [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
"""CARLA sensor axes (x forward, y right, z up) to camera axes (X right, Y down, Z forward)."""

CAMERA_FROM_LIDAR_SAME_POSE = CAMERA_FROM_CARLA @ FLIP + 0.0  # + 0.0 turns -0.0 into 0.0
"""LiDAR file axes (x forward, y left, z up) to camera axes, for sensors mounted at one pose."""

VOXEL_SIZE_M = 0.5
GRID_SHAPE = (1000, 1000, 64)
GRID_OFFSET_M = (250.0, 250.0, 16.0)


def carla_transform(
    location: Vector, roll: int | float, pitch: int | float, yaw: int | float
) -> NDArray[np.float64]:
    """4x4 sensor-to-world matrix (left-handed, m) as CARLA makes it from location and degrees."""
    cr, cp, cy = np.cos(np.radians([roll, pitch, yaw]))
    sr, sp, sy = np.sin(np.radians([roll, pitch, yaw]))
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr],
        [cp * sy, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr],
        [sp, -cp * sr, cp * cr],
    ]
    matrix[:3, 3] = location
    return matrix


def camera_from_lidar(
    lidar_matrix: NDArray[np.floating], camera_matrix: NDArray[np.floating]
) -> NDArray[np.float64]:
    """4x4 from LiDAR file axes to camera axes, given both CARLA sensor-to-world matrices."""
    return CAMERA_FROM_CARLA @ np.linalg.inv(camera_matrix) @ lidar_matrix @ FLIP


def world_from_lidar(lidar_matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """4x4 from LiDAR file axes to a right-handed world (CARLA's world with y negated)."""
    return FLIP @ lidar_matrix @ FLIP


def voxel_from_lidar(mount_location: Vector, mount_rotation: Vector) -> NDArray[np.float64]:
    """4x4 from LiDAR file coordinates to those of AnoVox's grid, before its offset and division.

    The generator computes q = R(-rotation) p - location, with p in file axes (y left) and the
    mount in CARLA's (y right, yaw to the right). Turning by -yaw about z is right in file axes, and
    so is subtracting y, which is flipped; subtracting x and z is the wrong way round. Against the
    vehicle a cloud thus lies 2 location_x too far back and 2 location_z too low: flat road is at
    vz 24 for MONO, and the clouds of MULTI do not meet. Raises ValueError for roll or pitch.
    """
    roll, pitch, yaw = (float(angle) for angle in mount_rotation)
    if roll or pitch:
        raise ValueError(
            f"mount rotation {tuple(mount_rotation)} has roll or pitch, which no AnoVox sensor set "
            "has and whose order its voxel grid does not tell; use poses that only yaw"
        )
    matrix = carla_transform(0.0 - np.asarray(mount_location, np.float64), 0.0, 0.0, -yaw)
    return matrix + 0.0  # turns -0.0 into 0.0


def voxel_indices(
    points: NDArray[np.floating], *, voxel_from_lidar: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Cells (P, 3) of points (P, >=3) in the LiDAR frame, and whether each lies inside the grid."""
    cells, _ = _cells(points, voxel_from_lidar)
    return cells.T.astype(np.int64), _inside(cells)


def point_voxel(
    points: NDArray[np.floating],
    voxels: NDArray[np.uint16],
    *,
    voxel_from_lidar: NDArray[np.floating],
) -> NDArray[np.int32]:
    """Row of `voxels` (M, 4; ascending by key) per exact point (P, >=3); -1 if none holds it."""
    # Jobs that label nothing do without the compiler.
    from pipeline.datasets.anovox.kernels import row_of_cell

    cells = _from_origin(points, voxel_from_lidar)
    cells *= 1 / VOXEL_SIZE_M
    np.floor(cells, out=cells)
    row_of_point = np.empty(len(points), np.int32)
    row_of_cell(cells, GRID_SHAPE, voxel_keys(voxels), row_of_point)
    return row_of_point


def voxel_keys(cells: NDArray[np.integer]) -> NDArray[np.int64]:
    """Linear index vx + 1000 vy + 1000000 vz of cells (M, >=3); AnoVox's rows ascend by it."""
    vx, vy, vz = (cells[:, axis].astype(np.int64) for axis in range(3))
    return vx + GRID_SHAPE[0] * (vy + GRID_SHAPE[1] * vz)


def voxelise(
    points: NDArray[np.floating],
    point_class: NDArray[np.uint8],
    *,
    voxel_from_lidar: NDArray[np.floating],
) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """AnoVox's VOXEL_GRID of one cloud: voxels (M, 4) and each point's row in it (P,).

    Columns are vx, vy, vz, class; rows ascend by `voxel_keys`; points outside the grid have row
    -1. A cell with any road line point is road line; otherwise it takes the class of the point
    nearest to the cell's lower corner, the first such row on a tie (as AnoVox's generator has it,
    although it speaks of the centre).
    """
    cells, corner_distance = _cells(points, voxel_from_lidar)
    rows = np.flatnonzero(_inside(cells))
    point_voxel = np.full(len(points), -1, np.int32)
    if len(rows) == 0:
        return np.empty((0, 4), np.uint16), point_voxel
    inside = cells[:, rows].astype(np.int64)
    keys, rows = _stable_sort(voxel_keys(inside.T), rows)
    is_start = np.r_[True, keys[1:] != keys[:-1]]
    start = np.flatnonzero(is_start)
    voxel = np.cumsum(is_start, dtype=np.int32) - np.int32(1)
    point_voxel[rows] = voxel

    distance = corner_distance[rows]
    nearest = np.minimum.reduceat(distance, start)
    ties = np.flatnonzero(distance == nearest[voxel])
    voxel_of_tie = voxel[ties]
    winner = rows[ties[np.r_[True, voxel_of_tie[1:] != voxel_of_tie[:-1]]]]
    voxels = np.empty((len(start), 4), np.uint16)
    voxels[:, :3] = cells[:, winner].T
    voxels[:, 3] = point_class[winner]
    voxels[point_voxel[rows[point_class[rows] == ROAD_LINE]], 3] = ROAD_LINE
    return voxels, point_voxel


def voxel_centres(
    voxels: NDArray[np.integer], voxel_from_lidar: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Centres (M, 3) in metres in the LiDAR frame of voxels (M, >=3)."""
    centres = (voxels[:, :3].astype(np.float64) + 0.5) * VOXEL_SIZE_M - GRID_OFFSET_M
    return transform(centres, np.linalg.inv(voxel_from_lidar))


def _cells(
    points: NDArray[np.floating], voxel_from_lidar: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cells (3, P), whole numbers, and squared distances (P,) from each cell's lower corner.

    Division by 0.5 and remainder are exact. Axes come first because NumPy is three times faster
    along long rows.
    """
    from_origin = _from_origin(points, voxel_from_lidar)
    cells = np.floor(from_origin * (1 / VOXEL_SIZE_M))
    x, y, z = from_origin - cells * VOXEL_SIZE_M
    return cells, x * x + y * y + z * z


def _from_origin(
    points: NDArray[np.floating], voxel_from_lidar: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Metres (3, P) from the grid's lower corner, added up in the generator's order."""
    from_origin = points[:, :3].T.astype(np.float64, order="C")
    rotation, shift = voxel_from_lidar[:3, :3], voxel_from_lidar[:3, 3]
    if not np.array_equal(rotation, np.eye(3)):
        from_origin = np.einsum("ij,jp->ip", rotation, from_origin)
    from_origin += shift[:, None]
    from_origin += np.array(GRID_OFFSET_M)[:, None]
    return from_origin


def _inside(cells: NDArray[np.float64]) -> NDArray[np.bool_]:
    x, y, z = ((axis >= 0) & (axis < size) for axis, size in zip(cells, GRID_SHAPE, strict=True))
    return x & y & z


def _stable_sort(
    keys: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys ascending, equal keys by ascending row, by one sort of packed integers (fast).

    A key takes 26 bits, which leaves 37 for the row.
    """
    bits = int(rows[-1]).bit_length()
    packed = np.sort((keys << bits) | rows)
    return packed >> bits, packed & ((1 << bits) - 1)
