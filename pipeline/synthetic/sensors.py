"""AnoVox's sensor sets: where they sit, their rays, and the order of the LiDAR's points.

Figures are CARLA 0.9.14's as AnoVox sets them: the head turns 7200 degrees per tick, so ray k
looks at (k * 7200 / n mod 360) - 180 degrees, clockwise, the same in every frame.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.config.data import SensorSet, SyntheticConfig
from pipeline.datasets.protocol.geometry import intrinsics
from pipeline.synthetic.raycast import Grid, camera_grid, lidar_grid

CAMERA_FOV_DEG = 90.0
UPPER_FOV_DEG = 15.0
LOWER_FOV_DEG = -25.0
LIDAR_RANGE_M = 100.0
NOISE_M = 0.1
ROTATION_FREQUENCY_HZ = 200.0
FRAME_TIME_S = 0.1
CAMERA_REACH_M = 999.0


@dataclass(frozen=True, kw_only=True)
class SensorMount:
    """One pose on the vehicle, in CARLA's axes: forward, right, up in metres; yaw to the right."""

    location: tuple[float, float, float]
    yaw_deg: int = 0
    has_camera: bool = True
    """Whether its four cameras are recorded."""
    has_lidar: bool = True
    """Whether its two LiDARs are recorded."""

    @property
    def rotation(self) -> tuple[int, int, int]:
        """Roll, pitch, yaw in degrees."""
        return 0, 0, self.yaw_deg

    @property
    def height_m(self) -> float:
        """Above the ground."""
        return float(self.location[2])

    def pose(self, ego: NDArray[np.float64]) -> NDArray[np.float64]:
        """World x, y, yaw (3,) of the sensors, right-handed, for an ego at x, y, yaw."""
        ahead, right, _ = self.location
        x, y, yaw = ego.tolist()
        cos, sin = math.cos(yaw), math.sin(yaw)
        return np.array(
            [
                x + cos * ahead + sin * right,
                y + sin * ahead - cos * right,
                yaw - math.radians(self.yaw_deg),
            ]
        )

    def records(self, sensor_type: str) -> bool:
        """Whether a sensor of this type has a folder at this pose."""
        return self.has_lidar if "LIDAR" in sensor_type else self.has_camera


MONO = SensorMount(location=(0, 0, 1.8))
_LEFT, _RIGHT = (
    SensorMount(location=(0, -1, 1.8), yaw_deg=-15),
    SensorMount(location=(0, 1, 1.8), yaw_deg=15),
)
SENSOR_SETS: dict[SensorSet, tuple[SensorMount, ...]] = {
    "Mono": (MONO,),
    "Stereo": (MONO, _LEFT, _RIGHT),
    "StereoOneLidar": (
        replace(MONO, has_camera=False),
        replace(_LEFT, has_lidar=False),
        replace(_RIGHT, has_lidar=False),
    ),
    "Multi": (
        MONO,
        SensorMount(location=(1.5, 0, 1.8)),
        SensorMount(location=(1, 0.9, 1.8), yaw_deg=15),
        SensorMount(location=(1, -0.9, 1.8), yaw_deg=-15),
        SensorMount(location=(-1.5, 0, 1), yaw_deg=180),
        SensorMount(location=(-1.5, 0.9, 1), yaw_deg=170),
        SensorMount(location=(-1.5, -0.9, 1), yaw_deg=-170),
    ),
    "Surround": tuple(
        SensorMount(location=(0, 0, 1.8), yaw_deg=yaw)
        for yaw in (0, 40, -40, 80, -80, 120, -120, 160, -160, 180)
    ),
}
"""Poses by the config's `sensor_set`, in AnoVox's order."""


@dataclass(frozen=True, kw_only=True)
class Sensors:
    """Ray grids of one camera and one LiDAR; they are the same at every pose of the set."""

    mounts: tuple[SensorMount, ...]

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
        mounts=SENSOR_SETS[config.sensor_set],
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
