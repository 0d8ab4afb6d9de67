"""The sensors of an archive as files know them: folder names and sensor_setup.json."""

import json

import numpy as np

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.paths import SENSOR_TYPES, sensor_folder_name
from pipeline.synthetic import sensors

Sensor = tuple[int, str]
"""A pose's place in the sensor set and a sensor type."""


def sensor_folders(config: SyntheticConfig) -> dict[Sensor, str]:
    """Folder name of every sensor, pose by pose; those that are not recorded included.

    Cameras share one hash and LiDARs another, fixed by the seed.
    """
    low, high = 10**17, 9 * 10**18
    camera, lidar = np.random.default_rng([config.seed, 5]).integers(low, high, 2).tolist()
    return {
        (number, kind): sensor_folder_name(
            kind, mount.location, mount.rotation, lidar if "LIDAR" in kind else camera
        )
        for number, mount in enumerate(sensors.SENSOR_SETS[config.sensor_set])
        for kind in SENSOR_TYPES
    }


def recorded_folders(config: SyntheticConfig) -> dict[Sensor, str]:
    """The folders that a scene has."""
    mounts = sensors.SENSOR_SETS[config.sensor_set]
    return {
        (number, kind): folder
        for (number, kind), folder in sensor_folders(config).items()
        if mounts[number].records(kind)
    }


def sensor_setup_text(config: SyntheticConfig) -> str:
    """`sensor_setup.json`: one line, one entry per sensor; `save_data` false has no folder.

    The cameras at the LiDAR's pose and the LiDARs at the cameras' poses of STEREO_ONE_LIDAR are
    such entries: the generator needs a LiDAR beside each camera to relabel its images.
    """
    camera = {
        "image_height": config.image_height,
        "image_width": config.image_width,
        "camera_fov": sensors.CAMERA_FOV_DEG,
    }
    lidar = {
        "range": sensors.LIDAR_RANGE_M,
        "upper_fov": sensors.UPPER_FOV_DEG,
        "lower_fov": sensors.LOWER_FOV_DEG,
        "channels": config.num_channels,
        "rotation_frequency": sensors.ROTATION_FREQUENCY_HZ,
        "points_per_second": config.points_per_second,
        "noise_stddev": sensors.NOISE_M,
        "dropoff_rate": 0.0,
        "dropoff_intensity_limit": 0.0,
        "dropoff_zero_intensity": 0.0,
    }
    mounts = sensors.SENSOR_SETS[config.sensor_set]
    setup = {
        folder: {
            "sensor_type": kind,
            "file_ending": ".npy" if "LIDAR" in kind else ".png",
            "location": list(mounts[number].location),
            "rotation": list(mounts[number].rotation),
            "args": lidar if "LIDAR" in kind else camera,
            "save_data": mounts[number].records(kind),
        }
        for (number, kind), folder in sensor_folders(config).items()
    }
    return json.dumps(setup)
