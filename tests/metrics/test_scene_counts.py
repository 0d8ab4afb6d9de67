"""Coarse counts per scene: their bins, their sums, and what they cost in accuracy."""

import numpy as np
import pytest

from pipeline.metrics.counts import NUM_BINS, ScoreCounts, bins_of
from pipeline.metrics.metric import metrics_of
from pipeline.metrics.scene_counts import NUM_SCENE_BINS, SCENE_BIN, SceneCounts


def test_scene_bins_ascend_and_cover_every_fine_bin():
    assert (np.diff(SCENE_BIN) >= 0).all()
    assert (SCENE_BIN[0], SCENE_BIN[-1]) == (0, NUM_SCENE_BINS - 1)
    assert len(SCENE_BIN) == NUM_BINS


@pytest.mark.parametrize(
    ("spread", "error"), [(0.3, 5e-3), (1.0, 1.5e-3), (3.0, 1e-3), (10.0, 1e-3)]
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_coarse_metrics_are_within_a_thousandth_of_the_exact_ones(spread, error, seed):
    rng = np.random.default_rng(seed)
    labels = (rng.random(300_000) < 0.004).astype(np.uint8)
    bins = bins_of(spread * (rng.normal(size=300_000) + 2.5 * labels - 3))
    exact, coarse = ScoreCounts(), SceneCounts()
    exact.add_bins(bins, labels)
    coarse.add_bins("a", bins, labels)
    (counts,) = coarse.to_array(["a"])
    for metric in metrics_of("point"):
        value = metric.values(counts[0, ::-1], counts[1, ::-1])
        assert value == pytest.approx(exact.metric(metric.name).value, abs=error)


def test_scenes_are_counted_apart_and_merge_in_any_order():
    bins, labels = bins_of(np.array([-2.0, 0.0, 3.0])), np.array([0, 1, 255])
    one, two = SceneCounts(), SceneCounts()
    one.add_bins("a", bins, labels)
    two.add_bins("a", bins, labels)
    two.add_bins("b", bins[:1], labels[:1])
    merged = (one + two).to_array(["a", "b", "c"])
    np.testing.assert_array_equal(merged, (two + one).to_array(["a", "b", "c"]))
    assert merged.sum(axis=2).tolist() == [[2, 2], [1, 0], [0, 0]]
    assert one.to_array(["a"]).sum() == 2  # merging leaves the parts alone


def test_counts_survive_the_way_through_an_array():
    counts = SceneCounts()
    counts.add_bins("b", bins_of(np.array([1.0])), np.array([1]))
    array = counts.to_array(["a", "b"])
    np.testing.assert_array_equal(
        SceneCounts.from_array(["a", "b"], array).to_array(["a", "b"]), array
    )
