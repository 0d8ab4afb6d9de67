"""Ray casting on separable grids: the reason why full-size scenes take tens of milliseconds.

A camera without pitch and roll, and a LiDAR, both send rays (dx[column], dy[column], dz[row]) * t
with t the camera's depth or the LiDAR's horizontal distance. An upright solid then bounds t by an
interval per column (its footprint) and one per row (bottom and top), and a hit is one outer
maximum against one outer minimum over the solid's own window of the grid.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.anovox.synthetic.solids import BOX, CYLINDER, ELLIPSOID, Solids

SKY, GROUND, FIRST_SOLID = 0, 1, 2
"""Values of `Hits.surface`; a solid's row in `Solids` is its value minus FIRST_SOLID."""

_NEAREST_M = 0.05
_MARGIN_RAD = 1e-4
_HOUSE_RADIUS_M, _HOUSE_HEIGHT_M = 4.0, 4.0

Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Rays (dx[c], dy[c], dz[r]) in a sensor's frame (x forward, y left, z up)."""

    dx: Floats
    dy: Floats
    dz: Floats
    """Descending: row 0 is the top."""
    angle: NDArray[np.float64]
    """Direction of each column in radians clockwise from straight ahead, ascending."""
    reach: float
    """The ground is not hit beyond this t."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return len(self.dz), len(self.dx)


@dataclass(frozen=True, kw_only=True)
class Hits:
    """First hit of every ray (R, C): `distance` is t (inf in the sky), `surface` says of what."""

    distance: Floats
    surface: NDArray[np.int16]


def camera_grid(width: int, height: int, intrinsics: NDArray[np.float64], reach: float) -> Grid:
    """Rays through the middle of each pixel: pixel j covers u in [j, j + 1); t is depth."""
    fx, fy, cx, cy = intrinsics
    slope = (np.arange(width) + 0.5 - cx) / fx
    return Grid(
        dx=np.ones(width, np.float32),
        dy=(-slope).astype(np.float32),
        dz=(-(np.arange(height) + 0.5 - cy) / fy).astype(np.float32),
        angle=np.arctan(slope),
        reach=reach,
    )


def lidar_grid(azimuths: NDArray[np.float64], elevations: NDArray[np.float64]) -> Grid:
    """Rays of clockwise azimuths (C,) ascending and elevations (R,) descending, in radians."""
    return Grid(
        dx=np.cos(azimuths).astype(np.float32),
        dy=(-np.sin(azimuths)).astype(np.float32),
        dz=np.tan(elevations).astype(np.float32),
        angle=azimuths,
        reach=math.inf,
    )


def cast(grid: Grid, solids: Solids, *, ground: float) -> Hits:
    """First hits among the ground plane at z = `ground` (< 0) and solids in the sensor's frame.

    Houses go first; what they hide entirely is then left out, three quarters of a town.
    """
    distance, surface = _cast_ground(grid, ground)
    hits = Hits(distance=distance, surface=surface)
    frames = _Frames.of(solids)
    windows = column_windows(grid, solids)
    is_house = _is_house(solids)[windows.solid]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        _cast_windows(grid, frames, windows.take(is_house), hits)
        others = windows.take(~is_house)
        _cast_windows(grid, frames, others.take(_in_sight(grid, solids, others, hits)), hits)
    return hits


class Windows(NamedTuple):
    """Column ranges [first, last) that can meet a solid's footprint; two rows where it wraps."""

    solid: NDArray[np.intp]
    first: NDArray[np.intp]
    last: NDArray[np.intp]

    def take(self, rows: NDArray[np.bool_]) -> "Windows":
        """Where the mask is true."""
        return Windows(self.solid[rows], self.first[rows], self.last[rows])

    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """All (window, column) pairs, window after window, and where each window starts."""
        return _ranges(self.first, self.last)


def column_windows(grid: Grid, solids: Solids) -> Windows:
    """Windows of all solids from the circles around their footprints, nearest solid first."""
    away = np.hypot(solids.x, solids.y).astype(np.float64)
    radius = solids.radius.astype(np.float64)
    middle = np.arctan2(-solids.y, solids.x).astype(np.float64)
    inside = away <= radius * 1.001
    spread = np.arcsin(np.minimum(1.0, radius / np.maximum(away, 1e-9))) + _MARGIN_RAD
    turns = np.array([[-2 * np.pi], [0.0], [2 * np.pi]])
    first = np.searchsorted(grid.angle, middle - spread + turns)
    last = np.searchsorted(grid.angle, middle + spread + turns)
    first[:, inside], last[:, inside] = 0, [[0], [len(grid.angle)], [0]]
    turn, solid = np.nonzero(first < last)
    order = np.argsort((away - radius)[solid], kind="stable")
    return Windows(solid[order], first[turn, solid][order], last[turn, solid][order])


def _ranges(
    first: NDArray[np.intp], last: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Number of the range and value for all values of ranges [first, last), and range starts."""
    length = last - first
    start = np.cumsum(length) - length
    number = np.repeat(np.arange(len(first)), length)
    return number, np.arange(len(number)) - (start - first)[number], start


def _is_house(solids: Solids) -> NDArray[np.bool_]:
    """Solids large enough to hide others."""
    return (solids.radius > _HOUSE_RADIUS_M) & (solids.top - solids.bottom > _HOUSE_HEIGHT_M)


def _in_sight(grid: Grid, solids: Solids, windows: Windows, hits: Hits) -> NDArray[np.bool_]:
    """Whether any ray of a window that could meet its solid goes as far as the solid.

    `reach[r]` is how far rays of row r or below go: a solid whose top is at row r needs no others.
    """
    if len(windows.solid) == 0:
        return np.zeros(0, bool)
    reach = hits.distance.copy()
    for r in range(len(reach) - 2, -1, -1):  # six times faster than np.maximum.accumulate
        np.maximum(reach[r], reach[r + 1], out=reach[r])
    away = np.hypot(solids.x, solids.y)
    at = np.where(solids.top > 0, away - solids.radius, away + solids.radius)
    stretch = np.hypot(grid.dx, grid.dy)
    slope = solids.top / np.maximum(at, _NEAREST_M) * stretch.max()
    row = np.clip(np.searchsorted(-grid.dz, -slope) - 1, 0, len(grid.dz) - 1)
    number, column, start = windows.pairs()
    farthest = np.maximum.reduceat(reach[row[windows.solid][number], column], start)
    longest = np.maximum(stretch[windows.first], stretch[windows.last - 1])
    gap = (away - solids.radius)[windows.solid] / longest
    return farthest >= gap * np.float32(1 - 1e-5)


def _cast_ground(grid: Grid, ground: float) -> tuple[Floats, NDArray[np.int16]]:
    with np.errstate(divide="ignore"):
        distance = np.where(grid.dz < 0, np.float32(ground) / grid.dz, np.inf)
    distance = np.where(distance <= grid.reach, distance, np.inf).astype(np.float32)
    surface = np.where(np.isfinite(distance), GROUND, SKY).astype(np.int16)
    rows = (len(grid.dz), 1)
    columns = (1, len(grid.dx))
    return np.tile(distance.reshape(rows), columns), np.tile(surface.reshape(rows), columns)


class _Frames(NamedTuple):
    """Every solid's own frame in half sizes: the sensor's place and the rays' directions in it."""

    kind: NDArray[np.int8]
    bottom: Floats
    top: Floats
    x: Floats
    y: Floats
    xx: Floats
    xy: Floats
    yx: Floats
    yy: Floats

    @staticmethod
    def of(solids: Solids) -> "_Frames":
        cos, sin = np.cos(solids.yaw), np.sin(solids.yaw)
        return _Frames(
            kind=solids.kind,
            bottom=solids.bottom,
            top=solids.top,
            x=-(cos * solids.x + sin * solids.y) / solids.half_x,
            y=(sin * solids.x - cos * solids.y) / solids.half_y,
            xx=cos / solids.half_x,
            xy=sin / solids.half_x,
            yx=-sin / solids.half_y,
            yy=cos / solids.half_y,
        )

    def take(self, rows: NDArray[np.intp]) -> "_Frames":
        return _Frames(*(column[rows] for column in self))


def _cast_windows(grid: Grid, frames: _Frames, windows: Windows, hits: Hits) -> None:
    """Enter the windows' solids into the buffers, in place.

    Intervals of all columns and of all rows are worked out at once; what is left per solid is the
    outer maximum and minimum, some 15 us.
    """
    if len(windows.solid) == 0:
        return
    own = frames.take(windows.solid)
    window, column, start = windows.pairs()
    each = own.take(window)
    dx, dy = grid.dx[column], grid.dy[column]
    ux, uy = dx * each.xx + dy * each.xy, dx * each.yx + dy * each.yy
    enter, leave = _footprints(each, ux, uy)
    met = (enter < leave) & (leave > _NEAREST_M)
    enter = np.maximum(enter, np.float32(_NEAREST_M))
    nearest = np.minimum.reduceat(np.where(met, enter, np.inf), start)
    farthest = np.maximum.reduceat(np.where(met, leave, 0), start)
    first_row, last_row = _row_windows(grid, own, nearest, farthest)
    row_window, row, row_start = _ranges(first_row, last_row)
    inverse = 1 / grid.dz[row]
    low, high = own.bottom[row_window] * inverse, own.top[row_window] * inverse
    near, far = np.minimum(low, high)[:, None], np.maximum(low, high)[:, None]
    bounds = (windows.first, windows.last, start, first_row, last_row, row_start)
    steps = zip(windows.solid.tolist(), *(b.tolist() for b in bounds), strict=True)
    for n, (solid, c0, c1, c, r0, r1, r) in enumerate(steps):
        columns, rows = slice(c, c + c1 - c0), slice(r, r + r1 - r0)
        tile = (slice(r0, r1), slice(c0, c1))
        distance = hits.distance[tile]
        if own.kind[n] in (BOX, CYLINDER):
            hit_at = np.maximum(near[rows], enter[columns])
            hit = hit_at < np.minimum(far[rows], leave[columns])
        else:
            curve = _ellipsoid if own.kind[n] == ELLIPSOID else _cone
            one = [float(column[n]) for column in own[1:5]]
            hit_at = curve(*one, ux[columns], uy[columns], grid.dz[tile[0]])
            hit = (hit_at > _NEAREST_M) & (hit_at >= near[rows]) & (hit_at <= far[rows])
        hit &= hit_at < distance
        np.copyto(distance, hit_at, where=hit)
        np.copyto(hits.surface[tile], np.int16(solid + FIRST_SOLID), where=hit)


def _footprints(each: _Frames, ux: Floats, uy: Floats) -> tuple[Floats, Floats]:
    """t at which rays (P,) enter and leave their footprints, unit squares or circles."""
    ix, iy = 1 / ux, 1 / uy
    x0, x1 = (-1 - each.x) * ix, (1 - each.x) * ix
    y0, y1 = (-1 - each.y) * iy, (1 - each.y) * iy
    a = ux * ux + uy * uy
    b = ux * each.x + uy * each.y
    root = np.sqrt(b * b - a * (each.x * each.x + each.y * each.y - 1))
    is_box = each.kind == BOX
    enter = np.maximum(np.minimum(x0, x1), np.minimum(y0, y1))
    leave = np.minimum(np.maximum(x0, x1), np.maximum(y0, y1))
    return np.where(is_box, enter, (-b - root) / a), np.where(is_box, leave, (-b + root) / a)


def _row_windows(
    grid: Grid, own: _Frames, enter: Floats, leave: Floats
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows [first, last) whose slope can meet each solid between `enter` and `leave`.

    One row of margin; none where no column meets the solid (`leave` is 0 there).
    """
    top = own.top / np.where(own.top > 0, enter, leave)
    bottom = own.bottom / np.where(own.bottom > 0, leave, enter)
    down = -grid.dz
    first = np.maximum(np.searchsorted(down, -top) - 1, 0)
    last = np.minimum(np.searchsorted(down, -bottom) + 1, len(down))
    return first, np.where(leave > 0, np.maximum(first, last), first)


def _ellipsoid(
    bottom: float, top: float, ox: float, oy: float, ux: Floats, uy: Floats, dz: Floats
) -> Floats:
    """t (R, C) of the near surface; nan where the ray misses."""
    half_z = (top - bottom) / 2
    oz = -(top + bottom) / 2 / half_z
    uz = dz * (1 / half_z)
    a = (ux * ux + uy * uy) + (uz * uz)[:, None]
    b = (ux * ox + uy * oy) + (uz * oz)[:, None]
    return (-b - np.sqrt(b * b - a * (ox * ox + oy * oy + oz * oz - 1))) / a


def _cone(
    bottom: float, top: float, ox: float, oy: float, ux: Floats, uy: Floats, dz: Floats
) -> Floats:
    """t (R, C) of the near surface of x^2 + y^2 = s^2 with s = 0 at the top, 1 at the bottom."""
    height = top - bottom
    os = top / height
    us = dz * (-1 / height)
    a = (ux * ux + uy * uy) - (us * us)[:, None]
    b = (ux * ox + uy * oy) - (us * os)[:, None]
    return (-b - np.sqrt(b * b - a * (ox * ox + oy * oy - os * os))) / a
