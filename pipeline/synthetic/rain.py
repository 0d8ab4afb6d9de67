"""Rain before the camera and puddles on the ground, for worlds with rich weather.

Neither changes what a LiDAR measures, as in CARLA.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_Floats = NDArray[np.floating]

_DROPS_PER_PIXEL = 0.005
_STREAK_OPACITY = 0.45
_SHORTEST, _LONGEST = 0.025, 0.06
"""Length of a streak as a share of the image's height, in the softest and the hardest rain."""
_PUDDLE_CELL_M = 0.1
_PUDDLE_CELLS, _PUDDLE_BLOTCHES = 512, 32
_PUDDLE_EDGE = 0.03


def rain_share(rows: int, columns: int, rain: float, rng: np.random.Generator) -> _Floats:
    """Share (H * W,) of each pixel that rain of this strength in (0, 1] covers: upright streaks.

    A window of a fixed tile, moved at random, because drawing drops afresh would cost more than
    everything else in the picture.
    """
    tile = _streaks(rows + 256, columns + 256, rain, max(2, round(rows * _length(rain))))
    i, j = rng.integers(256, size=2)
    return tile[i : i + rows, j : j + columns].reshape(-1)


def puddle_share(x: _Floats, y: _Floats, share: float) -> _Floats:
    """How much water covers the ground (P,) at world positions, 0 or 1 but for soft edges.

    `share` of all ground is covered; puddles grow with it and stay where they are.
    """
    cells = _PUDDLE_CELLS
    i = np.floor(x * (1 / _PUDDLE_CELL_M)).astype(np.int64) % cells
    j = np.floor(y * (1 / _PUDDLE_CELL_M)).astype(np.int64) % cells
    depth = np.float32(share) - _heights()[i, j]
    return np.clip(depth * np.float32(1 / _PUDDLE_EDGE) + np.float32(0.5), 0, 1)


def _length(rain: float) -> float:
    return _SHORTEST + (_LONGEST - _SHORTEST) * rain


@lru_cache(maxsize=3)
def _streaks(rows: int, columns: int, rain: float, length: int) -> _Floats:
    rng = np.random.default_rng(22)
    drops = rng.random((rows + length, columns), dtype=np.float32) < _DROPS_PER_PIXEL * rain
    brightness = drops * rng.uniform(0.3, 1.0, drops.shape).astype(np.float32)
    covered = np.cumsum(brightness, axis=0, dtype=np.float32)
    return np.clip(covered[length:] - covered[:-length], 0, 1) * np.float32(_STREAK_OPACITY)


@lru_cache(maxsize=1)
def _heights() -> NDArray[np.float32]:
    """Heights of the ground as ranks in [0, 1) on a periodic tile: a share s of it lies below s."""
    coarse = np.random.default_rng(23).random((_PUDDLE_BLOTCHES,) * 2, dtype=np.float32)
    wrapped = np.pad(coarse, 2, mode="wrap")
    scale = _PUDDLE_CELLS // _PUDDLE_BLOTCHES
    size = len(wrapped) * scale
    smooth = np.asarray(Image.fromarray(wrapped).resize((size, size), Image.Resampling.BICUBIC))
    inner = smooth[2 * scale : -2 * scale, 2 * scale : -2 * scale]
    ranks = np.empty(inner.size, np.float32)
    ranks[inner.ravel().argsort(kind="stable")] = np.arange(inner.size) / inner.size
    return ranks.reshape(inner.shape)
