import math
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.class_ids import ANOMALY
from pipeline.synthetic.placement import ASIDE_M, NEAR_M, swept_ground
from pipeline.synthetic.plan import plan_scenes
from pipeline.synthetic.primitives import Thing
from pipeline.synthetic.props import DYNAMIC, STATIC
from pipeline.synthetic.scenery import BUILDING
from pipeline.synthetic.world import SceneWorld, build_scene

SMALL_OBJECTS = {STATIC, DYNAMIC, *ANOMALY}


def build(num_frames: int, number: int = 24) -> Iterator[SceneWorld]:
    config = SyntheticConfig(seed=11, num_scenes=number, num_frames=num_frames)
    for plan in plan_scenes(config):
        yield build_scene(config, plan)


@pytest.fixture(scope="module")
def worlds() -> list[SceneWorld]:
    return list(build(20))


def small(world: SceneWorld) -> list[Thing]:
    return [thing for thing in world.things if thing.label in SMALL_OBJECTS]


def test_a_static_scene_has_one_anomaly_and_a_normal_scene_none(worlds: list[SceneWorld]) -> None:
    for world in worlds:
        anomalies = [thing for thing in world.things if thing.label in ANOMALY]
        assert len(anomalies) == (world.plan.kind == "static")
        assert world.anomaly == (anomalies[0] if anomalies else None)


def test_the_anomaly_takes_the_place_of_an_ordinary_object(worlds: list[SceneWorld]) -> None:
    """So the number of small objects in the road does not tell static from normal scenes."""
    for world in worlds:
        assert 4 <= len(small(world)) <= 7


def test_objects_in_the_road_lie_ahead_of_the_ego_at_the_reference(
    worlds: list[SceneWorld],
) -> None:
    for world in worlds:
        x, y, yaw = world.route.middle(np.zeros(1))[0]
        num_near = 0
        for thing in small(world):
            dx, dy = thing.x - x, thing.y - y
            ahead = math.cos(yaw) * dx + math.sin(yaw) * dy
            aside = math.cos(yaw) * dy - math.sin(yaw) * dx
            is_near = NEAR_M[0] <= ahead <= NEAR_M[1] and abs(aside) <= ASIDE_M
            num_near += is_near
            if thing is world.anomaly:
                assert is_near != world.plan.hidden
        assert num_near >= 3


@pytest.mark.parametrize("num_frames", [6, 200])
def test_the_ego_never_drives_through_an_object(num_frames: int) -> None:
    for world in build(num_frames, 4):
        body = swept_ground(world.poses)
        for thing in (t for t in world.things if t.speed == 0 and t.follow_gap is None):
            gap = np.hypot(body[:, 0] - thing.x, body[:, 1] - thing.y).min()
            assert gap > (1.0 if thing.label != BUILDING else 3.0), thing.label


def test_small_objects_do_not_stand_in_one_another(worlds: list[SceneWorld]) -> None:
    for world in worlds:
        objects = small(world)
        for i, one in enumerate(objects):
            for other in objects[:i]:
                gap = math.hypot(one.x - other.x, one.y - other.y)
                assert gap > one.radius + other.radius


def test_the_ego_keeps_to_plausible_speeds_and_to_the_road(worlds: list[SceneWorld]) -> None:
    for world in worlds:
        assert world.speed.min() > 5.5
        assert world.speed.max() < 14.6
        half = world.town.road_width / 2
        off = [
            np.abs((place + pitch / 2) % pitch - pitch / 2)
            for place, pitch in zip(world.poses[:, :2].T, world.town.pitch, strict=True)
        ]
        assert (np.minimum(*off) < half).all()


def test_some_scenes_turn_and_hidden_ones_always_would(worlds: list[SceneWorld]) -> None:
    turns = [world.route.turn for world in worlds]
    assert 0.4 < np.mean(np.abs(turns)) < 0.95
    assert {-1, 0, 1} == set(turns)
    assert all(world.route.turn for world in worlds if world.plan.hidden)


def test_a_long_recording_drives_through_its_turn(worlds: list[SceneWorld]) -> None:
    world = next(w for w in build(200, 8) if w.route.turn)
    turned = world.poses[-1, 2] - world.poses[0, 2]
    assert turned == pytest.approx(world.route.turn * math.pi / 2, abs=0.1)
    assert world.s[-1] - world.s[0] > 120


def test_moving_things_move_and_followers_keep_their_distance(worlds: list[SceneWorld]) -> None:
    followed = 0
    for world in worlds:
        first, last = (world.solids_at(frame) for frame in (0, world.num_frames - 1))
        for number, thing in enumerate(world.things):
            row = int(np.flatnonzero(first.thing == number)[0])
            step = math.hypot(last.x[row] - first.x[row], last.y[row] - first.y[row])
            if thing.follow_gap is None:
                assert step == pytest.approx(thing.speed * 0.1 * 19, abs=0.01)
            else:
                followed += 1
                assert step > 5
    assert followed > 3


def test_a_scene_is_the_same_each_time_it_is_built() -> None:
    once, again = (next(build(4, 4)) for _ in range(2))
    assert once.things == again.things
    np.testing.assert_array_equal(once.poses, again.poses)
