"""Pinhole cameras and rigid transforms, whatever the data set: pure functions on NumPy arrays.

LiDAR axes are x forward, y left, z up, camera axes X right, Y down, Z forward, in metres. Pixels
are u = column, v = row without a half-pixel shift: resizing by s gives u' = s*u.
"""

import numpy as np
from numpy.typing import NDArray

_MIN_DEPTH_M = 0.1


def intrinsics(width: int, height: int, fov_deg: int | float) -> NDArray[np.float64]:
    """fx, fy, cx, cy in pixels of an undistorted camera with horizontal field of view `fov_deg`."""
    focal = width / (2.0 * np.tan(np.radians(fov_deg) / 2.0))
    return np.array([focal, focal, width / 2.0, height / 2.0])


def scale_intrinsics(
    k: NDArray[np.float64], scale_x: int | float, scale_y: int | float
) -> NDArray[np.float64]:
    """fx, fy, cx, cy after resizing the image by (`scale_x`, `scale_y`), with u' = scale_x * u."""
    return k * np.array([scale_x, scale_y, scale_x, scale_y])


def crop_intrinsics(k: NDArray[np.float64], top_px: int | float) -> NDArray[np.float64]:
    """fx, fy, cx, cy after cutting `top_px` rows off the top of the image."""
    return k - np.array([0.0, 0.0, 0.0, top_px])


def transform(points: NDArray[np.floating], matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """Points (P, >=3) moved by a 4x4; returns (P, 3) float64."""
    # Not `@`: BLAS wakes its threads for so small a product, which costs more than it saves.
    turned = np.einsum("pj,ij->pi", points[:, :3].astype(np.float64), matrix[:3, :3])
    return turned + matrix[:3, 3]


def project(
    points: NDArray[np.floating],
    intrinsics: NDArray[np.floating],
    camera_from_lidar: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels (P, 2) as (u, v) and depths (P,) in metres of points (P, >=3) in the LiDAR frame.

    u and v are nan for points nearer than `_MIN_DEPTH_M` or behind the camera.
    """
    in_camera = transform(points, camera_from_lidar)
    depth = in_camera[:, 2]
    fx, fy, cx, cy = intrinsics
    safe = np.where(depth > _MIN_DEPTH_M, depth, np.nan)[:, None]
    return in_camera[:, :2] / safe * [fx, fy] + [cx, cy], depth


def in_view(
    uv: NDArray[np.float64], depth: NDArray[np.float64], width: int, height: int
) -> NDArray[np.bool_]:
    """True (P,) where a projected point lies inside the image and before the camera."""
    u, v = uv[:, 0], uv[:, 1]
    return (depth > _MIN_DEPTH_M) & (u >= 0) & (u < width) & (v >= 0) & (v < height)


def unproject(
    u: NDArray[np.floating],
    v: NDArray[np.floating],
    depth: NDArray[np.floating],
    intrinsics: NDArray[np.floating],
    lidar_from_camera: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Points (P, 3) in the LiDAR frame of pixels (P,), (P,) at depths (P,) in metres."""
    fx, fy, cx, cy = intrinsics
    z = np.asarray(depth, np.float64)
    in_camera = np.stack([(u - cx) / fx * z, (v - cy) / fy * z, z], axis=1)
    return transform(in_camera, lidar_from_camera)
