"""AnoVox's own metrics of voxels, as its benchmark code defines and averages them.

They are listed in docs/anovox-format.md ("AnoVox's own benchmark"). Scores are sigmoids of the
logits, an item is predicted at a threshold when its score is above it, and F1 and PPV are means
over ten thresholds in the middle of the range, so that unlike AP and AUROC they depend on how a
detector is calibrated. Thresholds are moved to the next border of the histogram's bins, by at most
1/1024 of a logit.
"""

import math

import numpy as np
from jaxtyping import Float64, Int64

from pipeline.metrics.counts import BINS_PER_LOGIT, MAX_LOGIT, NUM_BINS, ScoreCounts

GRID = np.arange(100, -1, -1) / 100
"""Thresholds of the benchmark's FPR95, from the highest down."""
MIDDLE = np.arange(25, 75, 5) / 100
"""Thresholds that F1 and PPV are averaged over."""
BENCHMARK_METRICS = ("fpr95_grid", "specificity", "f1", "ppv")


def benchmark_metrics(counts: ScoreCounts) -> dict[str, float]:
    """`BENCHMARK_METRICS` of the counted logits; all nan where a class is missing.

    `fpr95_grid`: share of normal items predicted at the first threshold of `GRID` that finds 95 %
    of the anomalous ones. `specificity`: share of normal items not predicted where precision and
    recall are closest. `f1`, `ppv`: means over `MIDDLE`; PPV is 0 where nothing is predicted.
    """
    if counts.undefined:
        return dict.fromkeys(BENCHMARK_METRICS, math.nan)
    false_pos, true_pos = predicted(counts, MIDDLE)
    found = true_pos + false_pos
    return {
        "fpr95_grid": _fpr95_grid(counts),
        "specificity": _specificity(counts),
        "f1": float(np.mean(2 * true_pos / (found + counts.num_pos))),
        "ppv": float(np.mean(true_pos / np.maximum(found, 1))),
    }


def predicted(
    counts: ScoreCounts, thresholds: Float64[np.ndarray, "T"]
) -> Int64[np.ndarray, "2 T"]:
    """Normal and anomalous items whose sigmoid is above each threshold, from 0 to 1."""
    with np.errstate(divide="ignore"):
        logit = np.log(thresholds) - np.log1p(-thresholds)
    own_bin = np.clip((logit + MAX_LOGIT) * BINS_PER_LOGIT, 0, NUM_BINS - 1).astype(np.int64)
    # The sigmoid of any logit is above 0, and of none above 1.
    own_bin[thresholds == 0] = -1
    above = counts.to_array()[:, ::-1].cumsum(axis=1)[:, ::-1]
    return np.concatenate([above, [[0], [0]]], axis=1)[:, own_bin + 1]


def _fpr95_grid(counts: ScoreCounts) -> float:
    false_pos, true_pos = predicted(counts, GRID)
    first = int((20 * true_pos >= 19 * counts.num_pos).argmax())
    return float(false_pos[first] / counts.num_neg)


def _specificity(counts: ScoreCounts) -> float:
    """Of all scores as thresholds (at or above), the one where precision comes closest to recall;
    of equals the lowest."""
    array = counts.to_array()
    occupied = np.flatnonzero(array.any(axis=0))
    false_pos, true_pos = array[:, occupied][:, ::-1].cumsum(axis=1)[:, ::-1]
    apart = np.abs(true_pos / (true_pos + false_pos) - true_pos / counts.num_pos)
    return float(1 - false_pos[apart.argmin()] / counts.num_neg)
