"""Every sensor set of AnoVox through the reader: each pose sees what its own calibration says."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.class_ids import is_anomaly
from pipeline.datasets.anovox.frame import Frame, read_frame
from pipeline.datasets.anovox.geometry import FLIP, voxel_keys, voxelise
from pipeline.datasets.anovox.label_rules import find_rule
from pipeline.datasets.anovox.labels import truth
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.scene import Scene, read_scenes
from pipeline.datasets.protocol.geometry import in_view, project, transform
from pipeline.synthetic.writer import write_archives

NUM_POSES = {"Mono": 1, "Stereo": 3, "StereoOneLidar": 2, "Multi": 7, "Surround": 10}


@pytest.fixture(scope="module", params=NUM_POSES)
def views(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """One static scene of two frames, seen from every camera pose of a sensor set."""
    root = tmp_path_factory.mktemp(request.param)
    world = SyntheticConfig(
        num_scenes=1,
        num_frames=2,
        kinds=["static"],
        towns=["Town03"],
        image_width=192,
        image_height=128,
        num_channels=32,
        points_per_second=200_000,
        sensor_set=request.param,
        num_processes=1,
        seed=3,
    )
    write_archives(world, root)
    archive = find_archives(root)[0]
    scenes = read_scenes(archive.scenes[0], archive)
    assert len(scenes) == NUM_POSES[request.param]
    return scenes


def first(scene: Scene) -> Frame:
    return read_frame(scene, scene.frame_ids[0])


def agreement(frame: Frame, *, mirrored: bool) -> float:
    """Share of points in view, seen by the camera too, on a pixel of their class."""
    xyz = frame.exact_xyz * np.array([1, -1 if mirrored else 1, 1], np.float32)
    uv, depth = project(xyz, frame.intrinsics, frame.camera_from_lidar)
    height, width = frame.semantic.shape
    seen = in_view(uv, depth, width, height)
    column, row = uv[seen].astype(int).T
    unoccluded = np.abs(frame.depth_m[row, column] - depth[seen]) < 0.02 * depth[seen] + 0.2
    if mirrored:
        unoccluded[:] = True
    same = frame.semantic[row, column] == frame.point_class[seen]
    assert unoccluded.sum() > 100
    return float(same[unoccluded].mean())


def test_points_land_on_pixels_of_their_class_and_mirrored_ones_do_not(views):
    for scene in views:
        frame = first(scene)
        right, wrong = agreement(frame, mirrored=False), agreement(frame, mirrored=True)
        assert right > 0.95, scene.pose
        assert right - wrong > 0.1, scene.pose


def test_all_poses_place_the_anomaly_at_its_location_in_the_world(views):
    found = []
    for scene in views:
        frame = first(scene)
        assert frame.anomaly is not None
        assert frame.anomaly.location is not None
        on_object = frame.exact_xyz[is_anomaly(frame.point_class)]
        if len(on_object) >= 5:
            place = transform(on_object, frame.world_from_lidar).mean(axis=0)
            expected = (FLIP @ [*frame.anomaly.location, 1.0])[:2]
            found.append(float(np.abs(place[:2] - expected).max()))
    assert found
    assert max(found) < 2.0


def test_voxels_of_a_pose_are_those_of_its_own_cloud(views):
    for scene in views:
        frame = first(scene)
        own, _ = voxelise(
            frame.exact_xyz, frame.point_class, voxel_from_lidar=frame.voxel_from_lidar
        )
        assert np.array_equal(frame.voxels, own), scene.pose


def test_the_recorded_grid_merges_the_clouds_of_all_poses(views):
    grids = {Path(scene.path / "VOXEL_GRID") for scene in views}
    frame_id = views[0].frame_ids[0]
    merged = np.load(grids.pop() / f"VOXEL_GRID_{frame_id}.npy")
    keys = [voxel_keys(read_frame(scene, frame_id).voxels) for scene in views]
    assert np.array_equal(np.unique(np.concatenate(keys)), voxel_keys(merged))


def test_every_pose_is_labelled_from_its_own_sensors(views):
    for scene in views:
        frame = first(scene)
        label = truth(frame, find_rule(scene, allow_guess=False), min_points=5, min_pixels=10)
        assert label.num_anomaly_points == is_anomaly(frame.point_class).sum()
        assert label.num_anomaly_pixels == is_anomaly(frame.semantic).sum()
