import numpy as np
import pytest

from pipeline.config.data import SyntheticConfig
from pipeline.synthetic.sensors import build_sensors


def test_the_full_size_has_anovox_rays() -> None:
    sensors = build_sensors(SyntheticConfig())
    assert sensors.lidar.shape == (64, 1563)
    assert sensors.camera.shape == (512, 768)
    elevation = np.degrees(np.arctan(sensors.lidar.dz))
    np.testing.assert_allclose(elevation, 15 - np.arange(64) * 40 / 63, atol=1e-4)


def test_ray_k_looks_where_carla_turns_it() -> None:
    sensors = build_sensors(SyntheticConfig())
    k = np.arange(1563)
    azimuth = np.radians((k * 7200 / 1563) % 360 - 180)
    ray = sensors.file_columns
    np.testing.assert_allclose(sensors.lidar.dx[ray], np.cos(azimuth), atol=1e-5)
    np.testing.assert_allclose(sensors.lidar.dy[ray], -np.sin(azimuth), atol=1e-5)


@pytest.mark.parametrize("points_per_second", [1_000_000, 250_000, 80_000, 64_000, 640])
def test_every_direction_of_a_channel_is_cast_once(points_per_second: int) -> None:
    sensors = build_sensors(SyntheticConfig(points_per_second=points_per_second))
    columns = np.sort(sensors.file_columns)
    np.testing.assert_array_equal(columns, np.arange(sensors.lidar.shape[1]))


def test_a_pixel_s_ray_passes_the_middle_of_the_pixel() -> None:
    camera = build_sensors(SyntheticConfig()).camera
    u = 384 - 384 * camera.dy[0]
    v = 256 - 384 * camera.dz[511]
    assert (u, v) == pytest.approx((0.5, 511.5))
