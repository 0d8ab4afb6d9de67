"""The ground of a town as one periodic tile: class and colour of every 5 cm.

Streets form an endless grid, so a block with half a street on each side repeats. Camera and LiDAR
look the same tile up, which is why their labels agree.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.datasets.anovox.class_ids import ROAD, ROAD_LINE
from pipeline.synthetic.primitives import Colour

SIDEWALK, TERRAIN = 2, 10
_CELL_M = 0.05
PARKING_M = 2.2
"""Width of the parking lane on each side of a road."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """One tile of the ground; world (x, y) falls into cell (x, y) / CELL_M modulo its shape."""

    label: NDArray[np.uint8]
    """Class ids (X, Y)."""
    colour: NDArray[np.uint8]
    """Red, green, blue (X * Y, 3)."""

    def cells(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.int64]:
        """Flat cell number (P,) of world positions (P,) in metres."""
        rows, columns = self.label.shape
        i = np.floor(x * (1 / _CELL_M)).astype(np.int64) % rows
        j = np.floor(y * (1 / _CELL_M)).astype(np.int64) % columns
        return i * columns + j

    def label_at(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Class id (P,) of world positions (P,) in metres."""
        return self.label.reshape(-1)[self.cells(x, y)]


def paint_ground(
    rng: np.random.Generator,
    *,
    pitch: tuple[float, float],
    road_width: float,
    sidewalk_width: float,
    asphalt: Colour,
    dashed: bool,
) -> Ground:
    """The tile of streets `pitch` metres apart, with their centre lines on the tile's edges."""
    x, y = (_signed_offset(length) for length in pitch)
    half = road_width / 2
    on_x, on_y = np.abs(x) < half, np.abs(y) < half
    road = on_x[:, None] | on_y
    walk = (np.abs(x) < half + sidewalk_width)[:, None] | (np.abs(y) < half + sidewalk_width)
    line = _markings(x, y, half, dashed) | _markings(y, x, half, dashed, mirrored=True).T
    label = np.where(road, ROAD, np.where(walk, SIDEWALK, TERRAIN)).astype(np.uint8)
    label[line & road] = ROAD_LINE
    colour = _colours(rng, label, asphalt)
    joint = ((np.arange(len(x)) % 16) == 0)[:, None] | ((np.arange(len(y)) % 16) == 0)
    colour[joint & (label == SIDEWALK)] *= 0.82
    kerb = (np.abs(np.abs(x) - half - 0.08) < 0.08)[:, None] | (
        np.abs(np.abs(y) - half - 0.08) < 0.08
    )
    colour[kerb & (label == SIDEWALK)] = 0.66
    return Ground(label=label, colour=np.clip(colour * 255, 0, 255).astype(np.uint8).reshape(-1, 3))


def _signed_offset(length: float) -> NDArray[np.float64]:
    """Metres from the nearest street's centre line, per cell along one axis of the tile."""
    position = (np.arange(round(length / _CELL_M)) + 0.5) * _CELL_M
    return np.where(position > length / 2, position - length, position)


def _markings(
    across: NDArray[np.float64],
    along: NDArray[np.float64],
    half: float,
    dashed: bool,
    *,
    mirrored: bool = False,
) -> NDArray[np.bool_]:
    """Lines (A, L) of the street that runs along the second axis; traffic keeps to the right."""
    a, b = np.abs(across), np.abs(along)
    beyond = b > half + 5.0
    dashes = (b % 6.0 < 3.0) & beyond
    centre = np.outer(a < 0.08, dashes if dashed else beyond)
    parking = np.outer(np.abs(a - (half - PARKING_M)) < 0.06, beyond & (b % 6.8 < 6.2))
    zebra = np.outer((a % 1.1 < 0.55) & (a < half - 0.2), (b > half + 0.9) & (b < half + 3.3))
    in_lane = a < half - PARKING_M
    stop = (b > half + 4.2) & (b < half + 4.6)
    side = np.sign(across)[:, None] * np.sign(along) * (-1 if mirrored else 1)
    return centre | parking | zebra | (np.outer(in_lane, stop) & (side < 0))


def _colours(
    rng: np.random.Generator, label: NDArray[np.uint8], asphalt: Colour
) -> NDArray[np.floating]:
    """Colours (X, Y, 3) in [0, 1]: the class's, in large blotches and fine grain."""
    table = np.zeros((256, 3), np.float32)
    table[ROAD], table[ROAD_LINE] = asphalt, (0.78, 0.78, 0.75)
    table[SIDEWALK], table[TERRAIN] = (0.52, 0.5, 0.47), (0.27, 0.36, 0.15)
    blotches = _smooth_noise(rng, label.shape, 40)
    fine = rng.random(label.shape, dtype=np.float32)
    grain = np.where(label == TERRAIN, 0.5, 0.2).astype(np.float32)
    light = 0.85 + 0.25 * blotches + grain * (fine - 0.5)
    return table[label] * light[..., None]


def _smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], cells: int
) -> NDArray[np.float32]:
    coarse = Image.fromarray(rng.random((shape[0] // cells, shape[1] // cells), dtype=np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
