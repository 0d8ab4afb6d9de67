"""The boosted tree on plain features that a detector must beat."""

import numpy as np
import torch
from jaxtyping import Float32
from sklearn.ensemble import HistGradientBoostingClassifier

from pipeline.data.batches import Batch
from pipeline.evaluation.features import FEATURES, PointSample, point_features
from pipeline.evaluation.views import FrameView, frame_views
from pipeline.models.scores import Scores

INPUTS = [FEATURES.index(name) for name in FEATURES if name != "frame_index"]
"""The frame index is a shortcut of AnoVox, never an input."""
NUM_ITERATIONS = 100
"""With 8 leaves and rate 0.2 as good on a validation split as 200 trees of 31, in half the time."""
FRAME_TOP_K = 10
"""A frame's score is the mean of this many highest point scores."""


def fit_baseline(sample: PointSample, *, seed: int) -> HistGradientBoostingClassifier:
    """Fit on a train sample; both classes weigh the same, the points stand for what they were."""
    positive = sample.label == 1
    if positive.all() or not positive.any():
        raise ValueError(
            "the baseline's train sample holds points of one class only; prepare splits that hold "
            "anomalous scenes of each kind (jobs.prepare)"
        )
    weight = sample.weight.astype(np.float64)
    for group in (positive, ~positive):
        weight[group] *= len(weight) / 2 / weight[group].sum()
    model = HistGradientBoostingClassifier(
        max_iter=NUM_ITERATIONS, max_leaf_nodes=8, learning_rate=0.2, random_state=seed
    )
    model.set_params(early_stopping=False)  # it would split at random, through scenes
    return model.fit(sample.features[:, INPUTS], sample.label, sample_weight=weight)


def baseline_scores(model: HistGradientBoostingClassifier, batch: Batch) -> Scores:
    """Raw logits of every point; a frame's is the mean of its highest ones, -inf without points."""
    points = [_view_scores(model, view) for view in frame_views(batch)]
    frames = [np.sort(each)[-FRAME_TOP_K:].mean() if len(each) else -np.inf for each in points]
    return Scores(
        point_score=torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *points])),
        frame_score=torch.from_numpy(np.array(frames, np.float32)),
    )


def _view_scores(
    model: HistGradientBoostingClassifier, view: FrameView
) -> Float32[np.ndarray, "P"]:
    if not len(view.points):
        return np.zeros(0, np.float32)
    inputs = point_features(view, frame_index=0)[:, INPUTS]
    return model.decision_function(inputs).astype(np.float32)
