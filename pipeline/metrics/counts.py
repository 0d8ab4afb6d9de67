"""Exact metrics of a whole split from mergeable per-label logit histograms.

Scores need not be kept, ranks and scenes merge by addition in any order, and nothing is averaged
over batches. What the bins hide (the order of the scores inside one bin) is bounded from the counts
themselves, so every metric comes with the interval in which its value for the unbinned scores lies.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Num, Shaped

from pipeline.metrics.metric import DEFINITIONS

MAX_LOGIT = 64.0
NUM_BINS = 2**17
BINS_PER_LOGIT = NUM_BINS / (2 * MAX_LOGIT)
NO_POSITIVE, NO_NEGATIVE = "no positive item", "no negative item"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A value with the bounds the bins leave open; nan, with the reason, where undefined."""

    value: float
    low: float
    high: float
    """The unbinned scores' value lies in [low, high]."""
    reason: str = ""
    """Why the metric is undefined; empty where it is defined."""


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Counts at a threshold; an item is predicted anomalous when its score is at or above it."""

    true_pos: int
    false_pos: int
    false_neg: int
    true_neg: int

    @property
    def precision(self) -> float:
        """Share of predicted items that are anomalous; nan where nothing is predicted."""
        return _ratio(self.true_pos, self.true_pos + self.false_pos)

    @property
    def recall(self) -> float:
        """Share of anomalous items that are predicted; nan where there is none."""
        return _ratio(self.true_pos, self.true_pos + self.false_neg)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return _ratio(2 * self.true_pos, 2 * self.true_pos + self.false_pos + self.false_neg)


def bins_of(scores: Float[np.ndarray, "N"]) -> Int64[np.ndarray, "N"]:
    """Bin of each logit; beyond +-64 the outermost bins, infinities included. NaN raises."""
    scaled = (scores.astype(np.float64) + MAX_LOGIT) * BINS_PER_LOGIT
    if np.isnan(scaled).any():
        raise ValueError(
            f"{int(np.isnan(scaled).sum())} of {len(scores)} scores are NaN; a score must be a "
            "number or an infinity: look at the model's inputs and weights"
        )
    return np.clip(scaled, 0, NUM_BINS - 1).astype(np.int64)


class ScoreCounts:
    """Counts of normal (row 0) and anomalous (row 1) items per logit bin; label 255 is left out."""

    def __init__(self, counts: Int64[np.ndarray, "2 bins"] | None = None) -> None:
        self._counts = np.zeros((2, NUM_BINS), np.int64) if counts is None else counts

    def add(self, scores: Float[np.ndarray, "N"], labels: Shaped[np.ndarray, "N"]) -> None:
        """Count raw logits; labels are 0, 1 or 255 (ignore). NaN scores raise ValueError."""
        self.add_bins(bins_of(scores), labels)

    def add_bins(self, bins: Int64[np.ndarray, "N"], labels: Shaped[np.ndarray, "N"]) -> None:
        """Count items whose bins are known (`bins_of`)."""
        for label in (0, 1):
            self.add_label(label, bins[labels == label])

    def add_label(self, label: int, bins: Int64[np.ndarray, "N"]) -> None:
        """Count items of one label by their bins."""
        np.add.at(self._counts[label], bins, 1)

    def __add__(self, other: "ScoreCounts") -> "ScoreCounts":
        return ScoreCounts(self._counts + other._counts)

    def to_array(self) -> Int64[np.ndarray, "2 bins"]:
        """The counts themselves, so that ranks can add them up."""
        return self._counts

    @classmethod
    def from_array(cls, counts: Int64[np.ndarray, "2 bins"]) -> "ScoreCounts":
        """Inverse of `to_array`."""
        return cls(counts)

    @property
    def num_neg(self) -> int:
        """Normal items."""
        return int(self._counts[0].sum())

    @property
    def num_pos(self) -> int:
        """Anomalous items."""
        return int(self._counts[1].sum())

    @property
    def prevalence(self) -> float:
        """Share of anomalous items: the AP of a constant predictor; nan without items."""
        return _ratio(self.num_pos, self.num_pos + self.num_neg)

    @property
    def undefined(self) -> str:
        """Why ranking metrics are undefined; empty where they are defined."""
        return "" if self.num_pos and self.num_neg else NO_NEGATIVE if self.num_pos else NO_POSITIVE

    def confusion(self, threshold: float) -> Confusion:
        """Counts when scores in or above the threshold's bin are predicted anomalous."""
        first = int(bins_of(np.array([threshold]))[0])
        neg, pos = self._counts[:, first:].sum(axis=1).tolist()
        return Confusion(
            true_pos=pos,
            false_pos=neg,
            false_neg=self.num_pos - pos,
            true_neg=self.num_neg - neg,
        )

    def best_f1_threshold(self) -> float:
        """Logit (lower edge of a bin) with the highest F1, the highest such; nan if undefined."""
        if self.undefined:
            return math.nan
        occupied, neg, pos = self._descending()
        f1 = 2 * pos.cumsum() / (pos.cumsum() + neg.cumsum() + self.num_pos)
        return float(occupied[int(f1.argmax())] / BINS_PER_LOGIT - MAX_LOGIT)

    def normal_threshold(self, specificity: float) -> float:
        """Lowest logit (edge of a bin) with at least this share of normal items below; nan: none.

        It looks at normal items only.
        """
        if not self.num_neg:
            return math.nan
        below = np.append(0, self._counts[0].cumsum())
        first = int((below >= specificity * self.num_neg).argmax())
        return float(first / BINS_PER_LOGIT - MAX_LOGIT)

    def precision_recall(self, max_points: int = 1000) -> tuple[np.ndarray, np.ndarray]:
        """Recall and precision by descending threshold, thinned to <= `max_points`, for plots."""
        self._demand_both_classes()
        _, neg, pos = self._descending()
        true_pos, false_pos = pos.cumsum(), neg.cumsum()
        keep = _thinned(true_pos, max_points)
        precision = true_pos[keep] / (true_pos[keep] + false_pos[keep])
        return true_pos[keep] / self.num_pos, precision

    def roc(self, max_points: int = 1000) -> tuple[np.ndarray, np.ndarray]:
        """False and true positive rate by descending threshold from (0, 0), thinned, for plots."""
        self._demand_both_classes()
        _, neg, pos = self._descending()
        recall = np.append(0, pos.cumsum()) / self.num_pos
        false_pos_rate = np.append(0, neg.cumsum()) / self.num_neg
        keep = _thinned(recall + false_pos_rate, max_points)
        return false_pos_rate[keep], recall[keep]

    def _demand_both_classes(self) -> None:
        if self.undefined:
            raise ValueError(
                f"a curve needs both classes, but there is {self.undefined}; leave it out"
            )

    def metric(self, name: str) -> Metric:
        """The metric of that name in `DEFINITIONS`."""
        if self.undefined:
            return Metric(value=math.nan, low=math.nan, high=math.nan, reason=self.undefined)
        _, neg, pos = self._descending()
        known = DEFINITIONS[name]
        value = float(known.values(neg, pos))
        low, high = (known.bounds or partial(_order_bounds, known.values))(neg, pos)
        # Rounding may put a bound 1e-15 on the wrong side of the value.
        return Metric(value=value, low=min(low, value), high=max(high, value))

    def _descending(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Occupied bins from the highest logit down, with their normal and anomalous counts."""
        occupied = np.flatnonzero(self._counts.any(axis=0))[::-1]
        return occupied, self._counts[0, occupied], self._counts[1, occupied]


def average_precisions(
    neg: Num[np.ndarray, "*more bins"], pos: Num[np.ndarray, "*more bins"]
) -> Float64[np.ndarray, "*more"] | np.float64:
    """AP along the last axis of counts in descending order of score; nan with one class only."""
    true_pos, false_pos = pos.cumsum(-1), neg.cumsum(-1)
    precision = true_pos / np.maximum(true_pos + false_pos, 1)
    return (pos * precision).sum(-1) / _total(neg, pos)


def aurocs(
    neg: Num[np.ndarray, "*more bins"], pos: Num[np.ndarray, "*more bins"]
) -> Float64[np.ndarray, "*more"] | np.float64:
    """AUROC along the last axis of counts in descending order; nan with one class only."""
    below = neg.sum(-1, keepdims=True) - neg.cumsum(-1)
    return (pos * (below + neg / 2)).sum(-1) / _total(neg, pos) / neg.sum(-1)


def fpr95s(
    neg: Num[np.ndarray, "*more bins"], pos: Num[np.ndarray, "*more bins"]
) -> Float64[np.ndarray, "*more"] | np.float64:
    """FPR at recall 0.95 along the last axis of descending counts; nan with one class only."""
    first = _first_at_recall_95(pos)
    false_pos = np.take_along_axis(neg.cumsum(-1), first[..., None], -1)[..., 0]
    return np.where(pos.sum(-1) > 0, false_pos, math.nan) / _total(neg, neg)


def average_precision_of(
    normal: Float[np.ndarray, "N"], anomalous: Float[np.ndarray, "M"]
) -> float:
    """AP of the scores of few items without bins; nan where either class has none.

    Precision is needed at the anomalous scores alone, so the normal ones are sorted, not ranked.
    """
    if not len(normal) or not len(anomalous):
        return math.nan
    thresholds, found = np.unique(anomalous, return_counts=True)
    false_pos = len(normal) - np.searchsorted(np.sort(normal), thresholds)
    true_pos = found[::-1].cumsum()[::-1]
    return float((found * true_pos / (true_pos + false_pos)).sum() / len(anomalous))


def ap_bounds(neg: Num[np.ndarray, "bins"], pos: Num[np.ndarray, "bins"]) -> tuple[float, float]:
    """Least AP: in each bin all normal items first, then the anomalous ones one by one.

    Greatest: all anomalous items first, in one tie (a tie lends each the precision of the last).
    The least needs sum over i = 1..p of (t + i) / (t + i + f), which is p - f times a difference of
    digamma functions.
    """
    true_pos, false_pos = pos.cumsum(), neg.cumsum()
    before = true_pos - pos
    harmonic = _digamma(true_pos + false_pos + 1.0) - _digamma(before + false_pos + 1.0)
    least = (pos - false_pos * harmonic).sum() / pos.sum()
    most = (pos * true_pos / np.maximum(true_pos + false_pos - neg, 1)).sum() / pos.sum()
    return float(least), float(most)


def _order_bounds(
    values: Callable[..., Any], neg: np.ndarray, pos: np.ndarray
) -> tuple[float, float]:
    """Values with the normal items of every bin before its anomalous ones, and after them."""
    pairs = np.stack([neg, np.zeros_like(neg)], axis=1), np.stack([np.zeros_like(pos), pos], axis=1)
    ends = [values(*(pair[:, ::step].ravel() for pair in pairs)) for step in (1, -1)]
    return float(min(ends)), float(max(ends))


def _first_at_recall_95(pos: np.ndarray) -> np.ndarray:
    """First place along the last axis where 95 % are reached; in integers, so exactly."""
    return np.asarray((20 * pos.cumsum(-1) >= 19 * pos.sum(-1, keepdims=True)).argmax(-1))


def _total(neg: np.ndarray, pos: np.ndarray) -> np.ndarray:
    """Sum of `pos` along the last axis, nan where either class is empty."""
    defined = (pos.sum(-1) > 0) & (neg.sum(-1) > 0)
    return np.where(defined, pos.sum(-1, dtype=np.float64), math.nan)


def _digamma(values: np.ndarray) -> np.ndarray:
    return torch.special.digamma(torch.from_numpy(values.astype(np.float64))).numpy()


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _thinned(along: np.ndarray, max_points: int) -> np.ndarray:
    """At most `max_points` places, about evenly along an ascending array, both ends included."""
    if len(along) <= max_points:
        return np.arange(len(along))
    wanted = np.linspace(along[0], along[-1], max_points - 1)
    return np.union1d(np.searchsorted(along, wanted), [len(along) - 1])
