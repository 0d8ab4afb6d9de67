"""Frames of AnoVox's full size, of every kind, through row, shard and batch; windows over them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from pipeline.config.data import PrepareConfig, SyntheticConfig
from pipeline.data.block_reader import BlockReader
from pipeline.data.prepare.index import scan
from pipeline.data.prepare.rows import make_row
from pipeline.data.transforms.sweeps import move, relative_pose
from pipeline.datasets.anovox.dataset import labelled_frame
from pipeline.datasets.anovox.frame import Frame, read_frame
from pipeline.datasets.anovox.label_rules import SceneRule, find_rule
from pipeline.datasets.anovox.labels import Truth, truth
from pipeline.datasets.anovox.lead_vehicle import in_body, lead_classes
from pipeline.datasets.anovox.scene import Scene
from pipeline.synthetic.writer import write_archives

pytestmark = pytest.mark.slow
NUM_FRAMES = 20
WHOLE = PrepareConfig(image_width=768)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Scene, SceneRule]]:
    """A scene of 20 full-size frames of each kind, and its label rule."""
    root = tmp_path_factory.mktemp("full")
    world = SyntheticConfig(
        num_scenes=3,
        num_frames=NUM_FRAMES,
        kinds=["normality", "static", "dynamic"],
        towns=["Town03"],
        dynamic_labels="native",
    )
    write_archives(world, root)
    found = scan(root).scenes.values()
    return {scene.kind: (scene, find_rule(scene, allow_guess=False)) for scene in found}


def read(scene: Scene, rule: SceneRule, place: int) -> tuple[Frame, Truth]:
    frame = read_frame(scene, scene.frame_ids[place])
    return frame, truth(frame, rule, min_points=5, min_pixels=30)


@pytest.mark.parametrize("kind", ["normality", "static", "dynamic"])
def test_full_size_frames_come_back_bit_for_bit(scenes, kind, tmp_path: Path, write_prepared):
    scene, rule = scenes[kind]
    places = range(0, NUM_FRAMES, 3)
    frames = [read(scene, rule, place) for place in places]
    rows = [
        make_row(labelled_frame(frame, labels, scene), scene, WHOLE) for frame, labels in frames
    ]
    folder = write_prepared(tmp_path / "blocks", {"train": [rows], "val": [], "test": []}, WHOLE)
    reader = BlockReader(folder, "train", ego_box_m=(0.0, 0.0))
    batch = reader.batch(range(len(frames)), augment_seed=None)
    clouds = torch.split(batch.points, batch.counts().tolist())
    labels_of = torch.split(batch.point_label, batch.counts().tolist())
    for i, (frame, labels) in enumerate(frames):
        assert frame.image.shape == (512, 768, 3)
        assert len(frame.points) > 60_000
        assert np.array_equal(batch.image[i].permute(1, 2, 0).numpy(), frame.image)
        assert np.array_equal(clouds[i].numpy(), frame.points)
        assert np.array_equal(labels_of[i].numpy(), labels.point_label)
        assert batch.frame_label[i] == labels.frame_label
    seen = {labels.frame_label for _, labels in frames}
    assert seen == {"normality": {0}, "static": seen, "dynamic": {0, 1}}[kind]


def test_past_clouds_of_what_stands_lie_in_place_and_those_of_the_lead_car_do_not(scenes):
    """0.5 s back while the car ahead drives; exact clouds, so noise hides nothing."""
    scene, rule = scenes["dynamic"]
    (past, _), (now, _) = read(scene, rule, 0), read(scene, rule, 5)
    cloud = np.c_[past.exact_xyz, np.zeros((len(past.exact_xyz), 2))].astype(np.float32)
    move(cloud, relative_pose(now.world_from_lidar, past.world_from_lidar))
    building = past.point_class == 3
    facades = cloud[building & (np.linalg.norm(cloud[:, :3], axis=1) < 40), :3]
    assert np.quantile(_gap_to_planes(facades, now.exact_xyz[now.point_class == 3]), 0.9) < 0.05
    lead = _on_lead(past, rule)
    assert lead.sum() > 100
    here = now.exact_xyz[_on_lead(now, rule)].mean(axis=0)
    assert np.linalg.norm(cloud[lead, :3].mean(axis=0) - here) > 0.5
    left_alone = past.exact_xyz[lead].mean(axis=0)
    assert np.linalg.norm(left_alone - here) < 1.5, "the ego follows it, so it seems to stand"


def _on_lead(frame: Frame, rule: SceneRule) -> np.ndarray:
    assert frame.anomaly is not None
    inside = in_body(
        frame.exact_xyz,
        frame.anomaly,
        heading_rad=rule.headings[frame.key.frame_id],
        world_from_lidar=frame.world_from_lidar,
    )
    return inside & np.isin(frame.point_class, list(lead_classes(frame.anomaly)))


def _gap_to_planes(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Distance of points from the plane through their five nearest points of `target`."""
    target = target.astype(np.float64)
    _, places = NearestNeighbors(n_neighbors=5).fit(target).kneighbors(points)
    around = target[places]
    centre = around.mean(axis=1)
    normals = np.linalg.svd(around - centre[:, None])[2][:, 2]
    return np.abs(((points - centre) * normals).sum(axis=1))
