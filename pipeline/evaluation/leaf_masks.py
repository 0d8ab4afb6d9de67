"""Boosted trees of at most eight leaves, scored by look-ups in tables.

scikit-learn walks one tree after the other, point by point: 100 trees cost 100 ms for the cloud of
one frame. Here a tree is a byte in which each bit is a leaf, as in QuickScorer (Lucchese et al.,
SIGIR 2015): every split that sends a point right strikes out the leaves on its left, and the lowest
bit that is left is the leaf where the point ends. What all splits of one feature strike out depends
on the feature's place among their thresholds alone, so it is one row of a table per feature.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from sklearn.ensemble import HistGradientBoostingClassifier

from pipeline.evaluation.leaf_kernel import add_leaf_values

MAX_LEAVES = 8
"""Bits of a byte."""
TREES_PER_WORD = 8
ALL_LEAVES = 255


class LeafMasks:
    """The trees of a fitted binary classifier without categorical features, as tables."""

    def __init__(self, model: HistGradientBoostingClassifier) -> None:
        trees = [stage[0].nodes for stage in model._predictors]
        num_leaves = max(len(_leaves(tree, 0)) for tree in trees)
        assert num_leaves <= MAX_LEAVES, f"{num_leaves} leaves do not fit into a byte"
        self._base = float(model._baseline_prediction.item())
        thresholds = _thresholds(trees, num_features=model.n_features_in_)
        num_trees = -(-len(trees) // TREES_PER_WORD) * TREES_PER_WORD
        masks = _striking(trees, thresholds, num_trees=num_trees)
        self._used = [feature for feature, edges in enumerate(thresholds) if len(edges)]
        self._edges = np.concatenate([thresholds[feature] for feature in self._used])
        sizes = [len(thresholds[feature]) for feature in self._used]
        self._ends = np.cumsum([0, *sizes], dtype=np.int64)
        self._masks = np.concatenate([masks[feature].view(np.uint64) for feature in self._used])
        self._values = _leaf_values(trees, num_trees=num_trees)

    def decision_function(self, inputs: Float32[np.ndarray, "F P"]) -> Float64[np.ndarray, "P"]:
        """Raw logits as scikit-learn's `decision_function` gives them, up to rounding (1e-12).

        A row per feature; nan means that a point does not have it.
        """
        sums = np.zeros(inputs.shape[1])
        used = np.ascontiguousarray(inputs[self._used])
        add_leaf_values(used, self._edges, self._ends, self._masks, self._values, sums)
        return self._base + sums


def _splits(tree: np.ndarray) -> Iterator[tuple[int, np.float32, bool, int]]:
    """Feature, threshold, whether nan goes left, and the leaves on the left, of every split."""
    bit = {leaf: place for place, leaf in enumerate(_leaves(tree, 0))}
    for node in tree[tree["is_leaf"] == 0]:
        left = sum(1 << bit[leaf] for leaf in _leaves(tree, int(node["left"])))
        threshold = _rounded_down(float(node["num_threshold"]))
        yield int(node["feature_idx"]), threshold, bool(node["missing_go_to_left"]), left


def _leaves(tree: np.ndarray, root: int) -> list[int]:
    """Nodes of the leaves below `root`, from left to right."""
    node = tree[root]
    if node["is_leaf"]:
        return [root]
    return _leaves(tree, int(node["left"])) + _leaves(tree, int(node["right"]))


def _rounded_down(threshold: float) -> np.float32:
    """The largest float32 at or below it: x <= threshold means the same for every float32 x."""
    near = np.float32(threshold)
    return near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf))


def _thresholds(
    trees: Sequence[np.ndarray], *, num_features: int
) -> list[Float32[np.ndarray, "_"]]:
    """Ascending thresholds of each feature."""
    found: list[set[float]] = [set() for _ in range(num_features)]
    for tree in trees:
        for feature, threshold, _, _ in _splits(tree):
            found[feature].add(float(threshold))
    return [np.array(sorted(each), np.float32) for each in found]


def _striking(
    trees: Sequence[np.ndarray], thresholds: Sequence[Float32[np.ndarray, "_"]], *, num_trees: int
) -> list[UInt8[np.ndarray, "_ trees"]]:
    """Leaves that each place of a feature leaves over in each tree; the last row is that of nan."""
    masks = [np.full((len(each) + 2, num_trees), ALL_LEAVES, np.uint8) for each in thresholds]
    for number, tree in enumerate(trees):
        for feature, threshold, nan_goes_left, left in _splits(tree):
            above = int(np.searchsorted(thresholds[feature], threshold)) + 1
            masks[feature][above:-1, number] &= ALL_LEAVES - left
            if not nan_goes_left:
                masks[feature][-1, number] &= ALL_LEAVES - left
    return masks


def _leaf_values(trees: Sequence[np.ndarray], *, num_trees: int) -> Float64[np.ndarray, "trees _"]:
    """Of every tree the value of the leaf that each byte stands for: that of its lowest bit."""
    values = np.zeros((num_trees, ALL_LEAVES + 1))
    masks = np.arange(1, ALL_LEAVES + 1)
    lowest = np.log2(masks & -masks).astype(int)
    for row, tree in zip(values, trees, strict=False):
        leaves = tree["value"][_leaves(tree, 0)]
        row[masks] = np.append(leaves, np.zeros(MAX_LEAVES - len(leaves)))[lowest]
    return values
