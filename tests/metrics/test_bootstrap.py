"""Intervals over scenes: against brute force, their coverage, pairing, and when none is given."""

import math
import time

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.metrics.bootstrap import (
    _expanded_tail,
    differences,
    intervals,
    mean_intervals,
    resampled_metrics,
    resamples,
)
from pipeline.metrics.counts import average_precisions, bins_of
from pipeline.metrics.scene_counts import SceneCounts
from pipeline.metrics.tally import SplitCounts
from pipeline.models.scores import Scores


def scene_counts(parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    counts = SceneCounts()
    names = [f"scene-{i:03d}" for i in range(len(parts))]
    for name, (scores, labels) in zip(names, parts, strict=True):
        counts.add_bins(name, bins_of(scores), labels)
    return counts.to_array(names)


def draw_scenes(rng, num_scenes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every second scene holds anomalies; how well they are seen varies from scene to scene."""
    parts = []
    for scene in range(num_scenes):
        labels = np.zeros(400, np.int64)
        labels[: 20 * (scene % 2)] = 1
        scores = rng.normal(rng.normal(0, 0.3), 1, 400) + labels * (1.5 + rng.normal(0, 0.7))
        parts.append((scores, labels))
    return parts


def tally_of(split, seed: int, gain: float = 1.0) -> SplitCounts:
    tally = SplitCounts(
        split="test", split_hash="abc", classes=ANOVOX_CLASSES, lookalike_classes=[20, 21]
    )
    generator = torch.Generator().manual_seed(seed)
    for row in range(split.num_rows):
        batch = split.batch([row])
        noise = torch.randn(len(batch.points), generator=generator)
        scores = Scores(
            point_score=noise + gain * (batch.point_label == 1),
            frame_score=torch.randn(1, generator=generator) + gain * batch.frame_label,
        )
        tally.update(scores, batch, split.index)
    return tally


@pytest.fixture(scope="module")
def split(make_split):
    return make_split(num_scenes=20, frames_per_scene=3, num_points=150, seed=0)


def test_resamples_keep_the_number_of_scenes_and_repeat_with_the_seed():
    weights = resamples(7, num_resamples=50, seed=3)
    assert (weights.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(weights, resamples(7, num_resamples=50, seed=3))
    assert (weights != resamples(7, num_resamples=50, seed=4)).any()


def test_a_resample_equals_the_metric_of_its_scenes_put_together():
    parts = draw_scenes(np.random.default_rng(0), 6)
    weights = resamples(6, num_resamples=120, seed=0)
    found = resampled_metrics(scene_counts(parts), weights)
    for draw in (0, 60, 119):
        chosen = np.repeat(np.arange(6), weights[draw])
        scores, labels = (np.concatenate([parts[i][side] for i in chosen]) for side in (0, 1))
        expected = average_precision_score(labels, scores)
        assert found["ap"][draw] == pytest.approx(expected, abs=2e-3)


def test_a_resample_of_one_class_is_nan_and_does_not_spoil_the_others():
    parts = [(np.zeros(3), np.zeros(3, int)), (np.arange(3.0), np.array([0, 0, 1]))]
    found = resampled_metrics(scene_counts(parts), np.array([[2, 0], [1, 1]]))
    assert math.isnan(found["ap"][0])
    assert found["ap"][1] == 1


def test_intervals_hold_the_exact_value_and_repeat_with_the_seed(split):
    tally = tally_of(split, 0)
    found = intervals(tally, num_resamples=200, seed=0)
    assert set(found) == {
        f"{name}_{metric}" for name in tally.slices for metric in ("ap", "auroc", "fpr95")
    }
    interval = found["point_ap"]
    assert interval.value == tally.readings()["point_ap"].value
    assert interval.low < interval.value < interval.high
    assert (interval.num_scenes, interval.reason) == (10, "")
    assert intervals(tally, num_resamples=200, seed=0)["point_ap"] == interval


def test_with_few_scenes_there_is_no_interval_but_a_reason(make_split):
    small = make_split(num_scenes=14, frames_per_scene=2, num_points=150, seed=1)
    interval = intervals(tally_of(small, 0), num_resamples=100, seed=0)["point_ap"]
    assert interval.value > 0
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert interval.reason.startswith("too few scenes: 7 hold an item that is anomalous")


def test_a_model_does_not_differ_from_itself(split):
    tally = tally_of(split, 0)
    for interval in differences(tally, tally, num_resamples=100, seed=0).values():
        if not interval.reason:
            assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_a_better_model_differs_and_the_sign_says_which(split):
    good, bad = tally_of(split, 0, gain=3.0), tally_of(split, 1, gain=0.5)
    gain = differences(good, bad, num_resamples=200, seed=0)["point_ap"]
    loss = differences(bad, good, num_resamples=200, seed=0)["point_ap"]
    assert 0 < gain.low < gain.value < gain.high
    assert (loss.value, loss.low, loss.high) == pytest.approx((-gain.value, -gain.high, -gain.low))


def test_pairing_cancels_what_both_models_find_hard():
    rng = np.random.default_rng(0)
    parts = draw_scenes(rng, 40)
    twin = [(scores + rng.normal(0, 0.1, len(scores)), labels) for scores, labels in parts]
    weights = resamples(40, num_resamples=300, seed=0)
    one, two = (resampled_metrics(scene_counts(each), weights)["ap"] for each in (parts, twin))
    assert np.std(one - two) < np.std(one) / 3


def test_models_on_different_scenes_or_splits_are_not_compared(split, make_split):
    tally = tally_of(split, 0)
    fewer = make_split(num_scenes=18, frames_per_scene=3, num_points=150, seed=0)
    with pytest.raises(ValueError, match="the tallies hold 20 and 18 scenes"):
        differences(tally, tally_of(fewer, 0), num_resamples=100, seed=0)
    other = SplitCounts(
        split="test", split_hash="xyz", classes=ANOVOX_CLASSES, lookalike_classes=[20, 21]
    )
    with pytest.raises(ValueError, match="split_hash is abc in one tally and xyz in the other"):
        differences(tally, other, num_resamples=100, seed=0)


@pytest.mark.parametrize(("num_scenes", "tail"), [(8, 0.00574), (15, 0.01321), (100, 0.02306)])
def test_few_scenes_widen_the_interval_as_students_t_does(num_scenes, tail):
    # Reference: scipy.stats.norm.cdf(-t.ppf(0.975, n - 1) * sqrt(n / (n - 1))).
    assert _expanded_tail(num_scenes) == pytest.approx(tail, rel=0.03)


def test_nine_of_ten_intervals_hold_the_truth_in_simulated_worlds():
    rng = np.random.default_rng(0)
    world = scene_counts(draw_scenes(rng, 1500)).sum(axis=0)
    truth = average_precisions(world[0, ::-1], world[1, ::-1])
    hits = []
    for trial in range(60):
        draws = resampled_metrics(
            scene_counts(draw_scenes(rng, 40)), resamples(40, num_resamples=200, seed=trial)
        )
        tail = _expanded_tail(20)
        low, high = np.nanquantile(draws["ap"], (tail, 1 - tail))
        hits.append(low <= truth <= high)
    assert 0.83 <= np.mean(hits) <= 1


@pytest.mark.slow
def test_a_thousand_resamples_of_60_scenes_take_seconds(make_split):
    tally = tally_of(make_split(num_scenes=60, frames_per_scene=3, num_points=5000, seed=0), 0)
    start = time.process_time()
    intervals(tally, num_resamples=1000, seed=0)
    assert time.process_time() - start < 10


def test_a_mean_over_trainings_lies_between_them_and_varies_less(split):
    one, two = tally_of(split, 0, gain=2.0), tally_of(split, 1, gain=2.0)
    mean = mean_intervals([one, two], num_resamples=200, seed=0)["point_ap"]
    alone = [intervals(each, num_resamples=200, seed=0)["point_ap"] for each in (one, two)]
    assert mean.value == pytest.approx(np.mean([each.value for each in alone]))
    assert mean.high - mean.low < max(each.high - each.low for each in alone)


def test_a_mean_less_itself_is_nothing(split):
    tally = tally_of(split, 0)
    found = mean_intervals([tally, tally], minus=[tally], num_resamples=100, seed=0)
    for interval in found.values():
        if not interval.reason:
            assert (interval.value, interval.low, interval.high) == pytest.approx((0, 0, 0))
