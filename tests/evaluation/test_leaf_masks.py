"""Look-ups in place of walks: the same scores as scikit-learn's own trees."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from pipeline.evaluation.leaf_masks import LeafMasks


def fitted(inputs: np.ndarray, *, num_trees: int) -> HistGradientBoostingClassifier:
    label = (np.nan_to_num(inputs[:, 0]) + inputs[:, 1] > 0.3).astype(np.uint8)
    model = HistGradientBoostingClassifier(max_iter=num_trees, max_leaf_nodes=8, learning_rate=0.3)
    return model.fit(inputs, label)


def drawn(num: int, *, seed: int) -> np.ndarray:
    """Five features: one with gaps, one of whole numbers, the last one constant."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(num, 5)).astype(np.float32)
    inputs[rng.random(num) < 0.3, 0] = np.nan
    inputs[:, 2] = rng.integers(0, 4, num)
    inputs[:, 4] = 1
    return inputs


@pytest.mark.parametrize("num_trees", [1, 7, 100])
def test_scores_equal_those_of_the_walked_trees(num_trees: int):
    model = fitted(drawn(3000, seed=0), num_trees=num_trees)
    other = drawn(2100, seed=1)
    found = LeafMasks(model).decision_function(other.T)
    np.testing.assert_allclose(found, model.decision_function(other), rtol=0, atol=1e-11)
    assert len(np.unique(found)) > 2


def test_a_value_on_a_threshold_goes_left_and_the_next_float_goes_right():
    model = fitted(drawn(3000, seed=0), num_trees=20)
    splits = [s[0].nodes for s in model._predictors]
    nodes = np.concatenate([tree[tree["is_leaf"] == 0] for tree in splits])
    edges = nodes["num_threshold"][nodes["feature_idx"] == 1].astype(np.float32)
    around = np.concatenate([edges, np.nextafter(edges, np.float32(9)), -edges])
    points = np.repeat(drawn(1, seed=2), len(around), axis=0)
    points[:, 1] = around
    found = LeafMasks(model).decision_function(points.T)
    np.testing.assert_allclose(found, model.decision_function(points), rtol=0, atol=1e-11)


def test_infinities_and_gaps_everywhere_end_where_the_trees_send_them():
    model = fitted(drawn(3000, seed=0), num_trees=20)
    points = drawn(400, seed=3)
    rng = np.random.default_rng(4)
    points[rng.random(points.shape) < 0.2] = np.nan
    points[rng.random(points.shape) < 0.2] = np.inf
    points[rng.random(points.shape) < 0.2] = -np.inf
    found = LeafMasks(model).decision_function(points.T)
    np.testing.assert_allclose(found, model.decision_function(points), rtol=0, atol=1e-11)


def test_no_point_has_no_score():
    model = fitted(drawn(500, seed=0), num_trees=3)
    assert LeafMasks(model).decision_function(drawn(0, seed=0).T).shape == (0,)


def test_trees_of_more_leaves_than_a_byte_has_bits_are_refused():
    inputs = drawn(3000, seed=0)
    model = HistGradientBoostingClassifier(max_iter=2, max_leaf_nodes=16)
    model.fit(inputs, inputs[:, 1] * inputs[:, 3] > 0)
    with pytest.raises(AssertionError, match="leaves"):
        LeafMasks(model)
