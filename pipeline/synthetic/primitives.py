"""Things of the synthetic world as convex solids, and the arrays that the ray caster reads.

Every solid stands upright (box, elliptic cylinder, ellipsoid, cone; any yaw, no pitch or roll):
that is what lets one cast separate into columns and rows. The world is right-handed: x, y on the
ground, z up from it, metres; yaw counter-clockwise in radians.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
"""Red, green, blue in [0, 1]."""

BOX, CYLINDER, ELLIPSOID, CONE = range(4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Solid:
    """One convex piece, in its thing's frame (x forward, y left, z up from the ground)."""

    kind: int
    x: float = 0.0
    y: float = 0.0
    bottom: float = 0.0
    top: float
    half_x: float
    half_y: float
    yaw: float = 0.0
    colour: Colour
    second: Colour = (0.0, 0.0, 0.0)
    """Where the pattern is 1; the first colour is where it is 0."""
    pattern: int = 0
    cell: float = 0.4
    """Size of the pattern in metres."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One object of the world: what it is, where it stands, how it moves, its pieces."""

    label: int
    solids: tuple[Solid, ...]
    x: float
    y: float
    yaw: float = 0.0
    speed: float = 0.0
    """m/s along yaw, measured from the reference frame of the recording."""
    follow_gap: float | None = None
    """Metres along the ego's route from the ego to this thing; it then drives as the ego does."""

    @property
    def radius(self) -> float:
        """Of the circle around (x, y) that holds the footprint."""
        return max(np.hypot(s.x, s.y) + np.hypot(s.half_x, s.half_y) for s in self.solids)


def box(
    size: tuple[float, float, float],
    at: tuple[float, float, float] = (0.0, 0.0, 0.0),
    *,
    colour: Colour,
    yaw: float = 0.0,
) -> Solid:
    """Box of length, width, height; `at` is the middle of its lower face."""
    return _solid(BOX, size, at, colour, yaw)


def cylinder(
    size: tuple[float, float, float],
    at: tuple[float, float, float] = (0.0, 0.0, 0.0),
    *,
    colour: Colour,
) -> Solid:
    """Upright elliptic cylinder that fills a box of this size."""
    return _solid(CYLINDER, size, at, colour, 0.0)


def ellipsoid(
    size: tuple[float, float, float],
    at: tuple[float, float, float] = (0.0, 0.0, 0.0),
    *,
    colour: Colour,
) -> Solid:
    """Ellipsoid that fills a box of this size."""
    return _solid(ELLIPSOID, size, at, colour, 0.0)


def cone(
    size: tuple[float, float, float],
    at: tuple[float, float, float] = (0.0, 0.0, 0.0),
    *,
    colour: Colour,
) -> Solid:
    """Upright cone, apex up, that fills a box of this size; it must be higher than its radius."""
    assert size[2] > max(size[:2]) / 2
    return _solid(CONE, size, at, colour, 0.0)


def _solid(
    kind: int,
    size: tuple[float, float, float],
    at: tuple[float, float, float],
    colour: Colour,
    yaw: float,
) -> Solid:
    length, width, height = size
    x, y, bottom = at
    return Solid(
        kind=kind,
        x=x,
        y=y,
        bottom=bottom,
        top=bottom + height,
        half_x=length / 2,
        half_y=width / 2,
        yaw=yaw,
        colour=colour,
    )


def painted(solid: Solid, second: Colour, pattern: int, cell: float = 0.4) -> Solid:
    """The same solid with a pattern in two colours."""
    return replace(solid, second=second, pattern=pattern, cell=cell)


@dataclass(frozen=True, kw_only=True)
class Solids:
    """All solids as float32 columns (S,): shape, place and paint; `thing` is the row of its thing.

    Centres and yaw are in whatever frame the function that made the arrays says.
    """

    kind: NDArray[np.int8]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    bottom: NDArray[np.float32]
    top: NDArray[np.float32]
    half_x: NDArray[np.float32]
    half_y: NDArray[np.float32]
    yaw: NDArray[np.float32]
    colour: NDArray[np.float32]
    second: NDArray[np.float32]
    pattern: NDArray[np.int8]
    cell: NDArray[np.float32]
    thing: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def radius(self) -> NDArray[np.float32]:
        """Of the circle around each centre that holds the footprint."""
        return np.hypot(self.half_x, self.half_y)

    def take(self, rows: NDArray[np.intp]) -> "Solids":
        """These rows only, in this order."""
        return Solids(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


_NUMBERS: tuple[
    Literal["x", "y", "bottom", "top", "half_x", "half_y", "yaw", "colour", "second", "cell"], ...
] = ("x", "y", "bottom", "top", "half_x", "half_y", "yaw", "colour", "second", "cell")


def pack(things: Sequence[Thing]) -> Solids:
    """Solids of all things in their things' own frames; no things give empty arrays."""
    solids = [solid for thing in things for solid in thing.solids]
    rows = np.repeat(np.arange(len(things)), [len(thing.solids) for thing in things])
    columns = {
        name: np.array([getattr(solid, name) for solid in solids], np.float32) for name in _NUMBERS
    }
    for name in ("colour", "second"):
        columns[name] = columns[name].reshape(-1, 3)
    return Solids(
        kind=np.array([solid.kind for solid in solids], np.int8),
        pattern=np.array([solid.pattern for solid in solids], np.int8),
        thing=rows.astype(np.int32),
        **columns,
    )


def moved(solids: Solids, poses: NDArray[np.float64]) -> Solids:
    """Solids carried from their things' frames by poses (T, 3) of x, y, yaw per thing."""
    x0, y0, yaw0 = poses[solids.thing].T
    cos, sin = np.cos(yaw0), np.sin(yaw0)
    return replace(
        solids,
        x=(x0 + cos * solids.x - sin * solids.y).astype(np.float32),
        y=(y0 + sin * solids.x + cos * solids.y).astype(np.float32),
        yaw=(yaw0 + solids.yaw).astype(np.float32),
    )


def seen_from(solids: Solids, pose: NDArray[np.float64], height: float) -> Solids:
    """World solids in the frame of a sensor at pose (x, y, yaw), `height` metres above ground."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    dx, dy = solids.x - pose[0], solids.y - pose[1]
    return replace(
        solids,
        x=(cos * dx + sin * dy).astype(np.float32),
        y=(-sin * dx + cos * dy).astype(np.float32),
        bottom=solids.bottom - np.float32(height),
        top=solids.top - np.float32(height),
        yaw=(solids.yaw - pose[2]).astype(np.float32),
    )


def join_solids(first: Solids, second: Solids, *, thing: int) -> Solids:
    """Both, with `second`'s things numbered from `thing` on."""
    columns = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])
        for name in first.__dataclass_fields__
    }
    columns["thing"] = np.concatenate([first.thing, second.thing + np.int32(thing)])
    return Solids(**columns)
