import json
import math

import numpy as np
import pytest

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.annotations import format_key_value, parse_anomaly, parse_key_value
from pipeline.datasets.anovox.geometry import FLIP, carla_transform
from pipeline.datasets.anovox.paths import SENSOR_FOLDER
from pipeline.synthetic.annotations import (
    action_record,
    anomaly_record,
    lead_action_record,
    lead_record,
    route_map,
    scenario_text,
    waypoints,
)
from pipeline.synthetic.plan import plan_scenes
from pipeline.synthetic.sensor_setup import sensor_folders, sensor_setup_text
from pipeline.synthetic.sensors import MONO
from pipeline.synthetic.world import SceneWorld, build_scene

CONFIG = SyntheticConfig(seed=4, num_scenes=8, num_frames=5)
ACTION_KEYS = (
    *("frame_id", "scenario_id", "vehicle_id", "vehicle_type_id", "speed", "throttle", "steer"),
    *("brake", "hand_brake", "reverse", "gear", "max_rpm", "final_ratio", "mass"),
    *("center_of_mass", "steering_curve"),
    *(f"{wheel}_wheel max steer angle" for wheel in ("FR", "FL", "BR", "BL")),
    *(f"{wheel}_wheel tire friction" for wheel in ("FR", "FL", "BR", "BL")),
    *("camera transformation matrix", "camera inverse transformation matrix"),
    *("lidar transformation matrix", "lidar inverse transformation matrix"),
)


@pytest.fixture(scope="module")
def worlds() -> list[SceneWorld]:
    return [build_scene(CONFIG, plan) for plan in plan_scenes(CONFIG)]


def test_action_has_anovox_s_28_lines_in_order(worlds: list[SceneWorld]) -> None:
    text = format_key_value(action_record(worlds[0], 2, 1002, (MONO,)))
    assert tuple(line.split(" ; ")[0] for line in text.splitlines()) == ACTION_KEYS
    assert len(ACTION_KEYS) == 28
    values = parse_key_value(text)
    assert values["frame_id"] == 1002
    assert values["speed"] == pytest.approx(worlds[0].speed[2] * 3.6)
    assert 0 <= values["throttle"] <= 1
    assert -1 <= values["steer"] <= 1


def test_matrices_are_carla_s_for_the_ego_s_pose(worlds: list[SceneWorld]) -> None:
    world = worlds[1]
    values = parse_key_value(format_key_value(action_record(world, 3, 7, (MONO,))))
    x, y, yaw = world.poses[3]
    expected = carla_transform((x, -y, 1.8), 0, 0, -math.degrees(yaw))
    matrix = np.array(values["lidar transformation matrix"])
    np.testing.assert_allclose(matrix, expected)
    inverse = np.array(values["lidar inverse transformation matrix"])
    np.testing.assert_allclose(matrix @ inverse, np.eye(4), atol=1e-9)
    ahead = FLIP @ matrix @ FLIP @ [5.0, 1.0, -1.8, 1.0]
    by_hand = [x + 5 * math.cos(yaw) - math.sin(yaw), y + 5 * math.sin(yaw) + math.cos(yaw), 0, 1]
    np.testing.assert_allclose(ahead, by_hand, atol=1e-9)


def test_a_turn_to_the_right_steers_to_the_right() -> None:
    config = SyntheticConfig(seed=4, num_scenes=12, num_frames=120)
    world = next(w for w in (build_scene(config, p) for p in plan_scenes(config)) if w.route.turn)
    steers = [action_record(world, k, k, (MONO,))["steer"] for k in range(120)]
    strongest = max(steers, key=abs)
    assert math.copysign(1, strongest) == -world.route.turn


def test_the_anomaly_s_record_says_where_it_lies_in_carla_s_world(
    worlds: list[SceneWorld],
) -> None:
    for world in (w for w in worlds if w.anomaly):
        anomaly = parse_anomaly(parse_key_value(format_key_value(anomaly_record(world, 9))))
        assert anomaly.type_id.startswith("static.prop.o_")
        assert anomaly.category in ("home", "animal", "special")
        thing = world.anomaly
        assert thing is not None
        assert anomaly.location is not None
        assert anomaly.location[:2] == pytest.approx((thing.x, -thing.y))
        assert anomaly.size in ("medium", "big", "huge")


def test_sensor_setup_lists_six_sensors_with_their_arguments() -> None:
    text = sensor_setup_text(CONFIG)
    assert "\n" not in text
    setup = json.loads(text)
    assert list(setup) == list(sensor_folders(CONFIG).values())
    assert all(SENSOR_FOLDER.fullmatch(folder) for folder in setup)
    keys = ["sensor_type", "file_ending", "location", "rotation", "args", "save_data"]
    assert all(list(entry) == keys for entry in setup.values())
    camera, *_, lidar = (entry["args"] for entry in setup.values())
    assert camera == {"image_height": 512, "image_width": 768, "camera_fov": 90.0}
    assert (lidar["channels"], lidar["points_per_second"], lidar["range"]) == (64, 1_000_000, 100.0)


def test_cameras_share_one_hash_and_lidars_another() -> None:
    hashes = [folder.rsplit("_", 1)[1] for folder in sensor_folders(CONFIG).values()]
    assert len(set(hashes[:4])) == len(set(hashes[4:])) == 1
    assert hashes[0] != hashes[4]
    assert all(18 <= len(number) <= 19 for number in hashes)


def test_the_route_map_shows_the_lane_ahead_straight_up() -> None:
    route = np.stack([np.arange(-20.0, 60.0), np.zeros(80), np.zeros(80)], axis=1)
    image = route_map(route, np.array([0.0, 0.0, 0.0]))
    assert image.shape == (192, 192)
    assert set(np.unique(image)) == {0, 255}
    columns = np.flatnonzero(image[10])
    assert abs(columns.mean() - 95.5) < 1.5
    assert 14 <= len(columns) <= 18
    beside = route_map(route, np.array([0.0, 4.0, 0.0]))
    assert np.flatnonzero(beside[10]).mean() == pytest.approx(95.5 + 20, abs=1.5)


def test_waypoints_are_a_metre_apart_and_at_least_105(worlds: list[SceneWorld]) -> None:
    for world in worlds:
        route = waypoints(world)
        assert len(route) >= 105
        gaps = np.hypot(*np.diff(route[:, :2], axis=0).T)
        assert gaps.max() < 1.01
        assert gaps.min() > 0.95


def test_the_scenario_list_has_every_scene_with_weather_route_and_anomaly(
    worlds: list[SceneWorld],
) -> None:
    text = scenario_text("Town03", worlds)
    assert text.startswith('{\n    "scenario_definition"')
    definition = json.loads(text)["scenario_definition"]
    assert definition["map"] == "Town03"
    for world, scenario in zip(worlds, definition["scenarios"], strict=True):
        assert scenario["id"] == world.plan.scene_id
        assert scenario["weather_preset"] == world.weather.name
        locations = scenario["ego_route"]["locations"]
        assert len(locations) >= 105
        config = scenario["anomaly_config"]
        if world.anomaly is None:
            assert config["anomalytype"] == "NORMALITY"
        else:
            place = locations[config["distance_to_waypoint"]]
            away = math.hypot(place["x"] - world.anomaly.x, place["y"] + world.anomaly.y)
            assert away < 15


@pytest.fixture(scope="module")
def braking() -> SceneWorld:
    """A dynamic scene of 40 frames; its window is 25 to 36."""
    config = SyntheticConfig(seed=4, num_scenes=1, num_frames=40, kinds=["dynamic"])
    return build_scene(config, plan_scenes(config)[0])


def test_variant_a_describes_the_car_ahead_as_the_actor_that_was_placed(
    braking: SceneWorld,
) -> None:
    lead = braking.lead
    assert lead is not None
    for frame in (5, 27, 39):
        text = format_key_value(lead_record(braking, frame, 1000 + frame))
        values = parse_key_value(text)
        anomaly = parse_anomaly(values)
        assert anomaly.type_id.startswith("vehicle.")
        assert anomaly.tags in ((14,), (15,))
        assert anomaly.category == ""
        x, y, yaw = lead.poses[frame]
        assert anomaly.location == pytest.approx((x, -y, 0.0))
        forward = np.array([math.cos(yaw), -math.sin(yaw), 0.0])
        np.testing.assert_allclose(values["velocity"], lead.speed[frame] * forward, atol=1e-9)
        np.testing.assert_allclose(
            values["acceleration"], lead.acceleration[frame] * forward, atol=1e-9
        )
        assert values["anomaly_is_alive"] is True
        assert (values["role_name"], values["number_of_wheels"]) == ("anomaly", 4)


def test_variant_b_has_action_s_lines_for_the_car_ahead_and_the_ego_s_matrices(
    braking: SceneWorld,
) -> None:
    lead = braking.lead
    assert lead is not None
    for frame in (5, 27):
        text = format_key_value(lead_action_record(braking, frame, frame, (MONO,)))
        ahead = parse_key_value(text)
        own = parse_key_value(format_key_value(action_record(braking, frame, frame, (MONO,))))
        assert tuple(ahead) == ACTION_KEYS
        assert parse_anomaly(ahead).location is None
        assert ahead["speed"] == pytest.approx(lead.speed[frame] * 3.6)
        assert ahead["vehicle_id"] != own["vehicle_id"]
        assert all(ahead[key] == own[key] for key in ACTION_KEYS if "matrix" in key)


def test_both_cars_press_the_brake_fully_and_let_go_of_the_throttle(braking: SceneWorld) -> None:
    ahead = [lead_action_record(braking, k, k, (MONO,)) for k in range(40)]
    own = [action_record(braking, k, k, (MONO,)) for k in range(40)]
    assert {k for k in range(40) if ahead[k]["brake"] == 1.0} == set(range(25, 36))
    assert {k for k in range(39) if own[k]["brake"] == 1.0} == set(range(28, 39))
    for record in (*ahead, *own):
        assert (record["throttle"] == 0.0) == (record["brake"] == 1.0)


def test_a_normal_ego_behind_a_braking_car_brakes_and_not_fully() -> None:
    config = SyntheticConfig(seed=4, num_scenes=8, num_frames=60, kinds=["normality", "dynamic"])
    gentle = [plan for plan in plan_scenes(config) if plan.lead == "gentle"]
    assert gentle
    for plan in gentle:
        world = build_scene(config, plan)
        brakes = [action_record(world, k, k, (MONO,))["brake"] for k in range(60)]
        assert 0.1 < max(brakes) <= 0.5
