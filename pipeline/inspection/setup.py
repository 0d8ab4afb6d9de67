"""What `sensor_setup.json` says of the LiDAR beyond what the reader needs: rate and noise."""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.datasets.anovox.frame import TICK_S
from pipeline.datasets.anovox.paths import SETUP_FILE
from pipeline.datasets.anovox.scene import Scene
from pipeline.datasets.anovox.sensors import LARGEST_NUMBER, SensorSetup

MEDIAN_OF_NORMAL = 0.6745
"""Median of |x| of a normal x with standard deviation 1."""


@dataclass(frozen=True, kw_only=True)
class LidarArgs:
    """Figures of one LiDAR; infinite or nan where the setup does not give them."""

    num_rays: float
    """Rays per frame; infinite if the rate is not given."""
    noise_m: float
    """Standard deviation of the range noise of LIDAR; nan if it is not given."""

    @property
    def expected_row_offset_m(self) -> float:
        """Median of |range in LIDAR - range in SEMANTIC-LIDAR| over the rows; nan if unknown."""
        return MEDIAN_OF_NORMAL * self.noise_m

    def num_ground_rays(self, setup: SensorSetup) -> int:
        """Nine in ten of the rays that meet flat ground within range; hills take the rest."""
        if not math.isfinite(self.num_rays):
            return 1
        elevations = np.radians(
            np.linspace(setup.lidar_upper_fov_deg, setup.lidar_lower_fov_deg, setup.lidar_channels)
        )
        below = -np.sin(elevations) * setup.lidar_range_m >= lidar_height_m(setup)
        return max(1, int(0.9 * self.num_rays * below.mean()))


def lidar_height_m(setup: SensorSetup) -> float:
    """Of the LiDAR above flat ground."""
    return setup.lidar.location[2]


def read_lidar_args(scene: Scene) -> LidarArgs:
    """From the entries of both LiDAR folders; figures that are not there stay unknown."""
    channels = scene.setup.lidar_channels
    rate = _argument(scene, "semantic_lidar", "points_per_second")
    per_channel = math.floor(rate * TICK_S / channels + 0.5) if math.isfinite(rate) else math.inf
    return LidarArgs(
        num_rays=channels * max(1, per_channel),
        noise_m=_argument(scene, "lidar", "noise_stddev"),
    )


def _argument(scene: Scene, field: str, name: str) -> float:
    """A number >= 0 among the args of a sensor, nan if it is not there."""
    path = scene.path / SETUP_FILE
    tree: Any = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    value = tree.get(scene.folders[field].name, {}).get("args", {}).get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < LARGEST_NUMBER else math.nan
