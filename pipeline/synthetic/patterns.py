"""Surface patterns: how much of a solid's second colour each point of its surface takes.

A pattern is a function of metres along the surface, so it looks the same at every image size.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.floating]
Pattern = Callable[[_Floats, _Floats, _Floats, NDArray[np.bool_]], NDArray]

PLAIN, CHECKER, STRIPES, DIAGONAL, DOTS, PLANKS, FOLIAGE, WINDOWS, DIRT = range(9)

HIGH_CONTRAST = (CHECKER, STRIPES, DIAGONAL, DOTS)
"""Half of the surface, or nearly, in either colour; the cue of anomalies known by appearance."""

STOREY_M = 3.2


@lru_cache(maxsize=1)
def noise_table() -> _Floats:
    """Uniform noise (256, 256) in [0, 1), the same in every world."""
    return np.random.default_rng(20).random((256, 256), dtype=np.float32)


def noise(u: _Floats, v: _Floats, per_metre: float) -> _Floats:
    """Noise in [0, 1) that is constant on squares of 1 / `per_metre` metres."""
    column = np.floor(u * np.float32(per_metre)).astype(np.int32) & 255
    row = np.floor(v * np.float32(per_metre)).astype(np.int32) & 255
    return noise_table()[row, column]


def weights(
    pattern: NDArray[np.int8], u: _Floats, v: _Floats, cell: _Floats, side: NDArray[np.bool_]
) -> _Floats:
    """Share of the second colour (P,) at surface metres u, v (v up on sides); `side` is not top."""
    weight = np.zeros(len(u), np.float32)
    for number in np.unique(pattern):
        if number != PLAIN:
            rows = np.flatnonzero(pattern == number)
            weight[rows] = PATTERNS[int(number)](u[rows], v[rows], cell[rows], side[rows])
    return weight


def _checker(u: _Floats, v: _Floats, cell: _Floats, side: NDArray[np.bool_]) -> NDArray:
    return (_index(u, cell) + _index(v, cell)) & 1


def _stripes(u: _Floats, v: _Floats, cell: _Floats, side: NDArray[np.bool_]) -> NDArray:
    return _index(v, cell) & 1


def _diagonal(u: _Floats, v: _Floats, cell: _Floats, side: NDArray[np.bool_]) -> NDArray:
    return _index(u + v, cell * np.float32(1.41)) & 1


def _dots(u: _Floats, v: _Floats, cell: _Floats, side: NDArray[np.bool_]) -> NDArray:
    pitch = cell * np.float32(1.3)
    x, y = u / pitch, v / pitch
    x, y = x - np.floor(x) - np.float32(0.5), y - np.floor(y) - np.float32(0.5)
    return x * x + y * y < 0.155


def _planks(u: _Floats, v: _Floats, cell: _Floats, side: NDArray[np.bool_]) -> NDArray:
    return (_part(u, 0.3) < 0.1) | (_part(v, 0.9) < 0.04)


def _foliage(u: _Floats, v: _Floats, cell: _Floats, side: NDArray[np.bool_]) -> NDArray:
    coarse, fine = noise(u, v, 4.0), noise(u, v, 11.0)
    return 0.4 * coarse + 0.3 * fine + 0.3 * noise(v, u, 31.0)


def _windows(u: _Floats, v: _Floats, cell: _Floats, side: NDArray[np.bool_]) -> NDArray:
    x, y = _part(u, cell), _part(v, STOREY_M)
    upper = (np.abs(x - 0.5) < 0.24) & (np.abs(y - 0.56) < 0.25)
    shop = (np.abs(_part(u, cell * np.float32(1.5)) - 0.5) < 0.42) & (np.abs(y - 0.43) < 0.33)
    glass = np.where(v < STOREY_M, shop, upper) & side
    pane = noise(u / cell, v / np.float32(STOREY_M), 1.0)
    return glass * (np.float32(0.7) + np.float32(0.3) * pane)


def _dirt(u: _Floats, v: _Floats, cell: _Floats, side: NDArray[np.bool_]) -> NDArray:
    return np.float32(0.5) * noise(u, v, 5.0)


def _index(x: _Floats, cell: _Floats) -> NDArray[np.int32]:
    return np.floor(x / cell).astype(np.int32)


def _part(x: _Floats, pitch: _Floats | float) -> _Floats:
    scaled = x / (np.float32(pitch) if isinstance(pitch, float) else pitch)
    return scaled - np.floor(scaled)


PATTERNS: dict[int, Pattern] = {
    CHECKER: _checker,
    STRIPES: _stripes,
    DIAGONAL: _diagonal,
    DOTS: _dots,
    PLANKS: _planks,
    FOLIAGE: _foliage,
    WINDOWS: _windows,
    DIRT: _dirt,
}
