import math

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.datasets.protocol.classes import NO_CLASS
from pipeline.metrics.miou import SemanticCounts
from pipeline.metrics.tally import SplitCounts
from pipeline.models.scores import Scores

CLASS_OF_ID, NUM_CLASSES = ANOVOX_CLASSES.semantic_of_id, len(ANOVOX_CLASSES.semantic_names)
RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 6, 500)
ANSWER = np.where(RNG.random(500) < 0.6, TRUTH, RNG.integers(0, 8, 500))


def counted(answer=ANSWER, truth=TRUTH):
    counts = SemanticCounts(ANOVOX_CLASSES)
    counts.add(answer, truth)
    return counts


def test_iou_equals_scikit_learns():
    expected = [jaccard_score(k == TRUTH, k == ANSWER) for k in range(6)]
    assert counted().iou()[:6] == pytest.approx(expected)
    assert counted().miou() == pytest.approx(np.mean(expected))


def test_classes_that_do_not_occur_have_no_iou_and_no_part_in_the_mean():
    assert np.isnan(counted().iou()[6:]).all()
    assert counted(np.array([7, 1]), np.array([1, 1])).miou() == 0.5


def test_points_without_a_class_are_left_out():
    truth = np.append(TRUTH, [NO_CLASS] * 9)
    found = counted(np.append(ANSWER, [3] * 9), truth)
    assert np.array_equal(found.to_array(), counted().to_array())


def test_parts_add_up_to_the_whole():
    parts = counted(ANSWER[:123], TRUTH[:123]) + counted(ANSWER[123:], TRUTH[123:])
    assert parts.readings() == counted().readings()


def test_readings_name_the_classes_that_occur():
    road = int(CLASS_OF_ID[1])
    found = counted(np.array([road, road]), np.array([road, road])).readings()
    assert found == {"semantic_miou": 1.0, "semantic_iou_road": 1.0}
    assert SemanticCounts(ANOVOX_CLASSES).readings() == {}


def test_the_constant_answers_the_commonest_class():
    truth = np.array([2, 2, 2, 5])
    assert counted(truth, truth).constant_miou() == counted(np.full(4, 2), truth).miou() == 0.375
    assert math.isnan(SemanticCounts(ANOVOX_CLASSES).constant_miou())


def tallied(split, rows) -> SplitCounts:
    """Every point is answered as road."""
    tally = SplitCounts(
        split="test", split_hash="abc", classes=ANOVOX_CLASSES, lookalike_classes=[20, 21]
    )
    batch = split.batch(rows)
    num = len(batch.points)
    semantic = torch.zeros(num, NUM_CLASSES)
    semantic[:, CLASS_OF_ID[1]] = 1.0
    scores = Scores(
        point_score=torch.zeros(num), frame_score=torch.zeros(len(rows)), semantic=semantic
    )
    tally.update(scores, batch, split.index)
    return tally


def test_a_tally_tells_miou_and_iou_of_each_class_over_points_labelled_normal(make_split):
    split = make_split(num_scenes=2, frames_per_scene=2, num_points=500, seed=0)
    classes = np.concatenate([classes for _, classes in split.frames])
    share = (classes == 1).sum() / np.isin(classes, [1, 20]).sum()
    found = tallied(split, [0, 1, 2, 3]).metrics("test")
    assert found["test/semantic_iou_road"] == pytest.approx(share)
    assert found["test/semantic_iou_static"] == 0
    assert found["test/semantic_miou"] == pytest.approx(share / 2)


def test_semantics_add_up_over_tallies_and_survive_a_file(make_split, tmp_path):
    split = make_split(num_scenes=2, frames_per_scene=2, num_points=500, seed=0)
    whole = tallied(split, [0, 1, 2, 3])
    parts = tallied(split, [0, 1]) + tallied(split, [2, 3])
    whole.to_file(tmp_path / "tally.npz")
    for other in (parts, SplitCounts.from_file(tmp_path / "tally.npz")):
        assert np.array_equal(other.semantic.to_array(), whole.semantic.to_array())


def test_a_model_without_a_semantic_head_has_no_semantic_metric(make_split):
    split = make_split(num_scenes=2, frames_per_scene=2, num_points=500, seed=0)
    tally = SplitCounts(
        split="test", split_hash="abc", classes=ANOVOX_CLASSES, lookalike_classes=[20, 21]
    )
    batch = split.batch([0])
    scores = Scores(point_score=torch.zeros(len(batch.points)), frame_score=torch.zeros(1))
    tally.update(scores, batch, split.index)
    assert not [name for name in tally.metrics("test") if "semantic" in name]
