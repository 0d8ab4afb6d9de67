"""Loops over pixels and points, compiled by Numba, that NumPy would need many passes for."""

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


@numba.njit(cache=True, nogil=True)
@no_type_check
def unfilter(lines, step, out):
    """Fill `out` (H, W C) from the lines (H, 1 + W C) of a PNG with `step` bytes per pixel.

    Filters are None, Sub, Up, Average and Paeth (PNG specification, section 9). The pixels left,
    above and in the corner between them are 0 outside the image.
    """
    for row in range(out.shape[0]):
        kind = lines[row, 0]
        if kind == 2 and row > 0:
            # A loop of its own, since this one works on many bytes at a time.
            for i in range(out.shape[1]):
                out[row, i] = lines[row, i + 1] + out[row - 1, i]
            continue
        for i in range(out.shape[1]):
            left = np.int32(out[row, i - step]) if i >= step else np.int32(0)
            above = np.int32(out[row - 1, i]) if row > 0 else np.int32(0)
            guess = np.int32(0)
            if kind == 1:
                guess = left
            elif kind == 3:
                guess = (left + above) >> np.int32(1)
            elif kind == 4:
                corner = np.int32(out[row - 1, i - step]) if row > 0 and i >= step else np.int32(0)
                guess = _paeth(left, above, corner)
            out[row, i] = lines[row, i + 1] + guess


@numba.njit(cache=True, nogil=True)
@no_type_check
def _paeth(left, above, corner):
    """Which of the three is nearest to left + above - corner; the first of equals."""
    to_left, to_above = abs(above - corner), abs(left - corner)
    to_corner = abs(left + above - corner - corner)
    if to_left <= to_above and to_left <= to_corner:
        return left
    return above if to_above <= to_corner else corner
