"""The boosted tree: learns what plain features tell, never sees the frame index."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pipeline.data.batch import Batch
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.evaluation.boosted_tree import FRAME_TOP_K, INPUTS, baseline_scores, fit_baseline
from pipeline.evaluation.point_features import FEATURES, PointSample, sample_points
from pipeline.metrics.tally import SplitCounts


@pytest.fixture(scope="module")
def sample(make_split) -> PointSample:
    train = make_split(num_scenes=6, frames_per_scene=3, num_points=300, seed=0)
    batches = [train.batch(list(range(train.num_rows)))]
    return sample_points(batches, train.index, lookalike_classes=[20], keep=0.5, seed=0)


@pytest.fixture(scope="module")
def model(sample):
    return fit_baseline(sample, seed=0)


def point_scores(model, batch: Batch) -> torch.Tensor:
    score = baseline_scores(model, batch).point_score
    assert score is not None
    return score


def test_the_frame_index_is_no_input():
    assert FEATURES.index("frame_index") not in INPUTS
    assert len(INPUTS) == len(FEATURES) - 1


def test_it_finds_anomalies_that_position_gives_away(make_split, model):
    test = make_split(num_scenes=4, frames_per_scene=3, num_points=300, seed=9)
    tally = SplitCounts(
        split="test", split_hash="abc", classes=ANOVOX_CLASSES, lookalike_classes=[20]
    )
    for row in range(test.num_rows):
        batch = test.batch([row])
        tally.update(baseline_scores(model, batch), batch, test.index)
    metrics = tally.metrics("baseline")
    assert metrics["baseline/point_ap"] > 0.9
    assert metrics["baseline/small_object_ap"] > 0.9


def test_a_frame_scores_the_mean_of_its_highest_points(make_split, model):
    batch = make_split(num_scenes=2, frames_per_scene=1, num_points=50, seed=3).batch([0, 1])
    scores = baseline_scores(model, batch)
    for frame in (0, 1):
        own = np.sort(point_scores(model, batch).numpy()[50 * frame : 50 * (frame + 1)])
        assert float(scores.frame_score[frame]) == pytest.approx(own[-FRAME_TOP_K:].mean())


def test_a_frame_without_points_scores_lowest(make_split, model):
    batch = make_split(num_scenes=2, frames_per_scene=1, num_points=0, seed=3).batch([1])
    assert point_scores(model, batch).shape == (0,)
    assert baseline_scores(model, batch).frame_score.tolist() == [-np.inf]


def test_the_same_seed_gives_the_same_scores(make_split, sample, model):
    batch = make_split(num_scenes=2, frames_per_scene=1, num_points=50, seed=3).batch([0])
    again = point_scores(fit_baseline(sample, seed=0), batch)
    assert again.equal(point_scores(model, batch))


def test_a_sample_without_a_normal_point_is_refused(sample):
    anomalous = dataclasses.replace(sample, label=np.ones_like(sample.label))
    with pytest.raises(ValueError, match="holds no normal point"):
        fit_baseline(anomalous, seed=0)


def test_without_anomalies_an_isolation_forest_finds_what_is_unlike_the_normal_points(make_split):
    """Points far from all others, whether or not a camera sees them."""
    train = make_split(num_scenes=4, frames_per_scene=1, num_points=400, seed=0)
    batch = train.batch([1, 3])
    normal = sample_points([batch], train.index, lookalike_classes=[20], keep=1.0, seed=0)
    forest = fit_baseline(normal, seed=0)
    odd = dataclasses.replace(batch, points=batch.points.clone())
    odd.points[::40, :3] *= 8
    scores = point_scores(forest, odd)
    is_odd = torch.arange(len(scores)) % 40 == 0
    assert scores.isfinite().all()
    assert roc_auc_score(is_odd, scores) > 0.85
    assert point_scores(fit_baseline(normal, seed=0), odd).equal(scores)
