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

from pipeline.synthetic.primitives import BOX, CYLINDER, ELLIPSOID, Solids

SKY, GROUND, FIRST_SOLID = 0, 1, 2
"""Values of `Hits.surface`; a solid's row in `Solids` is its value minus FIRST_SOLID."""

_NEAREST_M = 0.05
_MARGIN_RAD = 1e-4
_HOUSE_RADIUS_M, _HOUSE_HEIGHT_M = 4.0, 4.0

_Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Rays (dx[c], dy[c], dz[r]) in a sensor's frame (x forward, y left, z up)."""

    dx: _Floats
    dy: _Floats
    dz: _Floats
    """Descending: row 0 is the top."""
    angle: NDArray[np.floating]
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

    distance: _Floats
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


def lidar_grid(azimuths: NDArray[np.floating], elevations: NDArray[np.floating]) -> Grid:
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
    frames = _frames(solids)
    windows = column_windows(grid, solids)
    is_house = _is_house(solids)[windows.solid]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        _cast_windows(grid, frames, windows.take(is_house), hits)
        others = windows.take(~is_house)
        _cast_windows(grid, frames, others.take(_in_sight(grid, solids, others, hits)), hits)
    return hits


class Windows(NamedTuple):
    """Column ranges [first, last) that can meet a solid's footprint; two where it wraps."""

    solid: NDArray[np.intp]
    first: NDArray[np.intp]
    last: NDArray[np.intp]

    def take(self, rows: NDArray[np.bool_]) -> "Windows":
        """Where the mask is true."""
        return Windows(self.solid[rows], self.first[rows], self.last[rows])


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
    stretch = np.hypot(grid.dx, grid.dy)
    gap = np.maximum(away - solids.radius, _NEAREST_M)
    highest = solids.top * stretch.max() / gap
    below = solids.top * stretch.min() / (away + solids.radius)
    slope = np.where(solids.top > 0, highest, below)
    row = np.clip(np.searchsorted(-grid.dz, -slope) - 1, 0, len(grid.dz) - 1)
    number, column, start = _ranges(windows.first, windows.last)
    farthest = np.maximum.reduceat(reach[row[windows.solid][number], column], start)
    longest = np.maximum(stretch[windows.first], stretch[windows.last - 1])
    return farthest >= (away - solids.radius)[windows.solid] / longest * (1 - 1e-5)


def _cast_ground(grid: Grid, ground: float) -> tuple[_Floats, NDArray[np.int16]]:
    with np.errstate(divide="ignore"):
        distance = np.where(grid.dz < 0, np.float32(ground) / grid.dz, np.inf)
    distance = np.where(distance <= grid.reach, distance, np.inf).astype(np.float32)
    surface = np.where(np.isfinite(distance), GROUND, SKY).astype(np.int16)
    rows = (len(grid.dz), 1)
    columns = (1, len(grid.dx))
    return np.tile(distance.reshape(rows), columns), np.tile(surface.reshape(rows), columns)


class _Frames(NamedTuple):
    """Every solid's own frame, in half sizes of the solid."""

    kind: NDArray[np.int8]
    numbers: _Floats
    """(8, S): bottom, top; the sensor's x, y; x per dx, x per dy, y per dx, y per dy of a ray."""

    def take(self, rows: NDArray[np.intp]) -> "_Frames":
        return _Frames(self.kind[rows], self.numbers[:, rows])


def _frames(solids: Solids) -> _Frames:
    cos, sin = np.cos(solids.yaw), np.sin(solids.yaw)
    numbers = (
        solids.bottom,
        solids.top,
        -(cos * solids.x + sin * solids.y) / solids.half_x,
        (sin * solids.x - cos * solids.y) / solids.half_y,
        cos / solids.half_x,
        sin / solids.half_x,
        -sin / solids.half_y,
        cos / solids.half_y,
    )
    return _Frames(solids.kind, np.stack(numbers))


class _Intervals(NamedTuple):
    """One axis of all windows: window n has grid places [first, last) at `start` of the arrays."""

    first: list[int]
    last: list[int]
    start: list[int]
    enter: _Floats
    leave: _Floats

    def of(self, n: int) -> tuple[slice, slice]:
        """Window n's part of the grid and of the arrays."""
        first, last, start = self.first[n], self.last[n], self.start[n]
        return slice(first, last), slice(start, start + last - first)


def _cast_windows(grid: Grid, frames: _Frames, windows: Windows, hits: Hits) -> None:
    """Enter the windows' solids into the buffers, in place.

    Intervals of all columns and of all rows are worked out at once; what is left per solid is one
    outer maximum and minimum, some 15 us.
    """
    if len(windows.solid) == 0:
        return
    own = frames.take(windows.solid)
    window, column, start = _ranges(windows.first, windows.last)
    each = own.take(window)
    ux, uy = _directions(each, grid.dx[column], grid.dy[column])
    enter, leave = _footprints(each, ux, uy)
    columns = _Intervals(
        windows.first.tolist(), windows.last.tolist(), start.tolist(), enter, leave
    )
    rows = _row_intervals(grid, own, *_extent(enter, leave, start))
    for n, (solid, kind) in enumerate(zip(windows.solid.tolist(), own.kind.tolist(), strict=True)):
        (r, row_part), (c, column_part) = rows.of(n), columns.of(n)
        distance = hits.distance[r, c]
        near, far = rows.enter[row_part, None], rows.leave[row_part, None]
        if kind in (BOX, CYLINDER):
            hit_at = np.maximum(near, enter[column_part])
            is_hit = hit_at < np.minimum(far, leave[column_part])
        else:
            curve = _ellipsoid if kind == ELLIPSOID else _cone
            numbers = own.numbers[:4, n].tolist()
            hit_at = curve(numbers, ux[column_part], uy[column_part], grid.dz[r])
            is_hit = (hit_at > _NEAREST_M) & (hit_at >= near) & (hit_at <= far)
        is_hit &= hit_at < distance
        np.copyto(distance, hit_at, where=is_hit)
        np.copyto(hits.surface[r, c], np.int16(solid + FIRST_SOLID), where=is_hit)


def _directions(each: _Frames, dx: _Floats, dy: _Floats) -> tuple[_Floats, _Floats]:
    _, _, _, _, xx, xy, yx, yy = each.numbers
    return dx * xx + dy * xy, dx * yx + dy * yy


def _footprints(each: _Frames, ux: _Floats, uy: _Floats) -> tuple[_Floats, _Floats]:
    """t at which rays (P,) enter and leave their footprints, unit squares or circles."""
    _, _, x, y, *_ = each.numbers
    ix, iy = 1 / ux, 1 / uy
    x0, x1, y0, y1 = (-1 - x) * ix, (1 - x) * ix, (-1 - y) * iy, (1 - y) * iy
    a = ux * ux + uy * uy
    b = ux * x + uy * y
    root = np.sqrt(b * b - a * (x * x + y * y - 1))
    is_box = each.kind == BOX
    enter = np.maximum(np.minimum(x0, x1), np.minimum(y0, y1))
    leave = np.minimum(np.maximum(x0, x1), np.maximum(y0, y1))
    enter = np.where(is_box, enter, (-b - root) / a)
    leave = np.where(is_box, leave, (-b + root) / a)
    return np.maximum(enter, np.float32(_NEAREST_M)), leave


def _extent(enter: _Floats, leave: _Floats, start: NDArray[np.intp]) -> tuple[_Floats, _Floats]:
    """Smallest t at which a column of each window enters and largest at which one leaves."""
    is_met = enter < leave
    nearest = np.minimum.reduceat(np.where(is_met, enter, np.inf), start)
    return nearest, np.maximum.reduceat(np.where(is_met, leave, 0), start)


def _row_intervals(grid: Grid, own: _Frames, nearest: _Floats, farthest: _Floats) -> _Intervals:
    """Rows that can meet each window's solid, and t at which their rays pass its two planes.

    One row of margin; no rows where no column meets the solid (`farthest` is 0 there).
    """
    bottom, top, *_ = own.numbers
    down = -grid.dz
    highest = top / np.where(top > 0, nearest, farthest)
    lowest = bottom / np.where(bottom > 0, farthest, nearest)
    first = np.maximum(np.searchsorted(down, -highest) - 1, 0)
    last = np.minimum(np.searchsorted(down, -lowest) + 1, len(down))
    last = np.where(farthest > 0, np.maximum(first, last), first)
    window, row, start = _ranges(first, last)
    low, high = bottom[window] / grid.dz[row], top[window] / grid.dz[row]
    enter, leave = np.minimum(low, high), np.maximum(low, high)
    return _Intervals(first.tolist(), last.tolist(), start.tolist(), enter, leave)


def _ellipsoid(numbers: list[float], ux: _Floats, uy: _Floats, dz: _Floats) -> _Floats:
    """t (R, C) of the near surface; nan where the ray misses."""
    bottom, top, ox, oy = numbers
    half_z = (top - bottom) / 2
    oz = -(top + bottom) / 2 / half_z
    uz = dz * (1 / half_z)
    a = (ux * ux + uy * uy) + (uz * uz)[:, None]
    b = (ux * ox + uy * oy) + (uz * oz)[:, None]
    return (-b - np.sqrt(b * b - a * (ox * ox + oy * oy + oz * oz - 1))) / a


def _cone(numbers: list[float], ux: _Floats, uy: _Floats, dz: _Floats) -> _Floats:
    """t (R, C) of the near surface of x^2 + y^2 = s^2 with s = 0 at the top, 1 at the bottom."""
    bottom, top, ox, oy = numbers
    height = top - bottom
    os = top / height
    us = dz * (-1 / height)
    a = (ux * ux + uy * uy) - (us * us)[:, None]
    b = (ux * ox + uy * oy) - (us * os)[:, None]
    return (-b - np.sqrt(b * b - a * (ox * ox + oy * oy - os * os))) / a
