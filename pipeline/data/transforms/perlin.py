"""Perlin's gradient noise (ACM SIGGRAPH 2002) in three dimensions: smooth, random, repeatable.

Three dimensions, because a surface in space then has one texture whoever looks at it: the LiDAR
samples the same shape and the camera paints the same colours.
"""

import itertools

import numpy as np
from jaxtyping import Float, Int64

_SIZE = 256
"""Lattice points along each axis before the noise repeats."""


class Perlin:
    """Noise of one draw."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._order = np.tile(rng.permutation(_SIZE), 2)
        gradients = rng.normal(size=(_SIZE, 3))
        self._gradients = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)

    def __call__(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N"]:
        """Noise at points, zero at whole coordinates, within [-1, 1]."""
        cell = np.floor(points)
        place = points - cell
        corner = cell.astype(np.int64)
        fade = place**3 * (place * (place * 6 - 15) + 10)
        total = np.zeros(len(points))
        for shift in itertools.product((0, 1), repeat=3):
            gradient = self._gradients[self._hash(corner + shift)]
            weight = np.where(np.array(shift) == 1, fade, 1 - fade).prod(axis=1)
            total += weight * (gradient * (place - shift)).sum(axis=1)
        return total

    def octaves(self, points: Float[np.ndarray, "N 3"], num: int) -> Float[np.ndarray, "N"]:
        """Sum of `num` noises, each of twice the frequency and half the height of the one before.

        Scaled so that it lies within [-1, 1].
        """
        total = sum(self(points * 2.0**k) / 2.0**k for k in range(num))
        return np.asarray(total) / (2 - 2.0 ** (1 - num))

    def _hash(self, corner: Int64[np.ndarray, "N 3"]) -> Int64[np.ndarray, "N"]:
        x, y, z = (corner % _SIZE).T
        return self._order[self._order[self._order[x] + y] + z]
