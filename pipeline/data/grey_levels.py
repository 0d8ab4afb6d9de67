"""Loops over the bytes of images, compiled by Numba: one pass over memory, and no GIL held.

NumPy needs a pass for each operation, and turns every byte of a look-up into an int64 first; at the
size of the demo that took most of a batch's time. Compiled code lies in Numba's cache beside this
file (or in NUMBA_CACHE_DIR); a machine's first batch takes some seconds longer.
"""

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import UInt8

BITS = np.int32(22)
"""Behind the point of a line's numbers; 255 x 1.25 still fits before it, below a sign."""
ROWS = 8
"""Of an image that are changed before they are mirrored: 9 KB at the demo's size."""


@numba.njit(cache=True, nogil=True)
@no_type_check
def _on_line(level, factor, start):
    """Whole numbers of 32 bits, of which CPUs take many at once; a look-up goes byte by byte."""
    moved = np.int32(np.int32(level) * factor + start) >> BITS
    return np.uint8(min(max(moved, np.int32(0)), np.int32(255)))


@numba.njit(cache=True, nogil=True)
@no_type_check
def _replace(image, table, line, out):
    factor, start = line
    if factor:
        for i in range(image.size):
            out[i] = _on_line(image[i], factor, start)
    else:
        for i in range(image.size):
            out[i] = table[image[i]]


@numba.njit(cache=True, nogil=True)
@no_type_check
def _mirror(row, width, out):
    """Three channels."""
    for column in range(width):
        # Unsigned, or each access would ask whether it counts from the end.
        place = np.uintp(3 * (width - 1 - column))
        out[3 * column] = row[place]
        out[3 * column + 1] = row[place + np.uintp(1)]
        out[3 * column + 2] = row[place + np.uintp(2)]


@numba.njit(cache=True, nogil=True)
@no_type_check
def _change(image, table, line, width, flip, out):
    if not flip or width == 0:
        _replace(image, table, line, out)
        return
    # A few rows at a time, so that what is mirrored lies in the nearest cache.
    size, some = 3 * width, 3 * width * ROWS
    rows = np.empty(some, np.uint8)
    for start in range(0, image.size, some):
        end = min(start + some, image.size)
        _replace(image[start:end], table, line, rows)
        for row in range(0, end - start, size):
            _mirror(rows[row : row + size], width, out[start + row : start + row + size])


@numba.njit(cache=True, nogil=True)
@no_type_check
def _fill_table(contrast, brightness, table):
    for level in range(table.size):
        moved = np.rint((level - 127.5) * contrast + 127.5 + brightness)
        table[level] = np.uint8(min(max(moved, 0.0), 255.0))


@numba.njit(cache=True, nogil=True)
@no_type_check
def _line_of(contrast, brightness, table):
    """Factor and start of the line that the table follows, rounded down; zeros if it does not."""
    factor = np.int32(np.rint(contrast * 2.0**BITS))
    start = np.int32(np.rint((127.5 - 127.5 * contrast + brightness + 0.5) * 2.0**BITS))
    for level in range(table.size):
        if _on_line(level, factor, start) != table[level]:
            return np.int32(0), np.int32(0)
    return factor, start


@numba.njit(cache=True, nogil=True)
@no_type_check
def _change_greys(image, contrast, brightness, width, flip, out):
    table = np.empty(256, np.uint8)
    _fill_table(contrast, brightness, table)
    _change(image, table, _line_of(contrast, brightness, table), width, flip, out)


def grey_table(*, contrast: float, brightness: float) -> UInt8[np.ndarray, "256"]:
    """What becomes of each grey level: moved away from the middle, shifted, rounded, clipped."""
    table = np.empty(256, np.uint8)
    _fill_table(contrast, brightness, table)
    return table


def change_greys(
    image: UInt8[np.ndarray, "H W 3"],
    *,
    contrast: float,
    brightness: float,
    flip: bool,
    out: UInt8[np.ndarray, "H W 3"],
) -> None:
    """`out` becomes `grey_table[image]`, with left and right exchanged where `flip`."""
    flat, place = frozen(image).reshape(-1), out.reshape(-1)
    _change_greys(flat, contrast, brightness, image.shape[1], flip, place)


def frozen(array: np.ndarray) -> np.ndarray:
    """The array as shards give it, contiguous and read-only: Numba compiles once for each kind."""
    if not array.flags.c_contiguous or array.flags.writeable:
        array = np.ascontiguousarray(array).view()
        array.flags.writeable = False
    return array
