"""The car ahead: when and how it brakes, how the ego follows, what the labels say of it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.class_ids import is_anomaly
from pipeline.datasets.anovox.geometry import FLIP, voxel_from_lidar, voxel_indices
from pipeline.synthetic.annotations import lead_record, sensor_matrix
from pipeline.synthetic.lead_vehicle import (
    GENTLE_MPS2,
    REACTION_FRAMES,
    SUDDEN_MPS2,
    Lead,
    draw_braking,
    sudden_window,
)
from pipeline.synthetic.plan import plan_scenes
from pipeline.synthetic.primitives import Solid
from pipeline.synthetic.scenery import CAR, TRUCK
from pipeline.synthetic.sensor_sim import Observer
from pipeline.synthetic.sensors import MONO, build_sensors
from pipeline.synthetic.world import SceneWorld, build_scene
from tests.helpers.seen import Seen, see

CONFIG = SyntheticConfig(
    seed=1, num_scenes=8, num_frames=200, kinds=["normality", "dynamic"], towns=["Town03"]
)
EYES = replace(
    CONFIG,
    seed=7,
    num_scenes=4,
    num_frames=40,
    image_width=192,
    image_height=128,
    num_channels=32,
    points_per_second=250_000,
)


def lead_of(world: SceneWorld) -> Lead:
    assert world.lead is not None
    return world.lead


def of_kind(worlds: list[SceneWorld], how: str) -> list[SceneWorld]:
    return [world for world in worlds if world.plan.lead == how]


@pytest.fixture(scope="module")
def worlds() -> list[SceneWorld]:
    return [build_scene(CONFIG, plan) for plan in plan_scenes(CONFIG)]


def test_the_window_is_anovox_s_at_200_frames_and_scales_down_to_20() -> None:
    assert sudden_window(200) == (124, 154)
    assert sudden_window(100) == (62, 91)
    assert sudden_window(20) == (12, 17)
    for number in range(20, 300):
        first, last = sudden_window(number)
        assert 6 <= last - first + 1 <= 31
        assert last < number - 1, "it drives on afterwards"


def test_it_brakes_fully_from_the_frame_after_the_window_begins_until_it_stands(
    worlds: list[SceneWorld],
) -> None:
    sudden = of_kind(worlds, "sudden")
    assert len(sudden) == 4
    for world in sudden:
        lead = lead_of(world)
        assert lead.acceleration[:125].min() > -3
        full = lead.acceleration[125:155][lead.speed[125:155] > 0]
        assert len(full) >= 6
        np.testing.assert_allclose(full, -lead.braking.deceleration)
        assert SUDDEN_MPS2[0] <= lead.braking.deceleration <= SUDDEN_MPS2[1]
        assert (lead.speed[145:155] == 0).all()
        assert (np.diff(lead.speed[154:160]) > 0).all()


@pytest.mark.parametrize("num_frames", [20, 33, 60])
def test_a_short_recording_has_the_whole_braking_too(num_frames: int) -> None:
    config = replace(CONFIG, num_frames=num_frames, num_scenes=4, kinds=["dynamic"])
    first, last = sudden_window(num_frames)
    for plan in plan_scenes(config):
        lead = lead_of(build_scene(config, plan))
        assert lead.speed[first] > 2
        assert lead.speed[last] == 0
        assert lead.speed[last + 1] > 0
        assert (lead.acceleration[first + 1 : first + 4] < -4).all()


def test_gentle_braking_stays_gentle_and_drives_on(worlds: list[SceneWorld]) -> None:
    gentle = of_kind(worlds, "gentle")
    assert len(gentle) == len(of_kind(worlds, "none")) == 2
    for world in gentle:
        lead, braking = lead_of(world), lead_of(world).braking
        assert GENTLE_MPS2[0] <= braking.deceleration <= GENTLE_MPS2[1]
        assert lead.acceleration.min() > -3.2
        assert lead.speed[braking.start] - lead.speed[braking.end] > 1
        assert lead.speed[-1] > lead.speed[braking.end]


def test_gentle_braking_comes_at_any_time_and_half_of_it_would_stand() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_braking(rng, "gentle", 200) for _ in range(400)]
    assert 0.4 < np.mean([braking.low_share == 0 for braking in drawn]) < 0.6
    starts = [braking.start for braking in drawn]
    assert min(starts) < 65 < 115 < max(starts)
    assert all(40 <= braking.end - braking.start <= 70 for braking in drawn)


def test_the_ego_does_the_same_a_moment_later_and_never_touches_it(
    worlds: list[SceneWorld],
) -> None:
    for world in worlds:
        if world.lead is None:
            continue
        lead = world.lead
        np.testing.assert_array_equal(world.speed[REACTION_FRAMES:], lead.speed[:-REACTION_FRAMES])
        back = max(solid.half_x - solid.x for solid in lead.thing.solids)
        gap = lead.s - world.s - back - 2.45
        assert gap.min() > 1.99
        assert gap.max() < 7.5
        moving = lead.speed > 7
        assert 3.5 < gap[moving].mean() < 7
        away = np.hypot(*(lead.poses - world.poses)[:, :2].T)
        assert 6 < away.min() < away.max() < 14


def test_ways_and_speeds_of_both_cars_agree(worlds: list[SceneWorld]) -> None:
    for world in of_kind(worlds, "sudden"):
        lead = lead_of(world)
        mean = (lead.speed[1:] + lead.speed[:-1]) / 2
        np.testing.assert_allclose(np.diff(lead.s) / 0.1, mean, atol=0.3)
        assert world.s[world.reference] == pytest.approx(0.0, abs=1e-9)


def test_nothing_stands_in_the_way_of_the_car_ahead(worlds: list[SceneWorld]) -> None:
    for world in worlds:
        if world.lead is None:
            continue
        places = world.lead.poses[:, :2]
        standing = [t for t, stands in zip(world.things, world.stands, strict=False) if stands]
        for thing in standing:
            gap = np.hypot(places[:, 0] - thing.x, places[:, 1] - thing.y).min()
            assert gap > 1.2, thing.label
        assert all((thing.follow_gap or -1) < 0 for thing in world.things)


def test_normal_scenes_without_dynamic_ones_beside_them_have_no_car_ahead() -> None:
    config = replace(CONFIG, kinds=["normality", "static"])
    assert {plan.lead for plan in plan_scenes(config)} == {"none"}


def labels_of(seen: Seen, classes: tuple[int, ...]) -> list[int]:
    """How often the classes come in image, cloud and grid."""
    arrays = (seen.semantic, seen.point_class, seen.voxels[:, 3])
    return [int(np.isin(array, classes).sum()) for array in arrays]


@pytest.mark.parametrize("labels", ["ids", "native"])
def test_its_class_follows_the_window_in_image_cloud_and_grid(labels: str) -> None:
    config = replace(EYES, kinds=["dynamic"], num_scenes=1, dynamic_labels=labels)
    (plan,) = plan_scenes(config)
    world = build_scene(config, plan)
    observer = Observer(world, build_sensors(config))
    native = lead_of(world).thing.label
    first, last = sudden_window(40)
    for frame in (first - 1, first, last, last + 1):
        seen = see(observer, frame)
        braking, agent = labels_of(seen, (100,)), labels_of(seen, (114,))
        shown = braking if first <= frame <= last else agent
        hidden = agent if first <= frame <= last else braking
        assert max(hidden) == 0
        is_shown = [count > 5 for count in shown]
        assert is_shown == [labels == "ids"] * 3
        number = 16 + len(world.things) - 1
        _, low, high = np.moveaxis(seen.instance.astype(int), -1, 0)
        own = low + 256 * high == number
        assert own.sum() > 50
        assert (seen.instance[own, 0] == native).all()
        expected = {100 if first <= frame <= last else 114} if labels == "ids" else {native}
        assert set(seen.semantic[own].tolist()) == expected


def test_gentle_traffic_bears_its_own_class() -> None:
    for plan in plan_scenes(EYES):
        world = build_scene(EYES, plan)
        if plan.lead == "gentle":
            assert world.class_ids(0)[-2] in (CAR, TRUCK)
            seen = see(Observer(world, build_sensors(EYES)), 20)
            assert not is_anomaly(seen.point_class).any()
            assert not np.isin(seen.semantic, (100, 114)).any()


def body(solids: tuple[Solid, ...]) -> np.ndarray:
    """Half length, half width, height of the vehicle's box."""
    ends = [(abs(s.x) + s.half_x, abs(s.y) + s.half_y, s.top) for s in solids]
    return np.max(ends, axis=0)


def test_its_recorded_location_is_the_middle_of_its_points() -> None:
    """Every point labelled 100 lies in the vehicle's box around `location`, within 0.1 m."""
    config = replace(EYES, kinds=["dynamic"])
    num_points = 0
    for plan in plan_scenes(config):
        world = build_scene(config, plan)
        lead, observer = lead_of(world), Observer(world, build_sensors(config))
        for frame in (25, 30, 35):
            seen = see(observer, frame)
            location = lead_record(world, frame, 1)["location"]
            inverse = np.linalg.inv(sensor_matrix(world.poses[frame], MONO))
            in_lidar = FLIP @ inverse @ [*location, 1.0]
            away = seen.exact_xyz[seen.point_class == 100] - in_lidar[:3]
            turn = lead.poses[frame, 2] - world.poses[frame, 2]
            ahead = away[:, 0] * math.cos(turn) + away[:, 1] * math.sin(turn)
            left = away[:, 1] * math.cos(turn) - away[:, 0] * math.sin(turn)
            local = np.stack([np.abs(ahead), np.abs(left), away[:, 2]], axis=1)
            assert (local <= body(lead.thing.solids) + 0.1).all()
            assert (away[:, 2] > -0.1).all()
            num_points += len(away)
    assert num_points > 1000


def test_anomalous_voxels_hold_anomalous_points() -> None:
    config = replace(EYES, kinds=["dynamic"], num_scenes=1)
    (plan,) = plan_scenes(config)
    seen = see(Observer(build_scene(config, plan), build_sensors(config)), 28)
    points = seen.exact_xyz[seen.point_class == 100]
    matrix = voxel_from_lidar(MONO.location, MONO.rotation)
    cells, _ = voxel_indices(points, voxel_from_lidar=matrix)
    anomalous = seen.voxels[seen.voxels[:, 3] == 100, :3].astype(np.int64)
    assert len(anomalous) > 5
    assert set(map(tuple, anomalous.tolist())) <= set(map(tuple, cells.tolist()))


def test_a_scene_with_a_car_ahead_is_the_same_each_time_it_is_built() -> None:
    plan = plan_scenes(EYES)[1]
    once, again = build_scene(EYES, plan), build_scene(EYES, plan)
    assert once.things == again.things
    np.testing.assert_array_equal(lead_of(once).poses, lead_of(again).poses)
