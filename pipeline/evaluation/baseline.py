"""What a detector must beat: trees on plain features that were given the same train split.

Boosted trees where it holds anomalies, an isolation forest where it holds none: a baseline that had
seen anomalies would say nothing of a detector that had not.
"""

import numpy as np
import torch
from jaxtyping import Float32
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest

from pipeline.data.batches import Batch
from pipeline.data.manifest import Manifest
from pipeline.evaluation.features import FEATURES, PointSample, point_features
from pipeline.evaluation.views import FrameView, frame_views
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


class IsolationBaseline:
    """An isolation forest (Liu et al., ICDM 2008) fitted on normal points."""

    def __init__(self, inputs: np.ndarray, weight: np.ndarray, *, seed: int) -> None:
        self._forest = IsolationForest(n_estimators=NUM_ISOLATION_TREES, random_state=seed)
        self._forest.fit(_filled(inputs), sample_weight=weight)

    def decision_function(self, inputs: np.ndarray) -> np.ndarray:
        """Scores of points, higher = more anomalous."""
        return -LOGITS_PER_SCORE * self._forest.score_samples(_filled(inputs))


Baseline = HistGradientBoostingClassifier | IsolationBaseline


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
    return model.fit(sample.features[:, INPUTS], sample.label, sample_weight=weight)


def baseline_scores(model: Baseline, batch: Batch) -> Scores:
    """Raw logits of every point; a frame's is the mean of its highest ones, -inf without points."""
    points = [_view_scores(model, view) for view in frame_views(batch)]
    frames = [np.sort(each)[-FRAME_TOP_K:].mean() if len(each) else -np.inf for each in points]
    return Scores(
        point_score=torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *points])),
        frame_score=torch.from_numpy(np.array(frames, np.float32)),
    )


def _view_scores(model: Baseline, view: FrameView) -> Float32[np.ndarray, "P"]:
    if not len(view.points):
        return np.zeros(0, np.float32)
    inputs = point_features(view, frame_index=0)[:, INPUTS]
    return model.decision_function(inputs).astype(np.float32)
