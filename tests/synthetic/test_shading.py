"""One box on a road under a known sun: what must be brighter, checked, hazed or in shadow."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.datasets.protocol.geometry import intrinsics
from pipeline.synthetic.lighting import build_light
from pipeline.synthetic.patterns import CHECKER
from pipeline.synthetic.primitives import Solid, Thing, box, moved, pack, painted, seen_from
from pipeline.synthetic.raycast import FIRST_SOLID, GROUND, Hits, camera_grid, cast
from pipeline.synthetic.shading import NOISE_SIGMA, shade
from pipeline.synthetic.town import build_town, town_ground
from pipeline.synthetic.weather import preset

HEIGHT_M = 1.8
TOWN = build_town("Town03", 0)
POSE = np.array([TOWN.lane_offset, TOWN.pitch[1] / 2, math.pi / 2])
GRID = camera_grid(120, 80, intrinsics(120, 80, 90), 999.0)
WHITE, BLACK = (0.9, 0.9, 0.9), (0.05, 0.05, 0.05)


def picture(
    solid: Solid, *, ahead: float = 8.0, weather: str = "CLEAR_NOON", sun: float = -math.pi / 2
) -> tuple[np.ndarray, Hits]:
    """Picture of a solid ahead of a camera that looks along world y; the sun shines from `sun`."""
    thing = Thing(label=20, solids=(solid,), x=float(POSE[0]), y=float(POSE[1]) + ahead)
    world = moved(pack([thing]), np.array([[thing.x, thing.y, math.pi / 2]]))
    light = build_light(
        preset(weather, rich=False), sun, world, POSE[None, :2], np.random.default_rng(0)
    )
    solids = seen_from(world, POSE, HEIGHT_M)
    hits = cast(GRID, solids, ground=-HEIGHT_M)
    image = shade(
        hits,
        GRID,
        solids,
        pose=POSE,
        height=HEIGHT_M,
        ground=town_ground(TOWN),
        light=light,
        rng=np.random.default_rng(1),
    )
    return image.astype(float), hits


def face(image: np.ndarray, hits: Hits) -> np.ndarray:
    return image[hits.surface == FIRST_SOLID]


def test_a_face_towards_the_sun_is_brighter_than_one_away_from_it() -> None:
    block = box((2, 3, 2), colour=(0.5, 0.5, 0.5))
    behind_us, in_front = (picture(block, sun=way) for way in (-math.pi / 2, math.pi / 2))
    assert face(*behind_us).mean() > 1.3 * face(*in_front).mean()


def test_a_checked_box_shows_both_colours_and_a_plain_one_only_noise() -> None:
    plain = box((2, 3, 2), colour=WHITE)
    lum = face(*picture(plain, weather="CLOUDY_NOON")).mean(1)
    checked = face(*picture(painted(plain, BLACK, CHECKER, 0.5), weather="CLOUDY_NOON")).mean(1)
    assert checked.std() > 4 * lum.std()
    assert np.mean(checked < 0.5 * lum.mean()) == pytest.approx(0.5, abs=0.12)


def test_haze_draws_far_surfaces_to_the_colour_of_the_horizon() -> None:
    wall = box((2, 60, 30), colour=BLACK)
    near, far = (face(*picture(wall, ahead=m, weather="HARD_RAIN_NOON")) for m in (15.0, 120.0))
    horizon = np.array(preset("HARD_RAIN_NOON", rich=False).horizon) * 255
    assert np.abs(far.mean(0) - horizon).max() < 0.6 * np.abs(near.mean(0) - horizon).max()


def test_a_tall_box_throws_its_shadow_on_the_road_before_it() -> None:
    post = box((1, 3, 6), colour=WHITE)
    image, hits = picture(post, sun=math.pi / 2)
    lit, _ = picture(post, sun=-math.pi / 2)
    before = (slice(-22, -14), slice(52, 68))
    assert (hits.surface[before] == GROUND).all()
    assert image[before].mean() < 0.7 * lit[before].mean()


def test_noise_has_its_deviation_and_differs_from_frame_to_frame() -> None:
    black = replace(box((2, 60, 30), colour=(0.0, 0.0, 0.0)), pattern=0)
    image, hits = picture(black, weather="CLEAR_NOON")
    flat = image[hits.surface == FIRST_SOLID]
    assert flat[:, 2].std() == pytest.approx(NOISE_SIGMA, rel=0.25)
    again, _ = picture(black, weather="CLEAR_NOON")
    np.testing.assert_array_equal(image, again)


@pytest.mark.parametrize("weather", ["CLEAR_NOON", "HARD_RAIN_NOON", "CLEAR_SUNSET"])
def test_the_sky_is_lighter_than_the_road(weather: str) -> None:
    image, hits = picture(box((1, 1, 1), colour=WHITE), weather=weather)
    assert image[:20].mean() > image[hits.surface == GROUND].mean()
