"""Boosted trees of at most eight leaves, scored for many points at once with array look-ups.

scikit-learn walks one tree after the other, point by point: 100 trees cost 100 ms for the cloud of
one frame. Here a tree is a byte in which each bit is a leaf, as in QuickScorer (Lucchese et al.,
SIGIR 2015): every split that sends a point right strikes out the leaves on its left, and the lowest
bit that is left is the leaf where the point ends. What all splits of one feature strike out depends
on the feature's place among their thresholds alone, so it is one row of a table per feature.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8
from sklearn.ensemble import HistGradientBoostingClassifier

MAX_LEAVES = 8
"""Bits of a byte."""
TREES_PER_LOOKUP = 2
"""Leaf values are added up in pairs of trees: half the look-ups, in tables of 65,536 entries."""
TREES_PER_WORD = 8
CHUNK = 2048
"""Points worked on at once: their masks stay in the processor's cache."""
ALL_LEAVES = 255


class LeafMasks:
    """The trees of a fitted binary classifier without categorical features, as tables."""

    def __init__(self, model: HistGradientBoostingClassifier) -> None:
        trees = [stage[0].nodes for stage in model._predictors]
        num_leaves = max(len(_leaves(tree, 0)) for tree in trees)
        assert num_leaves <= MAX_LEAVES, f"{num_leaves} leaves do not fit into a byte"
        self._base = float(model._baseline_prediction.item())
        thresholds = _thresholds(trees, num_features=model.n_features_in_)
        self._used = [feature for feature, edges in enumerate(thresholds) if len(edges)]
        self._edges = _padded([thresholds[feature] for feature in self._used])
        num_trees = -(-len(trees) // TREES_PER_WORD) * TREES_PER_WORD
        masks = _striking(trees, thresholds, num_trees=num_trees)
        self._masks = [masks[feature].view(np.uint64) for feature in self._used]
        self._values = _pair_values(trees, num_trees=num_trees)

    def decision_function(self, inputs: Float32[np.ndarray, "F P"]) -> Float64[np.ndarray, "P"]:
        """Raw logits as scikit-learn's `decision_function` gives them, up to rounding (1e-12).

        A row per feature; nan means that a point does not have it.
        """
        places = self._places(inputs)
        scores = np.full(inputs.shape[1], self._base)
        for start in range(0, len(scores), CHUNK):
            own = slice(start, start + CHUNK)
            scores[own] += self._leaf_sums(places[:, own])
        return scores

    def _places(self, inputs: Float32[np.ndarray, "F P"]) -> Int64[np.ndarray, "used P"]:
        """How many thresholds lie below each value; of nan, one more than there can be."""
        values = torch.from_numpy(np.ascontiguousarray(inputs[self._used]))
        places = torch.searchsorted(self._edges, values)
        return places.masked_fill_(values.isnan(), self._edges.shape[1] + 1).numpy()

    def _leaf_sums(self, places: Int64[np.ndarray, "used N"]) -> Float64[np.ndarray, "N"]:
        """Values of the leaves that the points reach, summed over the trees."""
        reached = np.full((places.shape[1], self._masks[0].shape[1]), ~np.uint64(0))
        struck = np.empty_like(reached)
        for table, place in zip(self._masks, places, strict=True):
            # Clipping takes a nan to the last row, and lets NumPy skip its check of the bounds.
            np.take(table, place, axis=0, out=struck, mode="clip")
            reached &= struck
        pairs = reached.view(np.uint16)
        first = np.arange(pairs.shape[1]) << 16
        return np.take(self._values, pairs + first, mode="clip").sum(axis=1)


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


def _padded(thresholds: Sequence[Float32[np.ndarray, "_"]]) -> torch.Tensor:
    """One row per feature, filled up with infinity, which no number is above."""
    edges = torch.full((len(thresholds), max(map(len, thresholds))), float("inf"))
    for row, each in zip(edges, thresholds, strict=True):
        row[: len(each)] = torch.from_numpy(each)
    return edges


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


def _pair_values(trees: Sequence[np.ndarray], *, num_trees: int) -> Float64[np.ndarray, "entries"]:
    """Sum of two trees' leaf values by their two masks, the first tree's in the lower byte."""
    values = np.zeros((num_trees, ALL_LEAVES + 1))
    masks = np.arange(1, ALL_LEAVES + 1)
    lowest = np.log2(masks & -masks).astype(int)
    for row, tree in zip(values, trees, strict=False):
        leaves = tree["value"][_leaves(tree, 0)]
        row[masks] = np.append(leaves, np.zeros(MAX_LEAVES - len(leaves)))[lowest]
    lower, upper = values[::TREES_PER_LOOKUP], values[1::TREES_PER_LOOKUP]
    return (upper[:, :, None] + lower[:, None, :]).reshape(-1)
