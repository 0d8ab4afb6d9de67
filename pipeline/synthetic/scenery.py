"""The ordinary furniture of a street: traffic, people, plants, masts, houses, and the ego's body.

Each builder draws one thing's solids in its own frame (x forward, y left, z up from the ground).
"""

from collections.abc import Callable

import numpy as np

from pipeline.datasets.anovox.class_ids import EGO
from pipeline.synthetic.patterns import FOLIAGE, PLANKS, WINDOWS
from pipeline.synthetic.primitives import (
    Colour,
    Solid,
    Thing,
    box,
    cone,
    cylinder,
    ellipsoid,
    painted,
)

BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION = 3, 4, 5, 6, 7, 8, 9
PEDESTRIAN, CAR, TRUCK, BUS, BICYCLE, OTHER = 12, 14, 15, 16, 19, 22

Builder = Callable[[np.random.Generator], tuple[Solid, ...]]

_RUBBER = (0.07, 0.07, 0.08)
_GLASS = (0.16, 0.2, 0.24)
_BARK = (0.3, 0.22, 0.15)
_STEEL = (0.42, 0.44, 0.45)
_CAR_PAINT: tuple[Colour, ...] = (
    (0.75, 0.76, 0.78),
    (0.12, 0.12, 0.14),
    (0.45, 0.47, 0.5),
    (0.55, 0.1, 0.1),
    (0.12, 0.2, 0.45),
    (0.85, 0.85, 0.82),
    (0.2, 0.33, 0.25),
    (0.6, 0.5, 0.3),
)


def pick(rng: np.random.Generator, colours: tuple[Colour, ...], spread: float = 0.06) -> Colour:
    """One of the colours, slightly lighter or darker."""
    colour = np.array(colours[rng.integers(len(colours))]) + rng.uniform(-spread, spread)
    r, g, b = np.clip(colour, 0.02, 0.98).tolist()
    return r, g, b


def darken(colour: Colour, factor: float) -> Colour:
    """The colour times a factor, kept within [0, 1]."""
    r, g, b = (min(1.0, channel * factor) for channel in colour)
    return r, g, b


def car(rng: np.random.Generator) -> tuple[Solid, ...]:
    """A passenger car, 4.0 to 4.8 m long."""
    length, width, height = rng.uniform(4.0, 4.8), rng.uniform(1.7, 1.85), rng.uniform(1.42, 1.62)
    paint = pick(rng, _CAR_PAINT)
    belt = height * 0.6
    back = -length * 0.06
    return (
        box((length * 0.94, width * 0.94, 0.2), (0, 0, 0.12), colour=_RUBBER),
        box((length, width, belt - 0.3), (0, 0, 0.3), colour=paint),
        box((length * 0.56, width * 0.9, height - belt - 0.06), (back, 0, belt), colour=_GLASS),
        box((length * 0.46, width * 0.86, 0.07), (back, 0, height - 0.07), colour=paint),
        *_wheels(length * 0.31, width + 0.02, 0.32),
        *_lamps(length / 2, width * 0.9, belt - 0.22),
    )


def truck(rng: np.random.Generator) -> tuple[Solid, ...]:
    """A delivery truck with a box body, 6.5 to 8 m long."""
    length, width, height = rng.uniform(6.5, 8.0), 2.3, rng.uniform(2.8, 3.3)
    paint, body = pick(rng, _CAR_PAINT), pick(rng, ((0.8, 0.8, 0.78), (0.6, 0.65, 0.7)))
    cab = length * 0.24
    front = length / 2 - cab / 2
    return (
        box((length * 0.96, width * 0.85, 0.35), (0, 0, 0.4), colour=_RUBBER),
        box((cab, width * 0.95, 1.1), (front, 0, 0.55), colour=paint),
        box((cab * 0.9, width * 0.9, 0.7), (front - 0.05, 0, 1.65), colour=_GLASS),
        box((length - cab - 0.15, width, height - 0.75), (-cab / 2 - 0.1, 0, 0.75), colour=body),
        *_wheels(length * 0.33, width * 0.97, 0.45),
        *_lamps(length / 2, width * 0.85, 0.7),
    )


def bus(rng: np.random.Generator) -> tuple[Solid, ...]:
    """A city bus, 11 m long."""
    length, width = 11.0, 2.5
    paint = pick(rng, ((0.7, 0.15, 0.12), (0.15, 0.3, 0.6), (0.85, 0.75, 0.3)))
    return (
        box((length * 0.98, width * 0.95, 0.35), (0, 0, 0.15), colour=_RUBBER),
        box((length, width, 0.85), (0, 0, 0.45), colour=paint),
        box((length * 0.99, width * 0.98, 1.1), (0, 0, 1.3), colour=_GLASS),
        box((length, width, 0.55), (0, 0, 2.4), colour=paint),
        *_wheels(length * 0.3, width + 0.02, 0.5),
    )


def _wheels(x: float, width: float, radius: float) -> tuple[Solid, ...]:
    """Two axles as wide as the car; between the wheels they are its dark underside."""
    size = (2 * radius, width, 2 * radius)
    return tuple(box(size, (end * x, 0, 0), colour=_RUBBER) for end in (-1, 1))


def _lamps(x: float, width: float, z: float) -> tuple[Solid, ...]:
    """A light bar at the front and one at the back."""
    colours = {1: (0.9, 0.9, 0.8), -1: (0.7, 0.06, 0.05)}
    return tuple(box((0.08, width, 0.14), (end * x, 0, z), colour=colours[end]) for end in (-1, 1))


def pedestrian(rng: np.random.Generator) -> tuple[Solid, ...]:
    """A standing or walking person, 1.55 to 1.9 m tall."""
    height = rng.uniform(1.55, 1.9)
    skin = pick(rng, ((0.85, 0.65, 0.53), (0.45, 0.3, 0.22), (0.7, 0.5, 0.38)))
    coat = pick(rng, ((0.2, 0.25, 0.4), (0.6, 0.2, 0.2), (0.75, 0.7, 0.6), (0.15, 0.15, 0.15)))
    legs = pick(rng, ((0.15, 0.17, 0.25), (0.3, 0.27, 0.22), (0.1, 0.1, 0.1)))
    hip, neck, stride = height * 0.47, height * 0.84, rng.uniform(0.05, 0.18)
    return (
        cylinder((0.17, 0.17, hip), (stride, 0.1, 0), colour=legs),
        cylinder((0.17, 0.17, hip), (-stride, -0.1, 0), colour=legs),
        cylinder((0.3, 0.46, neck - hip), (0, 0, hip), colour=coat),
        ellipsoid((0.22, 0.2, height - neck + 0.03), (0, 0, neck - 0.03), colour=skin),
    )


def bicycle(rng: np.random.Generator) -> tuple[Solid, ...]:
    """A parked bicycle: two thin wheels and a frame."""
    paint = pick(rng, _CAR_PAINT)
    return (
        box((0.6, 0.05, 0.62), (0.55, 0, 0), colour=_RUBBER),
        box((0.6, 0.05, 0.62), (-0.55, 0, 0), colour=_RUBBER),
        box((1.0, 0.06, 0.12), (0, 0, 0.55), colour=paint),
        box((0.08, 0.5, 0.08), (0.5, 0, 0.95), colour=_STEEL),
    )


def leaf_tree(rng: np.random.Generator) -> tuple[Solid, ...]:
    """A street tree with a crown of three overlapping ellipsoids."""
    trunk, spread = rng.uniform(2.2, 3.0), rng.uniform(2.6, 4.2)
    green = pick(rng, ((0.2, 0.33, 0.12), (0.26, 0.38, 0.14), (0.33, 0.36, 0.13)))
    crowns = [((0.0, 0.0, trunk - 0.5), spread, 0.95 * spread)]
    for _ in range(2):
        x, y = rng.uniform(-0.3, 0.3, 2) * spread
        crowns.append(((x, y, trunk + rng.uniform(0.0, 1.2)), spread * 0.72, spread * 0.7))
    return (
        cylinder((0.3, 0.3, trunk + 0.8), colour=_BARK),
        *(
            _leafy(ellipsoid((w, w, h), at, colour=darken(green, 0.45)), green)
            for at, w, h in crowns
        ),
    )


def conifer(rng: np.random.Generator) -> tuple[Solid, ...]:
    """A conifer of two cones."""
    height, spread = rng.uniform(5.0, 9.0), rng.uniform(2.0, 3.0)
    green = pick(rng, ((0.13, 0.25, 0.14), (0.16, 0.3, 0.2)))
    dark = darken(green, 0.45)
    return (
        cylinder((0.35, 0.35, 1.2), colour=_BARK),
        _leafy(cone((spread, spread, height * 0.7), (0, 0, 0.7), colour=dark), green),
        _leafy(
            cone((spread * 0.7, spread * 0.7, height * 0.6), (0, 0, height * 0.4), colour=dark),
            green,
        ),
    )


def bush(rng: np.random.Generator) -> tuple[Solid, ...]:
    """A low round bush."""
    size, height = rng.uniform(0.9, 1.8), rng.uniform(0.7, 1.3)
    green = pick(rng, ((0.22, 0.36, 0.14), (0.3, 0.38, 0.18)))
    return (_leafy(ellipsoid((size, size, height), colour=darken(green, 0.45)), green),)


def _leafy(solid: Solid, light: Colour) -> Solid:
    return painted(solid, darken(light, 1.5), FOLIAGE)


def street_lamp(rng: np.random.Generator) -> tuple[Solid, ...]:
    """A lamp on a mast whose arm reaches 1.6 m forward."""
    return (
        cylinder((0.16, 0.16, 6.4), colour=_STEEL),
        box((1.7, 0.09, 0.09), (0.75, 0, 6.3), colour=_STEEL),
        box((0.55, 0.22, 0.12), (1.5, 0, 6.2), colour=(0.75, 0.75, 0.7)),
    )


def traffic_light(rng: np.random.Generator) -> tuple[Solid, ...]:
    """The signal head alone (class traffic light); it hangs on a `signal_mast`."""
    lit = int(rng.integers(3))
    bright: tuple[Colour, ...] = ((0.95, 0.15, 0.1), (0.95, 0.7, 0.1), (0.2, 0.9, 0.35))
    lamps = tuple(
        box(
            (0.05, 0.2, 0.2),
            (0.17, 0, 3.25 - 0.28 * i),
            colour=bright[i] if i == lit else darken(bright[i], 0.25),
        )
        for i in range(3)
    )
    return (box((0.28, 0.34, 0.95), (0, 0, 2.6), colour=(0.1, 0.11, 0.1)), *lamps)


def signal_mast(rng: np.random.Generator) -> tuple[Solid, ...]:
    """The mast under a signal head or a sign."""
    return (cylinder((0.12, 0.12, 2.7), colour=_STEEL),)


def traffic_sign(rng: np.random.Generator) -> tuple[Solid, ...]:
    """The plate alone (class traffic sign), facing forward on a mast."""
    face = pick(rng, ((0.75, 0.1, 0.1), (0.1, 0.25, 0.6), (0.9, 0.9, 0.88), (0.9, 0.7, 0.1)))
    return (
        box((0.04, 0.62, 0.62), (0.08, 0, 2.1), colour=face),
        box((0.05, 0.4, 0.14), (0.08, 0, 2.34), colour=(0.92, 0.92, 0.9)),
    )


def bench(rng: np.random.Generator) -> tuple[Solid, ...]:
    """A park bench, seat forward."""
    wood = pick(rng, ((0.42, 0.3, 0.18), (0.3, 0.22, 0.15)))
    return (
        box((0.45, 1.6, 0.08), (0, 0, 0.42), colour=wood),
        box((0.08, 1.6, 0.42), (-0.24, 0, 0.5), colour=wood),
        box((0.35, 0.1, 0.42), (0, 0.6, 0), colour=_STEEL),
        box((0.35, 0.1, 0.42), (0, -0.6, 0), colour=_STEEL),
    )


def hedge(length: float, rng: np.random.Generator) -> tuple[Solid, ...]:
    """A clipped hedge along x."""
    green = pick(rng, ((0.2, 0.34, 0.13), (0.25, 0.36, 0.16)))
    height = rng.uniform(0.8, 1.4)
    return (_leafy(box((length, 0.7, height), colour=darken(green, 0.45)), green),)


def fence(length: float, rng: np.random.Generator) -> tuple[Solid, ...]:
    """A board fence along x."""
    wood = pick(rng, ((0.5, 0.38, 0.25), (0.62, 0.6, 0.55)))
    board = painted(box((length, 0.1, 1.1), (0, 0, 0.1), colour=wood), darken(wood, 0.6), PLANKS)
    return (board, box((length, 0.14, 0.1), (0, 0, 1.2), colour=darken(wood, 0.8)))


def building(
    size: tuple[float, float, float], wall: Colour, rng: np.random.Generator
) -> tuple[Solid, ...]:
    """A house that fills `size`, with windows, a plinth and a roof edge."""
    length, width, height = size
    body = painted(
        box((length - 0.5, width - 0.5, height - 0.4), colour=wall),
        pick(rng, (_GLASS, (0.2, 0.26, 0.32), (0.13, 0.15, 0.2))),
        WINDOWS,
        float(rng.uniform(2.4, 3.6)),
    )
    roof = darken(wall, float(rng.uniform(0.5, 0.75)))
    return (
        body,
        box((length - 0.3, width - 0.3, 0.4), colour=darken(wall, 0.65)),
        box((length, width, 0.4), (0, 0, height - 0.4), colour=roof),
    )


def ego_body() -> Thing:
    """What its own sensors see of the ego, around the mount: bonnet and boot, not the roof.

    Small on purpose: a full roof box would swallow a fifth of all LiDAR rays.
    """
    paint = (0.28, 0.3, 0.33)
    solids = (
        box((1.2, 1.76, 0.62), (1.65, 0, 0.25), colour=paint),
        box((1.0, 1.6, 0.62), (-1.75, 0, 0.25), colour=paint),
    )
    return Thing(label=EGO, solids=solids, x=0.0, y=0.0)
