"""Which ground of a scene is taken, so that things do not stand in one another."""

import numpy as np
from numpy.typing import NDArray


class Claims:
    """Circles of ground that are taken; a thing that would overlap them is left out."""

    def __init__(self) -> None:
        self._circles: list[tuple[float, float, float]] = []

    def add(self, x: float, y: float, radius: float) -> None:
        """Take a circle."""
        self._circles.append((x, y, radius))

    def is_free(self, places: NDArray[np.float64], radius: float) -> bool:
        """Whether a circle of this radius touches no claim at any of the places (N, 2)."""
        if not self._circles:
            return True
        x, y, taken = np.array(self._circles).T
        gap = np.hypot(places[:, :1] - x, places[:, 1:2] - y) - taken
        return bool(gap.min() > radius)
