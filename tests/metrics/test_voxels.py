"""Points carried into voxels: pooling against loops, labels against the truth, groups by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from pipeline.config.data import SyntheticConfig
from pipeline.data.batch import Batch, Voxels
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.datasets.anovox.frame import read_frame
from pipeline.datasets.anovox.geometry import point_voxel
from pipeline.datasets.anovox.label_rules import find_rule
from pipeline.datasets.anovox.labels import TRUTH_MODALITIES, truth
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.scene import Scene, read_scenes
from pipeline.datasets.protocol.facts import VoxelGrid
from pipeline.metrics.tally import SplitCounts
from pipeline.metrics.voxels import pooled_voxels, voxel_items, voxel_labels
from pipeline.models.scores import Scores
from pipeline.synthetic.writer import write_archives
from tests.helpers.streets import CAMERA_FROM_LIDAR

ROAD, CAR, ANIMAL, AGENT = 1, 14, 30, 114
GRID = VoxelGrid(size_m=0.5, offset_m=(250.0, 250.0, 16.0))
# Cells (x, y, z) of half a metre; a sensor at the grid's origin sees points in metres.
ORIGIN = (500, 500, 32)


def batch_of(*frames: dict) -> Batch:
    """Frames of `points` (P, 3), `point_class`, `voxel` (row or -1), `cells` (class of each)."""
    points = [np.asarray(f["points"], np.float32).reshape(-1, 3) for f in frames]
    cells, of_point, first = [], [], 0
    for frame in frames:
        classes = np.asarray(frame["cells"], np.int32)
        place = np.tile(np.array(ORIGIN, np.int32), (len(classes), 1))
        place[:, 0] += np.arange(len(classes), dtype=np.int32)
        cells.append(np.concatenate([place, classes[:, None]], axis=1))
        own = np.asarray(frame["voxel"], np.int32)
        of_point.append(np.where(own < 0, own, own + first))
        first += len(classes)
    classes = np.concatenate([np.asarray(f["point_class"], np.uint8) for f in frames])
    labels = [f.get("point_label", (np.asarray(f["point_class"]) == ANIMAL) * 1) for f in frames]
    num = len(frames)
    return Batch(
        image=torch.zeros(num, 3, 8, 8, dtype=torch.uint8),
        points=torch.from_numpy(np.pad(np.concatenate(points), [(0, 0), (0, 1)])),
        point_offset=torch.tensor([len(p) for p in points]).cumsum(0),
        point_class=torch.from_numpy(classes),
        point_label=torch.from_numpy(np.concatenate(labels).astype(np.uint8)),
        frame_label=torch.zeros(num, dtype=torch.uint8),
        intrinsics=torch.tensor([4.0, 4, 4, 4]).repeat(num, 1),
        camera_from_lidar=CAMERA_FROM_LIDAR.repeat(num, 1, 1),
        row=torch.arange(num),
        classes=ANOVOX_CLASSES,
        voxels=Voxels(
            cells=torch.from_numpy(np.concatenate(cells)),
            offset=torch.tensor([len(f["cells"]) for f in frames]).cumsum(0),
            of_point=torch.from_numpy(np.concatenate(of_point).astype(np.int32)),
            voxel_from_lidar=torch.eye(4).repeat(num, 1, 1),
            grid=GRID,
        ),
    )


def frame_of(voxel: list[int], cells: list[int], **changes) -> dict:
    """Points of the class of their cell (road where none holds them), all in one place."""
    classes = [cells[row] if row >= 0 else ROAD for row in voxel]
    points = np.zeros((len(voxel), 3))
    return {"points": points, "point_class": classes, "voxel": voxel, "cells": cells} | changes


def scores(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("how", "expected"),
    [("max", [5, 7]), ("mean", [2.75, 7]), ("median", [3, 7]), ("centre_point", [4, 7])],
)
def test_a_voxels_score_is_pooled_from_its_points(how, expected):
    """The third point lies nearest to its cell's lower corner; the fifth has no cell."""
    frame = frame_of([0, 0, 0, 1, -1, 0], [ROAD, ANIMAL, CAR])
    frame["points"] = [
        (0.4, 0, 0),
        (0.2, 0.2, 0.2),
        (0.1, 0.1, 0),
        (0.5, 0, 0),
        (9, 9, 9),
        (0, 0.4, 0),
    ]
    pooled = pooled_voxels(scores(5, 2, 4, 7, 99, 0), batch_of(frame), how=how)
    assert pooled.score.tolist() == expected
    assert pooled.label.tolist() == [0, 1]  # the car's cell holds no scored point
    assert pooled.frame.tolist() == [0, 0]


@pytest.mark.parametrize(("height_m", "nearest"), [(1.8, 1), (2.2, 2)])
def test_the_corner_is_that_of_the_points_own_grid(height_m, nearest):
    """A grid that is displaced against the LiDAR, as AnoVox's is by the sensor's height."""
    batch = batch_of(frame_of([0, 0], [ROAD], points=[(0, 0, 1.8), (0, 0, 2.2)]))
    assert batch.voxels is not None
    pose = torch.eye(4).repeat(1, 1, 1)
    pose[0, 2, 3] = -height_m
    moved = dataclasses.replace(batch.voxels, voxel_from_lidar=pose)
    pooled = pooled_voxels(
        scores(1, 2), dataclasses.replace(batch, voxels=moved), how="centre_point"
    )
    assert pooled.score.tolist() == [nearest]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-1, 5), max_size=40), st.lists(st.integers(-1, 5), max_size=40))
def test_pooling_equals_a_loop_over_cells(first, second):
    batch = batch_of(frame_of(first, [ROAD] * 6), frame_of(second, [ROAD] * 6))
    score = np.random.default_rng(0).normal(size=len(first) + len(second)).astype(np.float32)
    rows = np.where(np.array([*first, *second], int) < 0, -1, [*first, *(6 + r for r in second)])
    for how, pool in (("max", np.max), ("mean", np.mean), ("median", np.median)):
        pooled = pooled_voxels(score, batch, how=how)  # pyright: ignore[reportArgumentType]
        cells = sorted(set(rows[rows >= 0].tolist()))
        expected = [pool(score[rows == cell]) for cell in cells]
        np.testing.assert_allclose(pooled.score, expected, rtol=1e-5)
        assert pooled.frame.tolist() == [cell // 6 for cell in cells]


def test_ids_of_agents_are_ignored_and_a_vehicle_labelled_by_its_motion_takes_that_label():
    """A braking car (class 14, label 1) beside one that drives, and an agent outside its window."""
    frame = frame_of(
        [0, 1, 2, 3, 4],
        [CAR, CAR, AGENT, AGENT, ROAD],
        point_label=[1, 0, 255, 0, 1],
        point_class=[CAR, CAR, AGENT, AGENT, CAR],
    )
    # The last point is the car's, but its cell is the road's: winner takes one.
    assert voxel_labels(batch_of(frame)).tolist() == [1, 0, 255, 0, 0]


@pytest.fixture(scope="module", params=["native", "ids"])
def braking(request, tmp_path_factory) -> Scene:
    """A scene in which the car ahead brakes, its class as AnoVox's code or as its data has it."""
    world = SyntheticConfig(
        num_scenes=1,
        num_frames=40,
        kinds=["dynamic"],
        towns=["Town03"],
        image_width=96,
        image_height=64,
        num_channels=24,
        points_per_second=80_000,
        seed=4,
        num_processes=1,
        dynamic_labels=request.param,
    )
    root = tmp_path_factory.mktemp("braking")
    write_archives(world, root, None)
    archive = find_archives(root)[0]
    return read_scenes(archive.scenes[0], archive)[0]


def test_labels_of_voxels_are_those_of_the_truth(braking: Scene):
    """What blocks store of a dynamic scene is enough: inside its window and outside."""
    rule = find_rule(braking, allow_guess=False)
    assert rule.has_lead
    found_labels = set()
    for frame_id in braking.frame_ids[::6]:
        frame = read_frame(braking, frame_id, modalities=TRUTH_MODALITIES)
        known = truth(frame, rule, min_points=5, min_pixels=10)
        row = point_voxel(frame.exact_xyz, frame.voxels, voxel_from_lidar=frame.voxel_from_lidar)
        batch = batch_of(
            {
                "points": frame.exact_xyz,
                "point_class": frame.point_class,
                "point_label": known.point_label,
                "voxel": row,
                "cells": frame.voxels[:, 3],
            }
        )
        np.testing.assert_array_equal(voxel_labels(batch), known.voxel_label)
        found_labels |= set(known.voxel_label.tolist())
    assert {0, 1} <= found_labels


def index_of(sizes: list[str]) -> pd.DataFrame:
    scene = [{"archive": "A", "scene_id": str(i), "frame_id": i} for i in range(len(sizes))]
    table = pd.DataFrame(scene)
    return table.assign(anomaly_size=sizes, kind="static", anomaly_category="animal",
                        anomaly_distance_m=1.0)  # fmt: skip


def test_the_benchmarks_groups():
    """Detectable means that points and voxels show the anomaly; a size that is not told counts in
    no group of sizes."""
    shown = frame_of([0, 1], [ROAD, ANIMAL])
    lost = frame_of([0, -1], [ROAD, ANIMAL], point_class=[ROAD, ANIMAL])
    normal = frame_of([0], [ROAD])
    batch = batch_of(shown, lost, normal, shown)
    items = list(voxel_items(scores(*range(7)), batch, index_of(["small"] * 3 + [""]), how="max"))
    assert [(name, row) for name, row, _, _ in items] == [
        ("voxel", 0), ("voxel_anomalies_only", 0), ("voxel_small", 0),
        ("voxel", 1),
        ("voxel", 2),
        ("voxel", 3), ("voxel_anomalies_only", 3),
    ]  # fmt: skip
    assert [score.tolist() for _, _, score, _ in items[3:5]] == [[2], [4]]


def test_a_tally_counts_voxels_where_batches_bring_them():
    rng = np.random.default_rng(0)
    frames = [
        frame_of(rng.integers(-1, 30, 200).tolist(), rng.choice([ROAD, ANIMAL, AGENT], 30).tolist())
        for _ in range(3)
    ]
    batch, index = batch_of(*frames), index_of(["tiny", "huge", "tiny"])
    score = torch.from_numpy(rng.integers(-40, 40, 600) / 16).float()
    made = Scores(point_score=score, frame_score=torch.zeros(3))
    about = {
        "split": "test",
        "split_hash": "abc",
        "classes": ANOVOX_CLASSES,
        "lookalike_classes": [20],
    }
    tally = SplitCounts(**about, voxel_score="mean")
    tally.update(made, batch, index)
    pooled = pooled_voxels(score.numpy(), batch, how="mean")
    known = pooled.label != 255
    expected = average_precision_score(pooled.label[known], pooled.score[known])
    assert tally.readings()["voxel_ap"].low <= expected + 1e-9
    assert tally.metrics("test")["test/voxel_ap"] == pytest.approx(expected, abs=1e-3)
    assert "test/voxel_specificity" in tally.metrics("test")
    sizes = tally.counts("voxel_tiny").to_array() + tally.counts("voxel_huge").to_array()
    np.testing.assert_array_equal(sizes, tally.counts("voxel").to_array())
    plain = SplitCounts(**about)
    plain.update(made, dataclasses.replace(batch, voxels=None), index)
    assert not any(name.startswith("voxel") for name in plain.slices)
    with pytest.raises(ValueError, match=r"voxel_score is mean in one tally and None in the other"):
        tally.demand_same_split(plain)


def test_a_batch_without_points_or_voxels_pools_nothing():
    for how in ("max", "mean", "median", "centre_point"):
        for frame in (frame_of([], []), frame_of([-1], []), frame_of([], [ROAD])):
            score = np.zeros(len(frame["voxel"]), np.float32)
            assert len(pooled_voxels(score, batch_of(frame), how=how).score) == 0
