"""Loops over pixels and points, compiled by Numba: one pass over memory, and no GIL held.

NumPy needs a pass for each operation, and turns every byte of a look-up into an int64 first; at the
size of the demo that took most of a batch's time. Compiled code lies in Numba's cache beside this
file (or in NUMBA_CACHE_DIR); a machine's first batch takes some seconds longer.
"""

from collections.abc import Sequence
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float32, Shaped, UInt8


@numba.njit(cache=True, nogil=True)
@no_type_check
def _look_up(image, table, out):
    for i in range(image.size):
        out[i] = table[image[i]]


@numba.njit(cache=True, nogil=True)
@no_type_check
def _look_up_mirrored(image, table, width, out):
    """Three channels; a row at a time, so that what is mirrored lies in the nearest cache."""
    size = 3 * width
    row = np.empty(size, np.uint8)
    for start in range(0, image.size, size):
        source, target = image[start : start + size], out[start : start + size]
        for i in range(size):
            row[i] = table[source[i]]
        for column in range(width):
            # Unsigned, or each access would ask whether it counts from the end.
            place = np.uintp(3 * (width - 1 - column))
            target[3 * column] = row[place]
            target[3 * column + 1] = row[place + np.uintp(1)]
            target[3 * column + 2] = row[place + np.uintp(2)]


@numba.njit(cache=True, nogil=True)
@no_type_check
def _copy_outside(points, first, second, units, half_length, half_width, out, out_1, out_2):
    a, b, c, d = units[0], units[1], units[2], units[3]
    count = np.uintp(0)
    for i in range(points.shape[0]):
        x, y = np.float32(points[i, 0]) * a, np.float32(points[i, 1]) * b
        # Every point is written, and the next one over it unless it counts: no branch to guess.
        out[count, 0], out[count, 1] = x, y
        out[count, 2], out[count, 3] = np.float32(points[i, 2]) * c, np.float32(points[i, 3]) * d
        out_1[count], out_2[count] = first[i], second[i]
        if (abs(x) > half_length) | (abs(y) > half_width):
            count += np.uintp(1)
    return count


@numba.njit(cache=True, nogil=True)
@no_type_check
def _halve(image, out):
    """Columns first, each step rounded to whole numbers, as Pillow does it."""
    for y in range(out.shape[0]):
        upper, lower, target = image[2 * y], image[2 * y + 1], out[y]
        for x in range(out.shape[1]):
            left, right = np.uintp(2 * x), np.uintp(2 * x + 1)
            for channel in range(3):
                first = (upper[left, channel] + upper[right, channel] + 1) >> 1
                second = (lower[left, channel] + lower[right, channel] + 1) >> 1
                target[np.uintp(x), channel] = (first + second + 1) >> 1
    return out


def halved(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """An image at half its width and height (both even), bit for bit as Pillow's box filter.

    No higher than wide: of others Pillow reduces the rows first, and rounds otherwise.
    """
    height, width = image.shape[:2]
    assert height % 2 == 0, image.shape
    assert width % 2 == 0, image.shape
    assert height <= width, image.shape
    return _halve(_frozen(image), np.empty((height // 2, width // 2, 3), np.uint8))


def look_up(
    image: UInt8[np.ndarray, "H W 3"],
    table: UInt8[np.ndarray, "256"],
    *,
    flip: bool,
    out: UInt8[np.ndarray, "H W 3"],
) -> None:
    """`out` becomes `table[image]`, with left and right exchanged where `flip`."""
    flat, place = _frozen(image).reshape(-1), out.reshape(-1)
    if flip and image.size:
        _look_up_mirrored(flat, table, image.shape[1], place)
    else:
        _look_up(flat, table, place)


def copy_outside(
    points: Shaped[np.ndarray, "P 4"],
    of_points: Sequence[UInt8[np.ndarray, "P"]],
    *,
    units: Float32[np.ndarray, "4"],
    half_size_m: Sequence[float],
    out: Float32[np.ndarray, "room 4"],
    out_of_points: Sequence[UInt8[np.ndarray, "room"]],
) -> int:
    """Copy `points` x `units` outside an upright box, and two arrays with a row per point.

    `half_size_m` is the box's half length (x) and half width (y). Says how many points there were;
    the outputs have room for all, and what lies behind those counted is arbitrary.
    """
    first, second = of_points
    count = _copy_outside(
        _frozen(points),
        _frozen(first),
        _frozen(second),
        units,
        np.float32(half_size_m[0]),
        np.float32(half_size_m[1]),
        out,
        *out_of_points,
    )
    return int(count)


def _frozen(array: np.ndarray) -> np.ndarray:
    """The array as shards give it, contiguous and read-only: Numba compiles once for each kind."""
    if not array.flags.c_contiguous or array.flags.writeable:
        array = np.ascontiguousarray(array).view()
        array.flags.writeable = False
    return array
