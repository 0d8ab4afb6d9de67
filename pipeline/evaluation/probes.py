"""Shortcut probes: how far one plain fact goes, fitted on train scenes and read on test scenes.

Point probes take one feature each: a monotone probe ranks by it, a binned one by the likelihood
ratio of 40 quantile bins. Against ordinary small objects none should go far; against all points
some must (an anomaly lies on the road, a facade does not: that is the task). Frame probes take
facts about the recording. What AnoVox itself gives away is `inherent`: the detector must beat it.
"""

import collections
import math
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped
from sklearn.metrics import roc_auc_score

from pipeline.evaluation.point_features import FEATURES, PointSample

_NUM_BINS = 40
LIMIT = 0.75
"""AUROC above which a probe that is not inherent counts as a shortcut."""
SMOOTHING = 1.0
"""Frames at the prior that every value of a frame probe starts from."""
DISTANCE_EDGES_M = (10.0, 20.0, 40.0, 80.0)
INHERENT = ("archive", "frame_index", "archive + frame_index", "distance")
"""Normality archives hold no anomaly; a static one is approached in time, and seen when near."""


def feature_probes(train: PointSample, test: PointSample) -> pd.DataFrame:
    """One line per feature: AUROCs `small_monotone`, `small_binned`, `all_monotone`, `all_binned`.

    `small` is against ordinary small objects, `all` against all points; nan where the train or the
    test side holds one class only. Image features are read on the points in view. The verdict is
    about small objects.
    """
    lines = []
    for column, name in enumerate(FEATURES):
        small = [
            _side(sample, column, sample.is_near | (sample.label == 1)) for sample in (train, test)
        ]
        everything = [
            _side(sample, column, np.ones(len(sample.label), bool)) for sample in (train, test)
        ]
        line = {
            "small_monotone": _monotone(*small),
            "small_binned": _binned(*small),
            "all_monotone": _monotone(*everything),
            "all_binned": _binned(*everything),
        }
        verdict = _verdict(name, [line["small_monotone"], line["small_binned"]])
        lines.append({"feature": name, **line, "verdict": verdict})
    return pd.DataFrame(lines)


def shortcut_probes(train: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """One line per fact: AUROC on the test frames, of all archives and of static ones alone.

    `train` and `test` are the splits' metadata. A frame's score is the smoothed share of anomalous
    train frames with its value; a value never seen scores the prior. Ignored frames are left out.
    """
    sides = [labelled_frames(side) for side in (train, test)]
    static = [[frame for frame in side if frame["kind"] == "static"] for side in sides]
    lines = []
    for name, fact in FACTS.items():
        line = {"all": _frame_auroc(fact, *sides), "static": _frame_auroc(fact, *static)}
        lines.append({"probe": name, **line, "verdict": _verdict(name, list(line.values()))})
    return pd.DataFrame(lines)


def labelled_frames(index: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Lines of metadata without the ignored frames."""
    return [frame for frame in index.to_dict("records") if frame["frame_label"] != 255]


def _distance_bin(frame: dict[Hashable, Any]) -> int:
    """Bin of the anomaly's distance; -1 for frames of recordings without an anomaly."""
    distance_m = frame["anomaly_distance_m"]
    return -1 if math.isnan(distance_m) else int(np.digitize(distance_m, DISTANCE_EDGES_M))


FACTS: dict[str, Callable[[dict[Hashable, Any]], Hashable]] = {
    "archive": lambda frame: frame["archive"],
    "frame_index": lambda frame: frame["frame_index"],
    "archive + frame_index": lambda frame: (frame["archive"], frame["frame_index"]),
    "town": lambda frame: frame["town"],
    "weather": lambda frame: frame["weather"],
    "distance": _distance_bin,
}


def fact_scores(
    fact: Callable[[dict[Hashable, Any]], Hashable],
    train: list[dict[Hashable, Any]],
    test: list[dict[Hashable, Any]],
) -> Float[np.ndarray, "F"]:
    """Smoothed share of anomalous train frames with each test frame's value of `fact`, in [0, 1].

    Both are labelled frames, and there is at least one of train.
    """
    prior = sum(frame["frame_label"] for frame in train) / len(train)
    seen = collections.Counter(fact(frame) for frame in train)
    anomalous = collections.Counter(fact(frame) for frame in train if frame["frame_label"] == 1)
    values = list(map(fact, test))
    shares = [(anomalous[v] + SMOOTHING * prior) / (seen[v] + SMOOTHING) for v in values]
    return np.array(shares)


def _frame_auroc(
    fact: Callable[[dict[Hashable, Any]], Hashable],
    train: list[dict[Hashable, Any]],
    test: list[dict[Hashable, Any]],
) -> float:
    if not train:
        return math.nan
    scores = fact_scores(fact, train, test)
    labels = np.array([frame["frame_label"] for frame in test])
    return _auroc(scores, labels, np.ones(len(labels)))


def _verdict(name: str, aurocs: list[float]) -> str:
    """`inherent`, `shortcut` (an AUROC above LIMIT), `fine`, or `undefined` (no AUROC at all)."""
    read = [auroc for auroc in aurocs if not math.isnan(auroc)]
    if name in INHERENT:
        return "inherent"
    if not read:
        return "undefined"
    return "shortcut" if max(read) > LIMIT else "fine"


Side = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Values of one feature, labels and weights of the points that have it."""


def _side(sample: PointSample, column: int, mask: Bool[np.ndarray, "N"]) -> Side:
    values = sample.features[:, column]
    mask = mask & ~np.isnan(values)
    return values[mask], sample.label[mask], sample.weight[mask]


def _monotone(train: Side, test: Side) -> float:
    """AUROC on test of the feature, higher or lower being anomalous as on train."""
    sign = 1 if _auroc(*train) >= 0.5 else -1
    return _auroc(sign * test[0], test[1], test[2])


def _binned(train: Side, test: Side) -> float:
    """AUROC on test of the log likelihood ratio of the feature's quantile bins on train."""
    values, labels, weights = train
    if not len(values):
        return math.nan
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _NUM_BINS + 1)[1:-1]))
    ratio = np.zeros(len(edges) + 1)
    for label, sign in ((1, 1), (0, -1)):
        own = labels == label
        share = weights[own] / max(weights[own].sum(), 1)
        places = np.searchsorted(edges, values[own], side="right")
        # A bin without a point counts as one thousandth of the class, not as never.
        ratio += sign * np.log(np.bincount(places, share, len(edges) + 1) + 1e-3)
    return _auroc(ratio[np.searchsorted(edges, test[0], side="right")], test[1], test[2])


def _auroc(
    scores: Float[np.ndarray, "N"],
    labels: Shaped[np.ndarray, "N"],
    weights: Float[np.ndarray, "N"],
) -> float:
    if not labels.any() or labels.all():
        return math.nan
    return float(roc_auc_score(labels, scores, sample_weight=weights))
