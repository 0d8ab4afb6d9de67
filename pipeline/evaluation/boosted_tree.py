"""What a detector must beat: trees on plain features that were given the same train split.

Boosted trees where it holds anomalies, an isolation forest where it holds none: a baseline that had
seen anomalies would say nothing of a detector that had not.
"""

from collections.abc import Sequence

import numpy as np
import sklearn
import torch
from jaxtyping import Float32
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest

from pipeline.data.batch import Batch
from pipeline.data.manifest import Manifest
from pipeline.evaluation.leaf_masks import LeafMasks
from pipeline.evaluation.point_features import FEATURES, PointSample, feature_rows
from pipeline.metrics.frame_view import FrameView, frame_views
from pipeline.models.scores import Scores

INPUTS = [FEATURES.index(name) for name in FEATURES if name != "frame_index"]
"""The frame index is a shortcut of AnoVox, never an input."""
NUM_ITERATIONS = 100
"""With 8 leaves and rate 0.2 as good on a validation split as 200 trees of 31, in half the time."""
FRAME_TOP_K = 10
"""A frame's score is the mean of this many highest point scores."""


NUM_ISOLATION_TREES = 50
LOGITS_PER_SCORE = 64.0
"""An isolation forest's scores lie in [0, 1]; so they spread over the bins of the metrics."""


CHECKED = 1000
"""Points of the train sample on which the tables of a boosted tree are compared with the tree."""


class IsolationBaseline:
    """An isolation forest (Liu et al., ICDM 2008) fitted on normal points."""

    def __init__(self, inputs: np.ndarray, weight: np.ndarray, *, seed: int) -> None:
        self._forest = IsolationForest(n_estimators=NUM_ISOLATION_TREES, random_state=seed)
        self._forest.fit(_filled(inputs), sample_weight=weight)

    def decision_function(self, inputs: Float32[np.ndarray, "F P"]) -> np.ndarray:
        """Scores of points, higher = more anomalous."""
        return -LOGITS_PER_SCORE * self._forest.score_samples(_filled(inputs.T))


Baseline = LeafMasks | IsolationBaseline


def _filled(inputs: np.ndarray) -> np.ndarray:
    """Colours of points out of view, which there are none, as -1."""
    return np.nan_to_num(inputs, nan=-1.0)


def baseline_name(manifest: Manifest) -> str:
    """Which of the two baselines a prepared folder's train split allows."""
    return "boosted tree" if manifest.labels["train"].points_pos else "isolation forest"


def fit_baseline(sample: PointSample, *, seed: int) -> Baseline:
    """Fit on a train sample; both classes weigh the same, the points stand for what they were."""
    positive = sample.label == 1
    if positive.all():
        raise ValueError(
            "the baseline's train sample holds no normal point; prepare splits whose train part "
            "holds normal scenes (jobs.prepare)"
        )
    if not positive.any():
        return IsolationBaseline(sample.features[:, INPUTS], sample.weight, seed=seed)
    weight = sample.weight.astype(np.float64)
    for group in (positive, ~positive):
        weight[group] *= len(weight) / 2 / weight[group].sum()
    model = HistGradientBoostingClassifier(
        max_iter=NUM_ITERATIONS, max_leaf_nodes=8, learning_rate=0.2, random_state=seed
    )
    model.set_params(early_stopping=False)  # it would split at random, through scenes
    inputs = sample.features[:, INPUTS]
    return _checked_tables(model.fit(inputs, sample.label, sample_weight=weight), inputs)


def _checked_tables(
    model: HistGradientBoostingClassifier, inputs: Float32[np.ndarray, "N F"]
) -> LeafMasks:
    """The tree's tables; its nodes are private to scikit-learn, whose next version may differ."""
    tables, some = LeafMasks(model), inputs[:: max(1, len(inputs) // CHECKED)]
    apart = np.abs(tables.decision_function(some.T) - model.decision_function(some)).max()
    assert apart < 1e-6, f"scikit-learn {sklearn.__version__} walks its trees otherwise: {apart}"
    return tables


def baseline_scores(model: Baseline, batch: Batch, views: Sequence[FrameView] = ()) -> Scores:
    """Raw logits of every point; a frame's is the mean of its highest ones, -inf without points.

    `views` are the batch's, where they are known already.
    """
    points = [_view_scores(model, view) for view in views or frame_views(batch)]
    frames = [np.sort(each)[-FRAME_TOP_K:].mean() if len(each) else -np.inf for each in points]
    return Scores(
        point_score=torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *points])),
        frame_score=torch.from_numpy(np.array(frames, np.float32)),
    )


def _view_scores(model: Baseline, view: FrameView) -> Float32[np.ndarray, "P"]:
    if not len(view.points):
        return np.zeros(0, np.float32)
    inputs = feature_rows(view, frame_index=0)[INPUTS]
    return model.decision_function(inputs).astype(np.float32)
