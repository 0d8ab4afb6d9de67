"""Towns: an endless grid of streets whose blocks hold houses, parks and street furniture.

A town's name and the world's seed fix everything in it, so that scenes of one town share streets,
as scenes of one CARLA map do; blocks are built when a scene first comes near them.
"""

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.synthetic import scenery
from pipeline.synthetic.ground import Ground, paint_ground
from pipeline.synthetic.primitives import Colour, Solid, Thing
from pipeline.synthetic.scenery import Builder, pick

_WALLS: tuple[tuple[Colour, ...], ...] = (
    ((0.72, 0.62, 0.5), (0.66, 0.45, 0.34), (0.8, 0.76, 0.68), (0.55, 0.5, 0.46)),
    ((0.6, 0.34, 0.27), (0.52, 0.3, 0.24), (0.7, 0.6, 0.5), (0.45, 0.4, 0.38)),
    ((0.76, 0.78, 0.8), (0.58, 0.62, 0.66), (0.66, 0.6, 0.54), (0.42, 0.46, 0.5)),
)
_LAMP_STEP_M = 9.0


@dataclass(frozen=True, kw_only=True)
class Town:
    """Measures of one town, in metres; streets' centre lines lie at multiples of `pitch`."""

    name: str
    seed: int
    pitch: tuple[float, float]
    road_width: float
    sidewalk_width: float
    lane_offset: float
    """From the centre line to the middle of the right lane."""
    heights: tuple[float, float]
    walls: tuple[Colour, ...]
    conifers: bool
    dashed: bool
    asphalt: Colour

    @property
    def front(self) -> float:
        """From a street's centre line to the house fronts."""
        return self.road_width / 2 + self.sidewalk_width


@lru_cache(maxsize=16)
def build_town(name: str, seed: int) -> Town:
    """The town of this name in the world of this seed."""
    town_seed = zlib.crc32(f"{name}/{seed}".encode())
    rng = np.random.default_rng(town_seed)
    pitch = (0.4 * round(rng.uniform(66, 84) / 0.4), 0.4 * round(rng.uniform(62, 76) / 0.4))
    lane = rng.uniform(3.3, 3.7)
    grey = rng.uniform(0.24, 0.34)
    low = rng.uniform(7, 10)
    return Town(
        name=name,
        seed=town_seed,
        pitch=pitch,
        road_width=2 * (lane + 2.2),
        sidewalk_width=rng.uniform(2.6, 3.4),
        lane_offset=lane / 2,
        heights=(low, low + rng.uniform(6, 14)),
        walls=_WALLS[rng.integers(len(_WALLS))],
        conifers=bool(rng.random() < 0.4),
        dashed=bool(rng.random() < 0.5),
        asphalt=(grey, grey, grey * 1.03),
    )


@lru_cache(maxsize=8)
def town_ground(town: Town) -> Ground:
    """The ground tile of a town."""
    return paint_ground(
        np.random.default_rng([town.seed, 1]),
        pitch=town.pitch,
        road_width=town.road_width,
        sidewalk_width=town.sidewalk_width,
        asphalt=town.asphalt,
        dashed=town.dashed,
    )


def things_near(town: Town, low: tuple[float, float], high: tuple[float, float]) -> list[Thing]:
    """All things of the blocks that meet the rectangle from `low` to `high`."""
    (x0, y0), (x1, y1), (px, py) = low, high, town.pitch
    return [
        thing
        for i in range(math.floor(x0 / px), math.floor(x1 / px) + 1)
        for j in range(math.floor(y0 / py), math.floor(y1 / py) + 1)
        for thing in block(town, i, j)
    ]


@lru_cache(maxsize=1024)
def block(town: Town, i: int, j: int) -> tuple[Thing, ...]:
    """Houses, parks and furniture between streets i and i + 1 (x), j and j + 1 (y)."""
    rng = np.random.default_rng([town.seed, i + 2**20, j + 2**20])
    return (*_lots(town, i, j, rng), *_kerbside(town, i, j, rng))


def _lots(town: Town, i: int, j: int, rng: np.random.Generator) -> list[Thing]:
    """Two rows of three lots; corners always have a house, so that corners hide the side street."""
    px, py = town.pitch
    width, depth = (px - 2 * town.front) / 3, (py - 2 * town.front) / 2
    things: list[Thing] = []
    for column in range(3):
        for row in range(2):
            x = i * px + town.front + (column + 0.5) * width
            y = j * py + town.front + (row + 0.5) * depth
            if column == 1 and rng.random() < 0.3:
                things += _park(town, (x, y), (width, depth), 1 - 2 * row, rng)
            else:
                things.append(_house(town, (x, y), (width, depth), rng))
    return things


def _house(
    town: Town, at: tuple[float, float], lot: tuple[float, float], rng: np.random.Generator
) -> Thing:
    setback = rng.uniform(0.0, 0.9)
    size = (lot[0] - setback, lot[1] - setback, float(rng.uniform(*town.heights)))
    solids = scenery.building(size, pick(rng, town.walls), rng)
    return Thing(label=scenery.BUILDING, solids=solids, x=at[0], y=at[1])


def _park(
    town: Town,
    at: tuple[float, float],
    lot: tuple[float, float],
    towards: int,
    rng: np.random.Generator,
) -> list[Thing]:
    """Trees and bushes behind a hedge or a fence; `towards` is the street's side in y."""
    (x, y), (width, depth) = at, lot
    border = scenery.hedge if rng.random() < 0.5 else scenery.fence
    label = scenery.VEGETATION if border is scenery.hedge else scenery.FENCE
    front = y - towards * (depth / 2 - 0.6)
    things = [Thing(label=label, solids=border(width - 1.5, rng), x=x, y=front)]
    for _ in range(5):
        place = (x + rng.uniform(-0.4, 0.4) * width, y + rng.uniform(-0.35, 0.35) * depth)
        plant = _tree(town) if rng.random() < 0.7 else scenery.bush
        things.append(_stood(scenery.VEGETATION, plant(rng), place, rng.uniform(0, 6.28)))
    return things


def _tree(town: Town) -> Builder:
    return scenery.conifer if town.conifers else scenery.leaf_tree


def _kerbside(town: Town, i: int, j: int, rng: np.random.Generator) -> list[Thing]:
    """Trees, lamps, benches, bicycles, signs and signals on the block's four pavements."""
    px, py = town.pitch
    edge = town.road_width / 2 + 0.6
    things: list[Thing] = []
    for side in range(4):
        length = (px, py)[side % 2]
        for step in range(int((length - 2 * town.front - 6) / _LAMP_STEP_M)):
            along = town.front + 3 + (step + rng.uniform(0.3, 0.7)) * _LAMP_STEP_M
            things += _furniture(town, step, (*_on_edge(town, i, j, side, along, edge),), rng)
        corner = _on_edge(town, i, j, side, town.front - 1.0, edge)
        things += _signal(corner, rng)
    return things


def _on_edge(
    town: Town, i: int, j: int, side: int, along: float, inward: float
) -> tuple[float, float, float]:
    """x, y and the direction to the street, `along` one of the block's edges, `inward` of it."""
    px, py = town.pitch
    x0, y0 = i * px, j * py
    places = (
        (x0 + along, y0 + inward, -math.pi / 2),
        (x0 + px - inward, y0 + along, 0.0),
        (x0 + px - along, y0 + py - inward, math.pi / 2),
        (x0 + inward, y0 + py - along, math.pi),
    )
    return places[side]


def _furniture(
    town: Town, step: int, place: tuple[float, float, float], rng: np.random.Generator
) -> list[Thing]:
    x, y, yaw = place
    draw = rng.random()
    if step % 3 == 1:
        return [_stood(scenery.POLE, scenery.street_lamp(rng), (x, y), yaw)]
    if draw < 0.5:
        return [_stood(scenery.VEGETATION, _tree(town)(rng), (x, y), rng.uniform(0, 6.28))]
    if draw < 0.6:
        return [_stood(scenery.OTHER, scenery.bench(rng), (x, y), yaw)]
    if draw < 0.7:
        return [_stood(scenery.BICYCLE, scenery.bicycle(rng), (x, y), yaw + math.pi / 2)]
    if draw < 0.82:
        return _sign((x, y), yaw + math.pi / 2, rng)
    return []


def _sign(at: tuple[float, float], yaw: float, rng: np.random.Generator) -> list[Thing]:
    return [
        _stood(scenery.POLE, scenery.signal_mast(rng), at, yaw),
        _stood(scenery.TRAFFIC_SIGN, scenery.traffic_sign(rng), at, yaw),
    ]


def _signal(corner: tuple[float, float, float], rng: np.random.Generator) -> list[Thing]:
    x, y, yaw = corner
    facing = yaw + math.pi / 2
    return [
        _stood(scenery.POLE, scenery.signal_mast(rng), (x, y), facing),
        _stood(scenery.TRAFFIC_LIGHT, scenery.traffic_light(rng), (x, y), facing),
    ]


def _stood(label: int, solids: tuple[Solid, ...], at: tuple[float, float], yaw: float) -> Thing:
    return Thing(label=label, solids=solids, x=float(at[0]), y=float(at[1]), yaw=float(yaw))
