"""One world behind all sensors: labels, depth and instances must agree between them."""

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.class_ids import ANOMALY, EGO, ROAD, ROAD_LINE, unknown_ids
from pipeline.datasets.anovox.geometry import (
    CAMERA_FROM_LIDAR_SAME_POSE,
    voxel_from_lidar,
    voxelise,
)
from pipeline.datasets.protocol.geometry import in_view, intrinsics, project
from pipeline.synthetic.plan import plan_scenes
from pipeline.synthetic.scenery import CAR
from pipeline.synthetic.sensor_sim import Observer
from pipeline.synthetic.sensors import build_sensors
from pipeline.synthetic.world import SceneWorld, build_scene
from tests.helpers.seen import Seen, see

Scenes = list[tuple[SceneWorld, Seen]]


@pytest.fixture(scope="module")
def scenes(full_size: Callable[[int], tuple[SceneWorld, Seen]]) -> Scenes:
    return [full_size(number) for number in (0, 5, 7, 11)]


def pixels(seen: Seen) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of the points in view, which points those are, and their depths."""
    height, width = seen.semantic.shape
    k = intrinsics(width, height, 90)
    uv, depth = project(seen.exact_xyz, k, CAMERA_FROM_LIDAR_SAME_POSE)
    inside = in_view(uv, depth, width, height)
    column, row = uv[inside].astype(int).T
    return row, column, inside, depth[inside]


def test_projected_points_carry_the_class_of_their_pixel(scenes: Scenes) -> None:
    for _, seen in scenes:
        row, column, inside, _ = pixels(seen)
        same = seen.semantic[row, column] == seen.point_class[inside]
        assert same.mean() > 0.97
        interior = is_interior(seen.semantic)[row, column]
        assert interior.mean() > 0.6
        assert same[interior].mean() > 0.995
        mirrored = seen.semantic[row, seen.semantic.shape[1] - 1 - column]
        assert (mirrored == seen.point_class[inside]).mean() < same.mean() - 0.15


def is_interior(semantic: np.ndarray) -> np.ndarray:
    """Pixels whose eight neighbours have their class."""
    padded = np.pad(semantic, 1, mode="edge")
    height, width = semantic.shape
    shifts = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.logical_and.reduce([shift == semantic for shift in shifts])


def test_depth_agrees_with_the_points(scenes: Scenes) -> None:
    for _, seen in scenes:
        row, column, _, depth = pixels(seen)
        error = np.abs(seen.depth_m[row, column] - depth)
        assert np.median(error) < 0.02
        assert np.percentile(error, 90) < 0.5


def test_instances_are_connected_to_their_class(scenes: Scenes) -> None:
    for world, seen in scenes:
        native, low, high = (seen.instance[..., i].astype(int) for i in range(3))
        is_ego = seen.semantic == EGO
        np.testing.assert_array_equal(native[~is_ego], seen.semantic[~is_ego])
        assert (native[is_ego] == CAR).all()
        number = low + 256 * high
        on_thing = number >= 16
        np.testing.assert_array_equal(
            world.class_ids(3)[number[on_thing] - 16], seen.semantic[on_thing]
        )
        assert set(np.unique(seen.semantic[~on_thing])) <= {ROAD, ROAD_LINE, 2, 10, 11}
        assert len(np.unique(number[seen.semantic == EGO])) == 1


def test_the_full_size_cloud_is_as_large_as_anovox_s(scenes: Scenes) -> None:
    for _, seen in scenes:
        assert 80_000 < len(seen.points) < 100_032
        assert np.abs(seen.points[:, :2]).max() < 101
        assert seen.points.dtype == seen.exact_xyz.dtype == np.float32
        assert unknown_ids(seen.point_class) == []


def test_noise_is_ten_centimetres_along_the_ray_and_intensity_follows_the_range(
    scenes: Scenes,
) -> None:
    _, seen = scenes[0]
    true_range = np.linalg.norm(seen.exact_xyz, axis=1)
    error = np.linalg.norm(seen.points[:, :3], axis=1) - true_range
    assert error.std() == pytest.approx(0.1, rel=0.02)
    assert abs(error.mean()) < 0.002
    aside = np.cross(seen.points[:, :3], seen.exact_xyz) / true_range[:, None]
    assert np.abs(aside).max() < 1e-3
    np.testing.assert_allclose(seen.points[:, 3], np.exp(-0.004 * true_range), rtol=1e-4)


def test_voxels_are_those_of_the_exact_cloud(scenes: Scenes) -> None:
    _, seen = scenes[0]
    shift = voxel_from_lidar((0, 0, 1.8), (0, 0, 0))
    voxels, _ = voxelise(seen.exact_xyz, seen.point_class, voxel_from_lidar=shift)
    np.testing.assert_array_equal(seen.voxels, voxels)
    flat = voxels[np.isin(voxels[:, 3], (ROAD, ROAD_LINE))]
    assert np.bincount(flat[:, 2]).argmax() == 24


def test_the_ego_is_small_in_the_cloud_and_at_the_bottom_of_the_image(scenes: Scenes) -> None:
    for _, seen in scenes:
        own = seen.exact_xyz[seen.point_class == EGO]
        assert 0 < len(own) < 0.06 * len(seen.points)
        assert np.abs(own[:, 0]).max() < 2.6
        assert np.abs(own[:, 1]).max() < 1.1
        rows, _ = np.nonzero(seen.semantic == EGO)
        assert rows.min() > 0.7 * len(seen.semantic)


def test_a_visible_anomaly_is_seen_by_both_sensors_and_a_hidden_one_by_none() -> None:
    config = SyntheticConfig(
        seed=2,
        num_scenes=24,
        num_frames=6,
        kinds=["static"],
        image_width=384,
        image_height=256,
        num_channels=32,
        points_per_second=250_000,
    )
    sensors = build_sensors(config)
    num_points: dict[bool, list[int]] = {False: [], True: []}
    for plan in plan_scenes(config):
        seen = see(Observer(build_scene(config, plan), sensors), 3)
        points = int(np.isin(seen.point_class, list(ANOMALY)).sum())
        num_pixels = int(np.isin(seen.semantic, list(ANOMALY)).sum())
        assert (points > 5) <= (num_pixels > 0)
        num_points[plan.hidden].append(points)
    assert np.median(num_points[False]) >= 25
    assert np.mean(np.array(num_points[False]) > 0) > 0.85
    assert np.mean(np.array(num_points[True]) == 0) > 0.85


def test_the_same_frame_is_the_same_arrays_whichever_frames_were_seen_before() -> None:
    config = SyntheticConfig(num_scenes=2, num_frames=4, image_width=96, image_height=64)
    plan, sensors = plan_scenes(config)[1], build_sensors(config)
    one, other = (Observer(build_scene(config, plan), sensors) for _ in range(2))
    other.observe(0)
    first, second = see(one, 2), see(other, 2)
    for name in first.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_pictures_have_light_contrast_and_noise(scenes: Scenes) -> None:
    for _, seen in scenes:
        assert 40 < seen.image.mean() < 200
        assert seen.image.std() > 25
        sky = seen.image[:40][seen.semantic[:40] == 11].astype(float)
        assert len(sky) == 0 or sky.std() > 2
