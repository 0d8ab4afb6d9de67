"""AnoVox's MONO sensor set: where it sits, its rays, and the order of the LiDAR's points.

Figures are CARLA 0.9.14's as AnoVox sets them: the head turns 7200 degrees per tick, so ray k
looks at (k * 7200 / n mod 360) - 180 degrees, clockwise, the same in every frame.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.anovox.geometry import intrinsics
from pipeline.anovox.synthetic.casting import Grid, camera_grid, lidar_grid
from pipeline.config import SyntheticConfig

MOUNT_LOCATION = (0, 0, 1.8)
MOUNT_ROTATION = (0, 0, 0)
MOUNT_HEIGHT_M = float(MOUNT_LOCATION[2])
CAMERA_FOV_DEG = 90.0
UPPER_FOV_DEG = 15.0
LOWER_FOV_DEG = -25.0
LIDAR_RANGE_M = 100.0
NOISE_M = 0.1
ROTATION_FREQUENCY_HZ = 200.0
FRAME_TIME_S = 0.1
CAMERA_REACH_M = 999.0


@dataclass(frozen=True, kw_only=True)
class Sensors:
    """Ray grids of one camera and one LiDAR at one pose."""

    camera: Grid
    lidar: Grid
    file_columns: NDArray[np.int64]
    """LiDAR grid column of ray k; a channel's points lie in the file in the order of k."""


def build_sensors(config: SyntheticConfig) -> Sensors:
    """Rays for the image size, channels and points per second of the config."""
    width, height = config.image_width, config.image_height
    per_channel = config.points_per_second * FRAME_TIME_S / config.num_channels
    num_rays = max(1, math.floor(per_channel + 0.5))  # 1562.5 gives AnoVox's 1563
    azimuths = np.arange(num_rays) * (2 * np.pi / num_rays) - np.pi
    elevations = np.radians(np.linspace(UPPER_FOV_DEG, LOWER_FOV_DEG, config.num_channels))
    return Sensors(
        camera=camera_grid(
            width, height, intrinsics(width, height, CAMERA_FOV_DEG), CAMERA_REACH_M
        ),
        lidar=lidar_grid(azimuths, elevations),
        file_columns=np.arange(num_rays) * _turns(num_rays) % num_rays,
    )


def _turns(num_rays: int) -> int:
    """Turns of the head per frame: 20 as in AnoVox, or the next number that gives n directions.

    CARLA would cast the same directions several times where n and 20 share a factor (1563: none).
    """
    turns = round(ROTATION_FREQUENCY_HZ * FRAME_TIME_S)
    while math.gcd(turns, num_rays) > 1:
        turns += 1
    return turns
