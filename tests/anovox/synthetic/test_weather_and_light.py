import math

import numpy as np
import pytest

from pipeline.anovox.synthetic.light import SHADOW_CELL_M, build_light
from pipeline.anovox.synthetic.solids import Solids, Thing, box, moved, pack
from pipeline.anovox.synthetic.weather import NAMES, preset

GREY = (0.5, 0.5, 0.5)


def tower() -> Solids:
    thing = Thing(label=3, solids=(box((2, 2, 5), colour=GREY),), x=0.0, y=0.0)
    return moved(pack([thing]), np.array([[10.0, 0.0, 0.0]]))


def test_there_are_anovox_s_fourteen_presets_and_each_has_its_own_light() -> None:
    assert len(NAMES) == len(set(NAMES)) == 14
    looks = {
        (w.sun, w.haze_m, w.wetness, w.sun_elevation_deg)
        for w in (preset(name, rich=False) for name in NAMES)
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
