"""Small objects on the road: ordinary ones and anomalies, drawn by one distribution.

Size, yaw, colours and place say nothing about which is which. An anomaly differs only by its
cue: an unusual shape (legs, gaps, stacks) in plain colours, an ordinary shape in a high-contrast
pattern of the same colours, or both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipeline.synthetic.patterns import (
    CHECKER,
    DIAGONAL,
    DIRT,
    DOTS,
    PLAIN,
    PLANKS,
    STRIPES,
)
from pipeline.synthetic.primitives import (
    Colour,
    Solid,
    box,
    cone,
    cylinder,
    ellipsoid,
    painted,
)

STATIC, DYNAMIC = 20, 21
HOME, ANIMAL, SPECIAL = 29, 30, 32

LENGTH_M = (1.3, 2.1)
WIDTH_M = (1.0, 1.8)
HEIGHT_M = (1.2, 2.0)
_CELL_M = (0.33, 0.45)

_COLOURS: tuple[Colour, ...] = (
    (0.85, 0.83, 0.78),
    (0.82, 0.7, 0.2),
    (0.75, 0.45, 0.3),
    (0.62, 0.66, 0.72),
    (0.12, 0.12, 0.13),
    (0.15, 0.2, 0.38),
    (0.35, 0.12, 0.1),
    (0.12, 0.27, 0.17),
)
"""Four light and four dark colours; every object draws one of each, in either order."""

Cue = Literal["shape", "appearance", "both"]
Size = tuple[float, float, float]
Form = Callable[[Size, Colour], tuple[Solid, ...]]


@dataclass(frozen=True, kw_only=True)
class Ordinary:
    """A kind of ordinary small object: its class id, its form, the weak patterns it may have."""

    name: str
    label: int
    form: Form
    patterns: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class AnomalyType:
    """A kind of anomaly: class id (29 home, 30 animal, 32 special) and what gives it away."""

    name: str
    label: int
    cue: Cue
    form: Form
    patterns: tuple[int, ...] = (PLAIN,)


@dataclass(frozen=True, kw_only=True)
class SmallObject:
    """One drawn object: its class id, the box that it fills in metres, and its solids."""

    label: int
    size: Size
    solids: tuple[Solid, ...]
    kind: AnomalyType | Ordinary


def draw_small_object(rng: np.random.Generator, kind: AnomalyType | None) -> SmallObject:
    """An anomaly of this kind, or with None an ordinary object of a random kind."""
    size = (
        float(rng.uniform(*LENGTH_M)),
        float(rng.uniform(*WIDTH_M)),
        float(rng.uniform(*HEIGHT_M)),
    )
    colours = _two_colours(rng)
    ordinary = ORDINARY[int(rng.integers(len(ORDINARY)))]
    chosen = ordinary if kind is None else kind
    pattern = chosen.patterns[int(rng.integers(len(chosen.patterns)))]
    cell = float(rng.uniform(*_CELL_M))
    return SmallObject(
        label=chosen.label,
        size=size,
        solids=_paint(chosen.form(size, colours[0]), colours, pattern, cell),
        kind=chosen,
    )


def size_name(size: Size) -> str:
    """AnoVox's `size` attribute by the longest side."""
    limits = ((0.5, "tiny"), (1.0, "small"), (1.5, "medium"), (1.85, "big"))
    return next((name for limit, name in limits if max(size) < limit), "huge")


def anomaly_type_id(kind: AnomalyType) -> str:
    """AnoVox's blueprint name, e.g. `static.prop.o_table_home`."""
    category = {HOME: "home", ANIMAL: "animal", SPECIAL: "special"}[kind.label]
    return f"static.prop.o_{kind.name}_{category}"


def deal_anomaly_types(rng: np.random.Generator, number: int) -> list[AnomalyType]:
    """`number` anomaly types: categories in equal parts, cues 2 shape : 2 appearance : 1 both."""
    cues: Sequence[Cue] = ("shape", "shape", "appearance", "appearance", "both")
    deck = [(label, cue) for label in (HOME, ANIMAL, SPECIAL) for cue in cues]
    dealt: list[AnomalyType] = []
    while len(dealt) < number:
        for card in rng.permutation(len(deck)):
            label, cue = deck[int(card)]
            fitting = [kind for kind in ANOMALY_TYPES if (kind.label, kind.cue) == (label, cue)]
            dealt.append(fitting[int(rng.integers(len(fitting)))])
    return dealt[:number]


def _two_colours(rng: np.random.Generator) -> tuple[Colour, Colour]:
    light, dark = _COLOURS[int(rng.integers(4))], _COLOURS[4 + int(rng.integers(4))]
    return (light, dark) if rng.random() < 0.5 else (dark, light)


def _paint(
    solids: tuple[Solid, ...], colours: tuple[Colour, Colour], pattern: int, cell: float
) -> tuple[Solid, ...]:
    if pattern == PLAIN:
        return solids
    first, second = colours
    if pattern in (PLANKS, DIRT):
        r, g, b = first
        second = (0.75 * r, 0.75 * g, 0.75 * b)
    return tuple(painted(solid, second, pattern, cell) for solid in solids)


def _crate(size: Size, colour: Colour) -> tuple[Solid, ...]:
    return (box(size, colour=colour),)


def _barrel(size: Size, colour: Colour) -> tuple[Solid, ...]:
    return (cylinder(size, colour=colour),)


def _bag(size: Size, colour: Colour) -> tuple[Solid, ...]:
    """A sack: an ellipsoid that stands on the ground, its lower half filled up."""
    length, width, height = size
    foot = cylinder((0.8 * length, 0.8 * width, 0.3 * height), colour=colour)
    return (ellipsoid(size, colour=colour), foot)


def _bin(size: Size, colour: Colour) -> tuple[Solid, ...]:
    length, width, height = size
    return (
        box((0.88 * length, 0.88 * width, 0.82 * height), colour=colour),
        box((length, width, 0.18 * height), (0, 0, 0.82 * height), colour=colour),
    )


def _cone(size: Size, colour: Colour) -> tuple[Solid, ...]:
    length, width, height = size
    across = min(0.85 * length, 0.85 * width)
    return (
        cone((across, across, height), colour=colour),
        box((length, width, 0.25 * height), colour=colour),
    )


def _legs(size: Size, thick: float, height: float, colour: Colour) -> tuple[Solid, ...]:
    x, y = (size[0] - thick) / 2, (size[1] - thick) / 2
    return tuple(
        box((thick, thick, height), (i * x, j * y, 0), colour=colour)
        for i in (-1, 1)
        for j in (-1, 1)
    )


def _table(size: Size, colour: Colour) -> tuple[Solid, ...]:
    length, width, height = size
    plate = 0.28 * height
    return (
        box((length, width, plate), (0, 0, height - plate), colour=colour),
        *_legs(size, 0.2, height - plate, colour),
    )


def _shelf(size: Size, colour: Colour) -> tuple[Solid, ...]:
    length, width, height = size
    boards = tuple(
        box((length, width, 0.2), (0, 0, z * (height - 0.2)), colour=colour) for z in (0, 0.5, 1)
    )
    return (*boards, *_legs(size, 0.22, height, colour))


def _armchair(size: Size, colour: Colour) -> tuple[Solid, ...]:
    length, width, height = size
    arm = 0.22 * width
    return (
        box((length, width, 0.35 * height), colour=colour),
        box((0.28 * length, width, height), (-0.36 * length, 0, 0), colour=colour),
        box((length, arm, 0.65 * height), (0, (width - arm) / 2, 0), colour=colour),
        box((length, arm, 0.65 * height), (0, (arm - width) / 2, 0), colour=colour),
    )


def _quadruped(size: Size, colour: Colour) -> tuple[Solid, ...]:
    """Body on four legs, neck and head at the front."""
    length, width, height = size
    hip, back = 0.42 * height, 0.75 * height
    trunk = 0.78 * length
    behind = -(length - trunk) / 2
    legs = _legs((trunk, width, height), 0.22, hip, colour)
    return (
        box((trunk, width, back - hip), (behind, 0, hip), colour=colour),
        *(replace(leg, x=leg.x + behind) for leg in legs),
        box((0.25, 0.35, height - hip), (0.28 * length, 0, hip), colour=colour),
        box((0.3 * length, 0.4, 0.25 * height), (0.35 * length, 0, 0.75 * height), colour=colour),
    )


def _longneck(size: Size, colour: Colour) -> tuple[Solid, ...]:
    """A low body on legs with a neck of half the height."""
    length, width, height = size
    hip, back = 0.25 * height, 0.52 * height
    neck = 0.5 * length - 0.16
    return (
        box((length, width, back - hip), (0, 0, hip), colour=colour),
        *_legs(size, 0.22, hip, colour),
        box((0.32, 0.32, height - back), (neck, 0, back), colour=colour),
        box((0.5, 0.4, 0.16 * height), (neck - 0.09, 0, 0.84 * height), colour=colour),
    )


def _arch(size: Size, colour: Colour) -> tuple[Solid, ...]:
    length, width, height = size
    post, lintel = 0.24 * length, 0.26 * height
    side = (length - post) / 2
    return (
        box((post, 0.5 * width, height), (side, 0, 0), colour=colour),
        box((post, 0.5 * width, height), (-side, 0, 0), colour=colour),
        box((length, width, lintel), (0, 0, height - lintel), colour=colour),
    )


def _cross(size: Size, colour: Colour) -> tuple[Solid, ...]:
    length, width, height = size
    return (
        box((0.3 * length, width, height), colour=colour),
        box((length, width, 0.3 * height), (0, 0, 0.5 * height), colour=colour),
    )


def _tower(size: Size, colour: Colour) -> tuple[Solid, ...]:
    """A broad foot, a thin waist, a broad disc, a narrow top."""
    length, width, height = size
    return (
        box((length, width, 0.25 * height), colour=colour),
        cylinder((0.4 * length, 0.4 * width, 0.25 * height), (0, 0, 0.25 * height), colour=colour),
        cylinder((length, width, 0.25 * height), (0, 0, 0.5 * height), colour=colour),
        box((0.4 * length, 0.4 * width, 0.25 * height), (0, 0, 0.75 * height), colour=colour),
    )


ORDINARY: tuple[Ordinary, ...] = (
    Ordinary(name="crate", label=STATIC, form=_crate, patterns=(PLAIN, PLANKS)),
    Ordinary(name="bin", label=STATIC, form=_bin, patterns=(PLAIN, DIRT)),
    Ordinary(name="barrel", label=DYNAMIC, form=_barrel, patterns=(PLAIN, DIRT)),
    Ordinary(name="bag", label=DYNAMIC, form=_bag, patterns=(PLAIN, DIRT)),
    Ordinary(name="cone", label=STATIC, form=_cone, patterns=(PLAIN, DIRT)),
)

_PATTERNS = (CHECKER, STRIPES, DIAGONAL, DOTS)

ANOMALY_TYPES: tuple[AnomalyType, ...] = (
    AnomalyType(name="table", label=HOME, cue="shape", form=_table),
    AnomalyType(name="shelf", label=HOME, cue="shape", form=_shelf),
    AnomalyType(name="cabinet", label=HOME, cue="appearance", form=_crate, patterns=_PATTERNS),
    AnomalyType(name="laundry", label=HOME, cue="appearance", form=_bag, patterns=_PATTERNS),
    AnomalyType(name="armchair", label=HOME, cue="both", form=_armchair, patterns=_PATTERNS),
    AnomalyType(name="cow", label=ANIMAL, cue="shape", form=_quadruped),
    AnomalyType(name="llama", label=ANIMAL, cue="shape", form=_longneck),
    AnomalyType(name="turtle", label=ANIMAL, cue="appearance", form=_bag, patterns=(DOTS, CHECKER)),
    AnomalyType(
        name="snail", label=ANIMAL, cue="appearance", form=_barrel, patterns=(DIAGONAL, STRIPES)
    ),
    AnomalyType(
        name="zebra", label=ANIMAL, cue="both", form=_quadruped, patterns=(STRIPES, DIAGONAL)
    ),
    AnomalyType(name="arch", label=SPECIAL, cue="shape", form=_arch),
    AnomalyType(name="cross", label=SPECIAL, cue="shape", form=_cross),
    AnomalyType(name="drum", label=SPECIAL, cue="appearance", form=_barrel, patterns=_PATTERNS),
    AnomalyType(name="dice", label=SPECIAL, cue="appearance", form=_crate, patterns=_PATTERNS),
    AnomalyType(name="totem", label=SPECIAL, cue="both", form=_tower, patterns=_PATTERNS),
)
"""Every category has types known by shape, by appearance and by both; `cue` says which."""
