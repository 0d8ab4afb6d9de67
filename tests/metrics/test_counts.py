"""Metrics from counts against scikit-learn, closed forms and brute force inside the bins."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve

from pipeline.metrics.counts import (
    BINS_PER_LOGIT,
    NO_NEGATIVE,
    NO_POSITIVE,
    ScoreCounts,
    average_precision_of,
    bins_of,
)
from pipeline.metrics.metric import metrics_of

METRICS = {one.name: one.values for one in metrics_of("point")}
SETTINGS = settings(max_examples=40, deadline=None)


def counts_of(scores: np.ndarray, labels: np.ndarray) -> ScoreCounts:
    counts = ScoreCounts()
    counts.add(np.asarray(scores, np.float32), np.asarray(labels, np.uint8))
    return counts


def values(counts: ScoreCounts) -> list[float]:
    return [counts.metric(name).value for name in METRICS]


def sklearn_values(scores: np.ndarray, labels: np.ndarray) -> list[float]:
    false_pos, recall, _ = roc_curve(labels, scores, drop_intermediate=False)
    reached = np.rint(recall * labels.sum()) * 20 >= 19 * labels.sum()
    ap, auroc = average_precision_score(labels, scores), roc_auc_score(labels, scores)
    return [ap, auroc, false_pos[reached.argmax()]]


@st.composite
def binned_sets(draw) -> tuple[np.ndarray, np.ndarray]:
    """Scores on bin edges, so nothing is lost by binning; few levels give heavy ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    num_items, num_levels = draw(st.integers(2, 300)), draw(st.integers(1, 60))
    labels = (rng.random(num_items) < draw(st.floats(0.02, 0.98))).astype(np.uint8)
    labels[:2] = 0, 1
    return rng.integers(-num_levels, num_levels, num_items) / 16, labels


@SETTINGS
@given(binned_sets())
def test_metrics_equal_scikit_learn_on_tied_scores(data):
    scores, labels = data
    assert values(counts_of(scores, labels)) == pytest.approx(
        sklearn_values(scores, labels), abs=1e-12
    )


@SETTINGS
@given(st.integers(0, 2**31), st.floats(0.001, 8))
def test_the_bounds_hold_the_metrics_of_the_unbinned_scores(seed, spread):
    rng = np.random.default_rng(seed)
    labels = (rng.random(400) < 0.2).astype(np.uint8)
    labels[:2] = 0, 1
    # A small spread puts hundreds of different scores into few bins.
    scores = ((rng.normal(size=400) + labels) * spread).astype(np.float32)
    counts = counts_of(scores, labels)
    for name, exact in zip(METRICS, sklearn_values(scores, labels), strict=True):
        metric = counts.metric(name)
        assert metric.low - 1e-12 <= exact <= metric.high + 1e-12
        assert metric.low <= metric.value <= metric.high


def test_the_bounds_are_reached_by_some_order_inside_the_bins():
    neg, pos = [2, 1, 0], [1, 2, 1]  # per bin, highest score first
    scores = np.repeat([3.0, 2.0, 1.0], [3, 3, 1])
    labels = np.concatenate([[0] * n + [1] * p for n, p in zip(neg, pos, strict=True)])
    shifts = [np.array([*order, 0]) for order in itertools.product((0, 0.1, 0.2), repeat=6)]
    found = [sklearn_values(scores + shift, labels) for shift in shifts]
    counts = counts_of(scores, labels)
    for name, reached in zip(METRICS, np.array(found).T, strict=True):
        metric = counts.metric(name)
        assert (reached.min(), reached.max()) == pytest.approx((metric.low, metric.high))


def test_bounds_are_narrow_at_the_size_of_a_split():
    rng = np.random.default_rng(0)
    labels = (rng.random(200_000) < 0.005).astype(np.uint8)
    counts = counts_of(rng.normal(size=200_000) + 2 * labels, labels)
    for name in METRICS:
        assert counts.metric(name).high - counts.metric(name).low < 2e-3


def test_a_perfect_and_a_reversed_ranking_have_their_closed_forms():
    scores, labels = np.arange(10), np.arange(10) >= 8
    assert values(counts_of(scores, labels)) == [1.0, 1.0, 0.0]
    worst = (1 / 9 + 2 / 10) / 2
    assert values(counts_of(-scores, labels)) == pytest.approx([worst, 0.0, 1.0])


def test_a_constant_predictor_scores_prevalence_and_one_half():
    counts = counts_of(np.zeros(50), np.arange(50) < 5)
    assert values(counts) == pytest.approx([0.1, 0.5, 1.0])
    assert counts.prevalence == pytest.approx(0.1)


def test_fpr95_takes_the_first_threshold_with_recall_of_exactly_095():
    scores = np.concatenate([np.arange(20), [0.5, 1.5, 30]])
    labels = np.concatenate([np.ones(20), np.zeros(3)])
    # 19 of 20 positives lie at or above 1.0; above that stand the negatives 1.5 and 30.
    assert counts_of(scores, labels).metric("fpr95").value == pytest.approx(2 / 3)


@SETTINGS
@given(binned_sets(), st.integers(0, 2**31))
def test_merging_in_any_order_equals_the_whole(data, seed):
    scores, labels = data
    rng = np.random.default_rng(seed)
    parts = np.array_split(rng.permutation(len(scores)), 4)
    merged = ScoreCounts()
    for part in parts:
        merged = merged + counts_of(scores[part], labels[part])
    whole = counts_of(scores, labels)
    np.testing.assert_array_equal(merged.to_array(), whole.to_array())
    assert values(ScoreCounts.from_array(merged.to_array())) == values(whole)


@SETTINGS
@given(binned_sets())
def test_metrics_are_unchanged_by_an_increasing_map_that_keeps_bins_apart(data):
    scores, labels = data
    mapped = np.sign(scores) * scores**2 + 3 * scores - 1
    assert values(counts_of(scores, labels)) == values(counts_of(mapped, labels))


def test_label_255_is_left_out():
    scores, labels = np.array([1.0, 2.0, 3.0]), np.array([0, 1, 255])
    assert values(counts_of(scores, labels)) == values(counts_of(scores[:2], labels[:2]))


def test_scores_beyond_the_range_saturate_and_infinities_are_legal():
    bins = bins_of(np.array([-np.inf, -64, -1e9, 0, 1e9, 64, np.inf]))
    last = 2**17 - 1
    assert bins.tolist() == [0, 0, 0, 2**16, last, last, last]


def test_a_nan_score_is_refused():
    with pytest.raises(ValueError, match="1 of 3 scores are NaN"):
        bins_of(np.array([0.0, np.nan, 1.0]))


@pytest.mark.parametrize(
    ("labels", "reason"), [([1, 1], NO_NEGATIVE), ([0, 0], NO_POSITIVE), ([255, 255], NO_POSITIVE)]
)
def test_one_class_is_undefined_with_a_reason_and_never_zero(labels, reason):
    counts = counts_of(np.array([0.0, 1.0]), np.array(labels))
    for name in METRICS:
        assert math.isnan(counts.metric(name).value)
        assert counts.metric(name).reason == reason
    assert math.isnan(counts.best_f1_threshold())
    with pytest.raises(ValueError, match="a curve needs both classes"):
        counts.roc()
    with pytest.raises(ValueError, match="a curve needs both classes"):
        counts.precision_recall()


def test_metrics_along_the_last_axis_equal_one_by_one_and_are_nan_with_one_class():
    rng = np.random.default_rng(1)
    neg, pos = rng.integers(0, 5, (2, 6, 40))
    pos[0] = 0
    for metric in METRICS.values():
        together = np.asarray(metric(neg, pos))
        assert np.isnan(together[0])
        one_by_one = [float(metric(n, p)) for n, p in zip(neg[1:], pos[1:], strict=True)]
        assert together[1:] == pytest.approx(one_by_one)


@SETTINGS
@given(binned_sets())
def test_the_best_f1_threshold_beats_every_other_and_its_confusion_is_scikit_learns(data):
    scores, labels = data
    counts = counts_of(scores, labels)
    threshold = counts.best_f1_threshold()
    confusion = counts.confusion(threshold)
    table = confusion_matrix(labels, scores >= threshold)
    found = [
        [confusion.true_neg, confusion.false_pos],
        [confusion.false_neg, confusion.true_pos],
    ]
    np.testing.assert_array_equal(table, found)
    assert confusion.f1 == pytest.approx(max(counts.confusion(float(s)).f1 for s in set(scores)))


def test_precision_and_recall_of_a_known_confusion():
    confusion = counts_of(np.array([3.0, 2, 1, 0]), np.array([1, 0, 1, 0])).confusion(1.0)
    assert (confusion.precision, confusion.recall, confusion.f1) == pytest.approx((2 / 3, 1, 0.8))


def test_curves_are_thin_monotone_and_keep_the_area():
    rng = np.random.default_rng(2)
    labels = (rng.random(50_000) < 0.05).astype(np.uint8)
    counts = counts_of(rng.normal(size=50_000) + labels, labels)
    false_pos_rate, recall = counts.roc()
    assert len(recall) <= 1000
    assert (false_pos_rate[0], recall[0], false_pos_rate[-1], recall[-1]) == (0, 0, 1, 1)
    assert (np.diff(recall) >= 0).all()
    assert (np.diff(false_pos_rate) >= 0).all()
    area = np.trapezoid(recall, false_pos_rate)
    assert area == pytest.approx(counts.metric("auroc").value, abs=1e-3)
    recall, precision = counts.precision_recall()
    assert len(recall) <= 1000
    area = (np.diff(recall, prepend=0) * precision).sum()
    assert area == pytest.approx(counts.metric("ap").value, abs=2e-3)


@SETTINGS
@given(binned_sets())
def test_ap_without_bins_equals_scikit_learn(data):
    scores, labels = data
    expected = average_precision_score(labels, scores)
    found = average_precision_of(scores[labels == 0], scores[labels == 1])
    assert found == pytest.approx(expected)


def test_a_bin_is_a_thousandth_of_a_logit_wide():
    assert BINS_PER_LOGIT == 1024


def test_counting_100_000_scores_takes_milliseconds():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=100_000).astype(np.float32), np.zeros(100_000, np.uint8)
    counts, times = ScoreCounts(), []
    for _ in range(5):
        start = time.process_time()
        counts.add(scores, labels)
        times.append(time.process_time() - start)
    assert min(times) < 0.01


def test_the_normal_threshold_lets_the_asked_share_of_normal_items_pass():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, 20_000)
    labels = (rng.random(20_000) < 0.3).astype(np.uint8)
    counts = ScoreCounts()
    counts.add(scores, labels)
    threshold = counts.normal_threshold(0.99)
    assert (scores[labels == 0] < threshold).mean() == pytest.approx(0.99, abs=1e-3)
    counts.add(rng.normal(30, 2, 5000), np.ones(5000, np.uint8))
    assert counts.normal_threshold(0.99) == threshold  # anomalies are not looked at
    assert math.isnan(ScoreCounts().normal_threshold(0.99))
