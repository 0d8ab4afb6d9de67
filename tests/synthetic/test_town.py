import numpy as np
import pytest

from pipeline.datasets.anovox.class_ids import ROAD, ROAD_LINE
from pipeline.synthetic.ground import SIDEWALK, TERRAIN
from pipeline.synthetic.scenery import BUILDING, TRAFFIC_LIGHT, VEGETATION
from pipeline.synthetic.town import Town, block, build_town, things_near, town_ground


@pytest.fixture(scope="module")
def town() -> Town:
    return build_town("Town03", 0)


def label_at(town: Town, x: float, y: float) -> int:
    return int(town_ground(town).label_at(np.array([x]), np.array([y]))[0])


def test_towns_differ_by_name_and_by_seed_and_come_back_the_same() -> None:
    build_town.cache_clear()
    first = build_town("Town03", 0)
    build_town.cache_clear()
    assert build_town("Town03", 0) == first
    assert build_town("Town07", 0).road_width != first.road_width
    assert build_town("Town03", 1).pitch != first.pitch


def test_a_street_has_road_pavement_and_blocks_of_terrain(town: Town) -> None:
    middle = town.pitch[1] / 2
    assert label_at(town, town.lane_offset, middle) == ROAD
    assert label_at(town, town.road_width / 2 + 1.0, middle) == SIDEWALK
    assert label_at(town, town.pitch[0] / 2, middle) == TERRAIN


def test_a_crossing_has_no_lines_but_zebras_before_it(town: Town) -> None:
    span = np.linspace(-town.road_width / 2 + 0.3, town.road_width / 2 - 0.3, 60)
    ground = town_ground(town)
    assert (ground.label_at(span, 0.3 * span) == ROAD).all()
    zebra = ground.label_at(span, np.full(60, town.road_width / 2 + 2.0))
    assert 0.3 < (zebra == ROAD_LINE).mean() < 0.7


def test_the_ground_repeats_from_block_to_block(town: Town) -> None:
    x, y = np.random.default_rng(0).uniform(-30, 30, (2, 500))
    ground = town_ground(town)
    shifted = ground.label_at(x + 3 * town.pitch[0], y - 7 * town.pitch[1])
    assert (ground.label_at(x, y) == shifted).mean() > 0.99, "but for rounding at cell borders"


def test_a_block_is_the_same_whenever_it_is_built(town: Town) -> None:
    first = block(town, -2, 5)
    block.cache_clear()
    assert block(town, -2, 5) == first


def test_every_corner_of_a_block_bears_a_house_and_a_signal(town: Town) -> None:
    things = block(town, 0, 0)
    houses = [thing for thing in things if thing.label == BUILDING]
    for x in (town.front + 2.0, town.pitch[0] - town.front - 2.0):
        for y in (town.front + 2.0, town.pitch[1] - town.front - 2.0):
            assert any(
                abs(h.x - x) < h.solids[0].half_x and abs(h.y - y) < h.solids[0].half_y
                for h in houses
            )
    assert sum(thing.label == TRAFFIC_LIGHT for thing in things) == 4


def test_houses_keep_off_the_streets_and_furniture_off_the_road(town: Town) -> None:
    for thing in things_near(town, (0.0, 0.0), (200.0, 200.0)):
        x, y = (
            abs((v + p / 2) % p - p / 2)
            for v, p in zip((thing.x, thing.y), town.pitch, strict=True)
        )
        reach = town.front + 3 if thing.label == BUILDING else town.road_width / 2 + 0.3
        assert min(x, y) > reach, thing.label


def test_blocks_near_a_rectangle_reach_beyond_it_on_every_side(town: Town) -> None:
    things = things_near(town, (-50.0, -50.0), (150.0, 150.0))
    places = np.array([(thing.x, thing.y) for thing in things])
    assert (places.min(0) < -40).all()
    assert (places.max(0) > 140).all()
    assert any(thing.label == VEGETATION for thing in things)
