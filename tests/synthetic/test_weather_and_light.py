import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.config.data import SyntheticConfig
from pipeline.synthetic.lighting import SHADOW_CELL_M, build_light
from pipeline.synthetic.plan import plan_scenes
from pipeline.synthetic.primitives import Solids, Thing, box, moved, pack
from pipeline.synthetic.sensor_sim import Observer
from pipeline.synthetic.sensors import build_sensors
from pipeline.synthetic.weather import WEATHER_NAMES, preset
from pipeline.synthetic.world import build_scene

GREY = (0.5, 0.5, 0.5)


def tower() -> Solids:
    thing = Thing(label=3, solids=(box((2, 2, 5), colour=GREY),), x=0.0, y=0.0)
    return moved(pack([thing]), np.array([[10.0, 0.0, 0.0]]))


def test_there_are_anovox_s_fourteen_presets_and_each_has_its_own_light() -> None:
    assert len(WEATHER_NAMES) == len(set(WEATHER_NAMES)) == 14
    looks = {
        (w.sun, w.haze_m, w.wetness, w.sun_elevation_deg)
        for w in (preset(name, rich=False) for name in WEATHER_NAMES)
    }
    assert len(looks) == 14


def test_rain_is_hazier_and_less_sunny_than_clear_sky() -> None:
    clear, rain = preset("CLEAR_NOON", rich=False), preset("HARD_RAIN_NOON", rich=False)
    assert clear.haze_m > 5 * rain.haze_m
    assert max(rain.sun) < 0.1 < max(clear.sun)


@pytest.mark.parametrize("azimuth", [0.0, math.pi / 2, 2.5])
def test_a_shadow_falls_away_from_the_sun_as_far_as_its_height_asks(azimuth: float) -> None:
    noon = preset("CLEAR_NOON", rich=False)
    light = build_light(noon, azimuth, tower(), np.zeros((1, 2)), np.random.default_rng(0))
    length = 5 / math.tan(math.radians(noon.sun_elevation_deg))
    away = np.array([-math.cos(azimuth), -math.sin(azimuth)])
    near, far, sunward = (
        np.array([10.0, 0.0]) + away * step for step in (0.9 * length, length + 2.2, -2.5)
    )
    lit, _ = light.on_ground(*np.stack([near, far, sunward]).T)
    assert lit.tolist() == [0.0, 1.0, 1.0]


def test_ground_beside_a_wall_sees_less_sky() -> None:
    light = build_light(
        preset("CLOUDY_NOON", rich=False), 0.0, tower(), np.zeros((1, 2)), np.random.default_rng(0)
    )
    _, opened = light.on_ground(np.array([8.9, 5.0]), np.array([0.0, 0.0]))
    assert opened[0] < 0.85
    assert opened[1] == 1.0


def test_the_sky_closes_up_all_around() -> None:
    light = build_light(
        preset("CLOUDY_NOON", rich=False), 0.0, tower(), np.zeros((1, 2)), np.random.default_rng(0)
    )
    step = np.abs(np.diff(light.sky, axis=2)).max()
    seam = np.abs(light.sky[:, :, 0] - light.sky[:, :, -1]).max()
    assert seam < 1.5 * step
    assert SHADOW_CELL_M == 0.2


def pictures(rich: bool) -> dict[str, np.ndarray]:
    """One frame of one scene under each preset; the camera's noise is the same in all."""
    config = SyntheticConfig(
        seed=1, num_scenes=8, num_frames=6, image_width=192, image_height=128, num_channels=2
    )
    world, sensors = build_scene(config, plan_scenes(config)[5]), build_sensors(config)
    images: dict[str, np.ndarray] = {}
    for name in WEATHER_NAMES:
        observer = Observer(replace(world, weather=preset(name, rich=rich)), sensors)
        images[name] = observer.observe(3).pictures[0].image.astype(float)
    return images


@pytest.fixture(scope="module")
def plain_pictures() -> dict[str, np.ndarray]:
    return pictures(rich=False)


@pytest.fixture(scope="module")
def rich_pictures() -> dict[str, np.ndarray]:
    return pictures(rich=True)


def test_each_pair_of_presets_gives_measurably_different_images(
    plain_pictures: dict[str, np.ndarray], rich_pictures: dict[str, np.ndarray]
) -> None:
    """Mean absolute difference in 8-bit steps, the closest pair of the 91."""
    for images, least in ((plain_pictures, 1.5), (rich_pictures, 2.5)):
        apart = [
            np.abs(images[a] - images[b]).mean()
            for a, b in itertools.combinations(WEATHER_NAMES, 2)
        ]
        assert len(apart) == 91
        assert min(apart) > least


def test_sunset_is_darker_and_warmer_than_noon(plain_pictures: dict[str, np.ndarray]) -> None:
    noon, sunset = plain_pictures["CLEAR_NOON"], plain_pictures["CLEAR_SUNSET"]
    assert sunset.mean() < noon.mean() - 10
    warmth = [image[..., 0].mean() - image[..., 2].mean() for image in (noon, sunset)]
    assert warmth[1] > warmth[0] + 15


def test_streaks_grow_with_the_rain_and_dry_presets_have_none(
    plain_pictures: dict[str, np.ndarray], rich_pictures: dict[str, np.ndarray]
) -> None:
    above = {name: (rich_pictures[name] - plain_pictures[name])[:60] for name in WEATHER_NAMES}
    spread = [
        above[name].std()
        for name in ("WET_CLOUDY_NOON", "SOFT_RAIN_NOON", "MID_RAINY_NOON", "HARD_RAIN_NOON")
    ]
    assert all(less + 0.5 < more for less, more in itertools.pairwise(spread))
    for name in ("CLEAR_NOON", "CLOUDY_NOON", "CLEAR_SUNSET", "CLOUDY_SUNSET"):
        np.testing.assert_array_equal(rich_pictures[name], plain_pictures[name])


def test_puddles_brighten_parts_of_a_wet_road_and_leave_the_rest(
    plain_pictures: dict[str, np.ndarray], rich_pictures: dict[str, np.ndarray]
) -> None:
    change = (rich_pictures["WET_NOON"] - plain_pictures["WET_NOON"])[70:].mean(-1)
    assert 0.03 < (change > 15).mean() < 0.5
    assert (change == 0).mean() > 0.4
