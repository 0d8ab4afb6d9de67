"""A loop over points, compiled by Numba: NumPy would have to sort the cells of a cloud first."""

from typing import no_type_check

import numba
import numpy as np

_SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: multiplied by it, neighbouring keys land far apart (Knuth 6.4)."""


@numba.njit(cache=True, nogil=True)
@no_type_check
def row_of_cell(cells, shape, keys, out):
    """Fill `out` (P,) with the place in `keys` (M,; none twice) of each cell, or -1.

    `cells` (3, P) are whole numbers, `shape` the grid's three sizes and keys those of
    `geometry.voxel_keys`. The keys are looked up in a table that is at most half full.
    """
    bits = 1
    while 1 << bits < 2 * keys.size:
        bits += 1
    shift, mask = np.uint64(64 - bits), np.uint64((1 << bits) - 1)
    table = np.full(1 << bits, -1, np.int32)
    for row in range(keys.size):
        place = (np.uint64(keys[row]) * _SPREAD) >> shift
        while table[place] >= 0:
            place = (place + np.uint64(1)) & mask
        table[place] = row
    for i in range(out.size):
        out[i] = -1
        x, y, z = cells[0, i], cells[1, i], cells[2, i]
        if 0 <= x < shape[0] and 0 <= y < shape[1] and 0 <= z < shape[2]:
            key = np.int64(x) + shape[0] * (np.int64(y) + shape[1] * np.int64(z))
            place = (np.uint64(key) * _SPREAD) >> shift
            while table[place] >= 0 and keys[table[place]] != key:
                place = (place + np.uint64(1)) & mask
            out[i] = table[place]
