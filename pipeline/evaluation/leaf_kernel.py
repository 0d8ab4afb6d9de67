"""The walk of points through all trees at once, compiled by Numba: one point after the other.

NumPy and torch need a pass over memory for every feature's search, its masks and the sums, which
took three times as long.
"""

from typing import no_type_check

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
@no_type_check
def add_leaf_values(inputs, edges, ends, masks, values, out):
    """Add to `out` (P,) the values of the leaves that points (F, P) reach, summed over the trees.

    Feature f has the thresholds `edges[ends[f]:ends[f + 1]]` and the rows of `masks` (_, trees / 8)
    from `ends[f] + 2 f` on: one for each place among the thresholds, and last that of nan. `values`
    (trees, 256) are those of the leaf that a byte of a mask stands for. Sixteen trees at a time are
    added up in pairs, so that no sum waits for another.
    """
    num_words = np.uintp(masks.shape[1])
    reached = np.empty(masks.shape[1], np.uint64)
    for point in range(out.size):
        reached[:] = ~np.uint64(0)
        for feature in range(inputs.shape[0]):
            row = _place(inputs[feature, point], edges, ends[feature], ends[feature + 1])
            row += ends[feature] + 2 * feature
            for word in range(num_words):
                reached[word] &= masks[np.uintp(row), word]
        a = b = c = d = e = f = g = h = 0.0
        word = np.uintp(0)
        while word + 1 < num_words:
            first, second = reached[word], reached[word + 1]
            a += _pair_value(first, values, word, 0)
            b += _pair_value(first, values, word, 2)
            c += _pair_value(first, values, word, 4)
            d += _pair_value(first, values, word, 6)
            e += _pair_value(second, values, word + 1, 0)
            f += _pair_value(second, values, word + 1, 2)
            g += _pair_value(second, values, word + 1, 4)
            h += _pair_value(second, values, word + 1, 6)
            word += np.uintp(2)
        total = ((a + b) + (c + d)) + ((e + f) + (g + h))
        if word < num_words:
            for tree in range(0, 8, 2):
                total += _pair_value(reached[word], values, word, tree)
        out[point] += total


@numba.njit(cache=True, nogil=True)
@no_type_check
def _pair_value(reached, values, word, tree):
    """Of two trees that are next to each other in a word of eight."""
    two, first = reached >> np.uint64(8 * tree), np.uintp(8) * np.uintp(word) + np.uintp(tree)
    lower, upper = two & np.uint64(255), (two >> np.uint64(8)) & np.uint64(255)
    return values[first, lower] + values[first + np.uintp(1), upper]


@numba.njit(cache=True, nogil=True)
@no_type_check
def _place(value, edges, first, end):
    """How many of the thresholds lie below the value; of nan, one more than there are."""
    if np.isnan(value):
        return end - first + 1
    low, left = first, end - first
    while left > 1:
        half = left >> 1
        # A product, not a branch, which the processor would guess wrong every second time.
        low += half * np.int64(edges[low + half - 1] < value)
        left -= half
    return low - first + np.int64(edges[low] < value)
