"""Past clouds lie where they were in the world, bear label 255, and never cross scenes or poses."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from pipeline.config.data import AugmentConfig, SyntheticConfig
from pipeline.data.batch import Batch
from pipeline.data.block_reader import BlockReader
from pipeline.data.frames import outside_box
from pipeline.data.prepare.index import scan
from pipeline.data.transforms.sweeps import move, previous_rows, relative_pose
from pipeline.datasets.anovox.frame import read_frame
from pipeline.datasets.protocol.geometry import project
from pipeline.synthetic.writer import write_archives

OFF = (0.0, 0.0)
CAR = 14
CARS = (14, 15, 16)
BUILDING = (3,)


def pose(yaw: float, x: float, y: float) -> np.ndarray:
    matrix = np.eye(4)
    cos, sin = np.cos(yaw), np.sin(yaw)
    matrix[:2, :2] = [[cos, -sin], [sin, cos]]
    matrix[:2, 3] = x, y
    return matrix


def drive(random_row) -> list[dict]:
    """Two scenes of five frames of one street: a wall that stands, a car that drives, an ego."""
    rng = np.random.default_rng(0)
    wall = np.stack([rng.uniform(0, 60, 300), np.full(300, 7.0), rng.uniform(0, 3, 300)], axis=1)
    car = rng.uniform((18, -4, 0), (22, -2, 1.5), (80, 3))
    rows = []
    for scene in range(2):
        for tick in range(5):
            world = pose(0.05 * tick, 1.5 * tick, 0.1 * tick**2)
            here = np.concatenate([wall, car + np.array([0.9 * tick, 0, 0])])
            local = (here - world[:3, 3]) @ world[:3, :3]
            row = random_row(10 * scene + tick, len(local))
            row["points"] = np.c_[local, np.full(len(local), 0.5)].astype(np.float32)
            row["point_class"] = np.repeat(np.array([1, CAR], np.uint8), [300, 80])
            row["point_label"] = np.zeros(len(local), np.uint8)
            row |= {"scene_id": f"scene-{scene}", "frame_id": 700 + tick, "frame_index": tick}
            rows.append(row | {"time_s": tick / 10, "world_from_lidar": world.reshape(16)})
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory, random_row, write_prepared) -> Path:
    """Rows are stored out of order, as `prepare` shuffles them; scene 1 lacks frame 702."""
    rows = [row for i, row in enumerate(drive(random_row)) if i != 7]
    order = np.random.default_rng(1).permutation(len(rows))
    shuffled = [rows[i] for i in order]
    place = tmp_path_factory.mktemp("windows")
    return write_prepared(place, {"train": [shuffled[:4], shuffled[4:]]})


def row_of(reader: BlockReader, scene: int, tick: int) -> int:
    index = reader.index
    found = (index["scene_id"] == f"scene-{scene}") & (index["frame_index"] == tick)
    return int(np.flatnonzero(found.to_numpy())[0])


def window_batch(folder: Path, num_sweeps: int, scene: int, tick: int, **more) -> Batch:
    reader = BlockReader(folder, "train", ego_box_m=OFF, num_sweeps=num_sweeps, **more)
    return reader.batch([row_of(reader, scene, tick)], augment_seed=None)


def test_the_static_world_stands_still_and_a_moving_car_does_not(folder: Path):
    batch = window_batch(folder, 3, 0, 4)
    points, classes = batch.points.numpy(), batch.point_class.numpy()
    clouds = [points[np.isclose(points[:, 4], -back / 10)] for back in range(3)]
    assert [len(cloud) for cloud in clouds] == [380] * 3
    for back, cloud in enumerate(clouds[1:], 1):
        shift = np.linalg.norm(cloud[:, :3] - clouds[0][:, :3], axis=1)
        assert shift[:300].max() < 1e-4
        np.testing.assert_allclose(shift[300:], 0.9 * back, atol=1e-4)
    assert (classes.reshape(3, 380) == classes[:380]).all()


def test_only_the_current_cloud_is_labelled_and_it_comes_first(folder: Path):
    batch = window_batch(folder, 3, 0, 4)
    current = batch.points[:, 4] == 0
    assert current[:380].all()
    assert not current[380:].any()
    assert (batch.point_label[~current] == 255).all()
    assert (batch.point_label[current] == 0).all()
    assert batch.points.shape == (3 * 380, 5)


def test_of_current_and_without_past_give_the_single_cloud_back(folder: Path):
    windowed, single = (window_batch(folder, num_sweeps, 0, 4) for num_sweeps in (3, 1))
    stripped = windowed.without_past()
    for name in vars(single).keys() - {"pixel_label", "voxels", "host_offset", "classes"}:
        assert torch.equal(getattr(stripped, name), getattr(single, name)), name
    values, offset = windowed.of_current(windowed.point_class)
    assert torch.equal(values, single.point_class)
    assert torch.equal(offset, single.point_offset)
    assert single.without_past() is single


def test_times_of_a_window_with_a_gap_are_those_of_the_frames_that_are_there(folder: Path):
    """Scene 1 has no frame 2, and nothing takes its place."""
    times = {
        tick: sorted(set(window_batch(folder, 3, 1, tick).points[:, 4].tolist()))
        for tick in (0, 1, 3, 4)
    }
    assert times[0] == [0.0]
    assert times[1] == pytest.approx([-0.1, 0.0])
    assert times[3] == pytest.approx([-0.2, 0.0])
    assert times[4] == pytest.approx([-0.1, 0.0])


def test_windows_never_cross_scenes_or_poses():
    index = pd.DataFrame(
        {
            "archive": ["a", "a", "b", "a", "a"],
            "scene_id": ["s", "t", "s", "s", "s"],
            "pose": ["p", "p", "p", "q", "p"],
            "frame_index": [0, 1, 1, 1, 1],
        }
    )
    assert previous_rows(index, num_sweeps=4) == [(), (), (), (), (0,)]


def test_the_ego_box_is_left_out_of_past_clouds_where_they_were_recorded(folder: Path):
    box = (14.0, 9.0)
    reader = BlockReader(folder, "train", ego_box_m=box, num_sweeps=2)
    alone = BlockReader(folder, "train", ego_box_m=OFF)
    current, before = (row_of(reader, 0, tick) for tick in (3, 2))
    batch = reader.batch([current], augment_seed=None)
    kept = [
        int(outside_box(alone.batch([row], augment_seed=None).points.numpy(), box).sum())
        for row in (current, before)
    ]
    assert 0 < kept[1] < 380
    now = batch.points[:, 4] == 0
    assert [int(now.sum()), int((~now).sum())] == kept


def test_a_window_is_augmented_as_one(folder: Path):
    """All clouds turn together, keep their pixels, and points lose their labels with them."""
    config = AugmentConfig(rotation_rad=0.5, scale=0.1)
    reader = BlockReader(folder, "train", ego_box_m=OFF, num_sweeps=3, augmentation=config)
    row = row_of(reader, 0, 4)
    plain, changed = (reader.batch([row], augment_seed=seed) for seed in (None, (0, 0)))
    assert torch.equal(plain.points[:, 3:], changed.points[:, 3:])
    assert not torch.allclose(plain.points[:, :3], changed.points[:, :3], atol=0.1)
    (uv, depth), (new_uv, new_depth) = (
        project(b.points.numpy(), b.intrinsics[0].double().numpy(), b.camera_from_lidar[0].numpy())
        for b in (plain, changed)
    )
    ahead = depth > 1
    np.testing.assert_allclose(new_depth, depth, atol=1e-3)
    same, mirrored = (np.abs(new_uv[ahead, 0] - u).max() for u in (uv[ahead, 0], 8 - uv[ahead, 0]))
    assert min(same, mirrored) < 1e-2


def test_dropout_takes_points_from_the_whole_window_with_their_labels(folder: Path):
    config = AugmentConfig(point_dropout=0.9)
    reader = BlockReader(folder, "train", ego_box_m=OFF, num_sweeps=3, augmentation=config)
    row = row_of(reader, 0, 4)
    whole = reader.batch([row], augment_seed=None)
    some = reader.batch([row], augment_seed=(0, 0))
    assert 0 < len(some.points) < len(whole.points)
    heights = whole.points[:, 2].tolist()
    places = [heights.index(z) for z in some.points[:, 2].tolist()]
    assert torch.equal(some.point_class, whole.point_class[places])
    assert (some.point_label[some.points[:, 4] < 0] == 255).all()
    assert (some.point_label[some.points[:, 4] == 0] == 0).all()


def test_arithmetic_far_from_the_worlds_origin_is_exact_to_a_millimetre():
    here, there = pose(0.3, 9000.0, -7000.0), pose(0.28, 9001.0, -7000.5)
    world = np.array([[9010.0, -6998.0, 1.0]])
    local, past = ((world - m[:3, 3]) @ m[:3, :3] for m in (here, there))
    cloud = np.c_[past, [1.0], [-0.1]].astype(np.float32)
    move(cloud, relative_pose(here, there))
    np.testing.assert_allclose(cloud[0, :3], local[0], atol=1e-3)


def test_exact_clouds_of_the_synthetic_world_align_to_five_centimetres_but_moving_cars(
    tmp_path: Path,
):
    """0.3 s and 3.3 m on, walls lie in the planes that the current cloud spans there.

    Of the cars near by most are parked; one drives.
    """
    world = SyntheticConfig(
        num_scenes=1, num_frames=4, kinds=["normality"], towns=["Town03"], num_processes=1,
        image_width=96, image_height=64, num_channels=64, points_per_second=600_000,
    )  # fmt: skip
    write_archives(world, tmp_path, None)
    (scene,) = scan(tmp_path).scenes.values()
    first, last = (read_frame(scene, scene.frame_ids[i]) for i in (0, 3))
    left = np.c_[first.exact_xyz, np.zeros((len(first.exact_xyz), 2))].astype(np.float32)
    aligned = left.copy()
    move(aligned, relative_pose(last.world_from_lidar, first.world_from_lidar))
    assert np.quantile(off_plane(aligned, first, last, BUILDING), 0.9) < 0.05
    assert np.quantile(off_plane(left, first, last, BUILDING), 0.9) > 0.1
    assert np.quantile(off_plane(aligned, first, last, CARS), 0.9) < 0.05
    assert np.quantile(off_plane(aligned, first, last, CARS), 0.99) > 0.5


def off_plane(points: np.ndarray, first, last, classes: tuple[int, ...]) -> np.ndarray:
    """Distance of near points from the plane through the five nearest ones of the current cloud."""
    near = np.isin(first.point_class, classes) & (np.linalg.norm(points[:, :3], axis=1) < 30)
    near &= outside_box(points[:, :4], (2.6, 1.1))
    target = last.exact_xyz[np.isin(last.point_class, classes)].astype(np.float64)
    xyz = points[near, :3].astype(np.float64)
    _, places = NearestNeighbors(n_neighbors=5).fit(target).kneighbors(xyz)
    around = target[places]
    centre = around.mean(axis=1)
    normals = np.linalg.svd(around - centre[:, None])[2][:, 2]
    return np.abs(((xyz - centre) * normals).sum(axis=1))
