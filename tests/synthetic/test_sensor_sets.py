"""Every pose of every sensor set: where it sits, what its files are called, what it sees."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.data import SensorSet, SyntheticConfig
from pipeline.datasets.anovox.annotations import parse_key_value
from pipeline.datasets.anovox.class_ids import ROAD
from pipeline.datasets.anovox.geometry import (
    camera_from_lidar,
    carla_transform,
    voxel_from_lidar,
    voxelise,
)
from pipeline.datasets.anovox.paths import SENSOR_FOLDER, SENSOR_TYPES
from pipeline.datasets.protocol.geometry import in_view, intrinsics, project, transform
from pipeline.synthetic.corruptions import archive_of
from pipeline.synthetic.plan import plan_scenes
from pipeline.synthetic.sensor_setup import sensor_folders, sensor_setup_text
from pipeline.synthetic.sensor_sim import Cloud, Observation, Observer, Picture
from pipeline.synthetic.sensors import SENSOR_SETS, SensorMount, build_sensors
from pipeline.synthetic.world import build_scene
from pipeline.synthetic.writer import write_archives

WIDTH, HEIGHT = 192, 128


def config_of(sensor_set: SensorSet) -> SyntheticConfig:
    return SyntheticConfig(
        seed=1,
        num_scenes=2,
        num_frames=2,
        towns=["Town03"],
        sensor_set=sensor_set,  # pyright: ignore[reportArgumentType]
        image_width=WIDTH,
        image_height=HEIGHT,
        num_channels=32,
        points_per_second=160_000,
        num_processes=1,
    )


def observed(sensor_set: SensorSet) -> Observation:
    config = config_of(sensor_set)
    world = build_scene(config, plan_scenes(config)[1])
    return Observer(world, build_sensors(config)).observe(1)


@pytest.fixture(scope="module")
def seen() -> dict[SensorSet, Observation]:
    return {name: observed(name) for name in SENSOR_SETS}


def on_vehicle(mount: SensorMount) -> np.ndarray:
    """CARLA's matrix from the sensors to the vehicle."""
    return carla_transform(mount.location, *mount.rotation)


def agreement(
    cloud: Cloud, at: SensorMount, picture: Picture, seen_from: SensorMount
) -> tuple[float, int]:
    """Share of a cloud's unhidden points whose class is that of their pixel, and their number."""
    k = intrinsics(WIDTH, HEIGHT, 90)
    matrix = camera_from_lidar(on_vehicle(at), on_vehicle(seen_from))
    uv, depth = project(cloud.exact_xyz, k, matrix)
    inside = in_view(uv, depth, WIDTH, HEIGHT)
    column, row = uv[inside].astype(int).T
    unhidden = depth[inside] < picture.depth_m[row, column] * 1.05 + 0.5
    same = picture.semantic[row, column] == cloud.point_class[inside]
    return float(same[unhidden].mean()), int(unhidden.sum())


def test_the_sets_have_anovox_s_numbers_of_poses_and_begin_in_the_middle() -> None:
    assert {name: len(mounts) for name, mounts in SENSOR_SETS.items()} == {
        "Mono": 1,
        "Stereo": 3,
        "StereoOneLidar": 3,
        "Multi": 7,
        "Surround": 10,
    }
    for mounts in SENSOR_SETS.values():
        assert mounts[0].location == (0, 0, 1.8)
        assert len({(mount.location, mount.yaw_deg) for mount in mounts}) == len(mounts)


def test_a_mount_on_the_right_that_looks_to_the_right_is_there_in_the_world() -> None:
    mount = SensorMount(location=(1, 0.9, 1.8), yaw_deg=15)
    x, y, yaw = mount.pose(np.array([10.0, 20.0, np.pi / 2]))
    assert (x, y) == pytest.approx((10.9, 21.0))
    assert yaw == pytest.approx(np.pi / 2 - np.radians(15))


@pytest.mark.parametrize("name", list(SENSOR_SETS))
def test_each_cloud_agrees_with_every_picture_of_its_set(
    seen: dict[SensorSet, Observation], name: SensorSet
) -> None:
    mounts = SENSOR_SETS[name]
    num_pairs = 0
    for (at, cloud), (of, picture) in itertools.product(
        seen[name].clouds.items(), seen[name].pictures.items()
    ):
        share, number = agreement(cloud, mounts[at], picture, mounts[of])
        assert number > 300
        assert share > (0.96 if at == of else 0.92), (at, of)
        num_pairs += 1
    assert num_pairs == {"StereoOneLidar": 2}.get(name, len(mounts) ** 2)


def test_the_wrong_pose_does_not_agree(seen: dict[SensorSet, Observation]) -> None:
    stereo, (middle, left, right) = seen["Stereo"], SENSOR_SETS["Stereo"]
    true, _ = agreement(stereo.clouds[0], middle, stereo.pictures[1], left)
    mirrored, _ = agreement(stereo.clouds[0], middle, stereo.pictures[1], right)
    assert mirrored < true - 0.05


def test_the_grid_is_that_of_all_clouds_in_the_set_s_order(
    seen: dict[SensorSet, Observation],
) -> None:
    for name, mounts in SENSOR_SETS.items():
        clouds = seen[name].clouds
        moved = [
            transform(c.exact_xyz, voxel_from_lidar(mounts[k].location, mounts[k].rotation))
            for k, c in clouds.items()
        ]
        classes = np.concatenate([cloud.point_class for cloud in clouds.values()])
        voxels, _ = voxelise(np.concatenate(moved), classes, voxel_from_lidar=np.eye(4))
        assert len(voxels) == len(seen[name].voxels)
        assert (voxels == seen[name].voxels).all(1).mean() > 0.999


def test_the_road_of_multi_lies_in_two_layers_of_its_grid(
    seen: dict[SensorSet, Observation],
) -> None:
    """As in AnoVox, whose generator subtracts heights of 1.8 and 1.0 where it should add them."""
    heights = {}
    both: tuple[SensorSet, ...] = ("Surround", "Multi")
    for name in both:
        road = seen[name].voxels[seen[name].voxels[:, 3] == ROAD]
        heights[name] = set(np.flatnonzero(np.bincount(road[:, 2]) > 100).tolist())
    assert heights["Surround"] == {24}
    assert heights["Multi"] == {24, 28}


def test_poses_have_noise_of_their_own_and_the_first_is_mono_s(
    seen: dict[SensorSet, Observation],
) -> None:
    mono, stereo = seen["Mono"], seen["Stereo"]
    for name in ("points", "exact_xyz", "point_class"):
        np.testing.assert_array_equal(
            getattr(mono.clouds[0], name), getattr(stereo.clouds[0], name)
        )
    np.testing.assert_array_equal(mono.pictures[0].image, stereo.pictures[0].image)
    noise = [
        np.linalg.norm(c.points[:, :3], axis=1) - np.linalg.norm(c.exact_xyz, axis=1)
        for c in stereo.clouds.values()
    ]
    shortest = min(map(len, noise))
    assert abs(np.corrcoef(noise[1][:shortest], noise[2][:shortest])[0, 1]) < 0.1


def test_only_recorded_sensors_have_folders_and_the_setup_lists_all(tmp_path: Path) -> None:
    config = config_of("StereoOneLidar")
    write_archives(config, tmp_path)
    assert {path.name for path in tmp_path.glob("AnoVox*")} == {
        "AnoVox_Normality_Stereo_Town03",
        "AnoVox_Static_Stereo_Town03",
    }
    for scene in tmp_path.glob("*/Scenario_*-*"):
        setup = json.loads((scene / "sensor_setup.json").read_text())
        assert [entry["sensor_type"] for entry in setup.values()] == [*SENSOR_TYPES] * 3
        saved = {name for name, entry in setup.items() if entry["save_data"]}
        assert {p.name for p in scene.iterdir() if SENSOR_FOLDER.fullmatch(p.name)} == saved
        kinds = [name.split("(")[0] for name in saved]
        assert (kinds.count("RGB-CAM"), kinds.count("LIDAR")) == (2, 1)
        assert all(len(list((scene / name).iterdir())) == 2 for name in saved)
        action = parse_key_value(next((scene / "ACTION").iterdir()).read_text())
        camera, lidar = (
            np.array(action[f"{sensor} transformation matrix"]) for sensor in ("camera", "lidar")
        )
        mounts = SENSOR_SETS["StereoOneLidar"]
        by_camera = camera @ np.linalg.inv(on_vehicle(mounts[2]))
        by_lidar = lidar @ np.linalg.inv(on_vehicle(mounts[0]))
        np.testing.assert_allclose(by_camera, by_lidar, atol=1e-9)


@pytest.mark.parametrize("name", ["Multi", "Surround"])
def test_folders_are_named_by_pose_as_anovox_names_them(name: SensorSet) -> None:
    config = config_of(name)
    folders = sensor_folders(config)
    assert len(set(folders.values())) == 6 * len(SENSOR_SETS[name])
    assert all(SENSOR_FOLDER.fullmatch(folder) for folder in folders.values())
    assert list(json.loads(sensor_setup_text(config))) == list(folders.values())
    last = folders[len(SENSOR_SETS[name]) - 1, "DEPTH_CAM"]
    pose = {"Multi": "(-1.5, -0.9, 1)(0, 0, -170)", "Surround": "(0, 0, 1.8)(0, 0, 180)"}
    assert last.startswith(f"DEPTH_CAM{pose[name]}_")
    assert archive_of(config, plan_scenes(config)[0]) == f"AnoVox_Normality_{name}_Town03"
