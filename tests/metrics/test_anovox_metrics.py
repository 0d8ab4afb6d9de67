"""AnoVox's own metrics: values worked out by hand, and its code's definitions on plain arrays."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_curve, precision_score

from pipeline.metrics.anovox_metrics import BENCHMARK_METRICS, benchmark_metrics, predicted
from pipeline.metrics.counts import ScoreCounts

NONE_IS_0: dict[str, Any] = {"zero_division": 0}


def counts_of(score, label) -> ScoreCounts:
    counts = ScoreCounts()
    counts.add(np.asarray(score, dtype=np.float64), np.asarray(label))
    return counts


def logit(p):
    return np.log(p) - np.log1p(-np.asarray(p))


def reference(score: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """anomaly-benchmark semantics on scores in (0, 1), threshold by threshold."""
    precision, recall, thresholds = precision_recall_curve(label, score)
    best = thresholds[np.abs(precision - recall)[:-1].argmin()]
    true_neg, false_pos, _, _ = confusion_matrix(label, score >= best).ravel()
    grid = [t / 100 for t in range(100, -1, -1)]
    first = next(t for t in grid if (score[label == 1] > t).mean() >= 0.95)
    middle = [t / 100 for t in range(25, 75, 5)]
    return {
        "fpr95_grid": float((score[label == 0] > first).mean()),
        "specificity": true_neg / (true_neg + false_pos),
        "f1": float(np.mean([f1_score(label, score > t) for t in middle])),
        "ppv": float(np.mean([precision_score(label, score > t, **NONE_IS_0) for t in middle])),
    }


def test_values_worked_out_by_hand():
    """Four normal scores, two anomalous ones.

    t = 0.25 to 0.40 predict 0.43, 0.62, 0.88 (two true): P 2/3, F1 4/5. t = 0.45 to 0.60 predict
    0.62, 0.88 (one true): P 1/2, F1 1/2. t = 0.65 and 0.70 predict 0.88 (true): P 1, F1 2/3.
    """
    found = benchmark_metrics(
        counts_of(logit([0.02, 0.11, 0.205, 0.62, 0.43, 0.88]), [0, 0, 0, 0, 1, 1])
    )
    assert found["ppv"] == pytest.approx((4 * 2 / 3 + 4 * 1 / 2 + 2 * 1) / 10)
    assert found["f1"] == pytest.approx((4 * 4 / 5 + 4 * 1 / 2 + 2 * 2 / 3) / 10)
    # All of two must be found: the grid's first threshold below 0.43 is 0.42, and 0.62 is above it.
    assert found["fpr95_grid"] == 1 / 4
    # Two predicted, one of them true: precision = recall = 1/2 from 0.62 on; 3 of 4 are below it.
    assert found["specificity"] == 3 / 4


def test_of_equal_distances_between_precision_and_recall_the_lowest_threshold_counts():
    """P - R is 1/2 from the top score on (1 - 1/2) and -1/2 at the lowest (2/4 - 1)."""
    found = benchmark_metrics(counts_of([3.0, 2.0, 1.0, 0.0], [1, 0, 0, 1]))
    assert found["specificity"] == 1 / 2  # at 2.0 both are 1/2


def test_thresholds_of_zero_and_one_predict_everything_and_nothing():
    counts = counts_of([-100.0, -3.0, 70.0], [0, 1, 1])
    assert predicted(counts, np.array([1.0, 0.0])).tolist() == [[0, 1], [0, 2]]


def test_a_detector_whose_anomalies_all_score_low_reaches_the_end_of_the_grid():
    found = benchmark_metrics(counts_of([-9.0, -9.5, -8.0, -10.0], [1, 1, 0, 0]))
    assert found == {"fpr95_grid": 1.0, "specificity": 1 / 2, "f1": 0.0, "ppv": 0.0}


def test_a_missing_class_leaves_everything_undefined():
    for label in ([0, 0], [1, 1]):
        found = benchmark_metrics(counts_of([1.0, 2.0], label))
        assert list(found) == list(BENCHMARK_METRICS)
        assert all(math.isnan(value) for value in found.values())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(10, 400))
def test_all_equal_the_definitions_on_plain_arrays(seed, num):
    """Scores keep off the grid by more than a bin: the histogram cannot tell them apart there."""
    rng = np.random.default_rng(seed)
    label = rng.random(num) < 0.2
    label[:2] = (True, False)
    score = (rng.integers(0, 100, num) + rng.choice([0.25, 0.5, 0.75], num)) / 100
    score = np.where(label, np.maximum(score, rng.permutation(score)), score)
    found = benchmark_metrics(counts_of(logit(score), label.astype(np.uint8)))
    assert found == pytest.approx(reference(score, label.astype(int)))
