"""Colours for the camera's hits: deferred, so each pixel is shaded once whatever lies behind it.

Surfaces take a Lambert sun, sky light that is dimmer near the ground, haze and sensor noise. All
in float32 display space: the picture has to look like a street, not to be measured.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.ground import Ground
from pipeline.synthetic.lighting import Light
from pipeline.synthetic.patterns import noise, weights
from pipeline.synthetic.primitives import BOX, CYLINDER, ELLIPSOID, Colour, Solids
from pipeline.synthetic.rain import puddle_share, rain_share
from pipeline.synthetic.raycast import FIRST_SOLID, GROUND, SKY, Grid, Hits

NOISE_SIGMA = 2.2
"""Standard deviation of the camera's noise in 8-bit steps."""

_Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Shaded points (P,): metres along the surface, sunlight by angle, how far it faces up."""

    u: _Floats
    v: _Floats
    side: NDArray[np.bool_]
    sun: _Floats
    up: _Floats


def shade(
    hits: Hits,
    grid: Grid,
    solids: Solids,
    *,
    pose: NDArray[np.float64],
    height: float,
    ground: Ground,
    light: Light,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Image (H, W, 3) of a camera `height` metres above ground at world pose x, y, yaw.

    `solids` are in the sensor's frame, as they were cast. Colours are computed channel by channel,
    (3, P): along long rows NumPy is three times faster than along triples.
    """
    rows, columns = grid.shape
    planes = np.empty((3, rows * columns), np.float32)
    surface = hits.surface.reshape(-1)
    _shade_sky(planes, surface, grid, pose, light)
    pixels = np.flatnonzero(surface == GROUND)
    planes[:, pixels] = _ground_colours(pixels, hits, grid, pose, ground, light)
    pixels = np.flatnonzero(surface >= FIRST_SOLID)
    planes[:, pixels] = _solid_colours(pixels, hits, grid, solids, pose, height, light)
    camera_noise = _noise(rows, columns, rng)
    if light.weather.rain:
        share = rain_share(rows, columns, light.weather.rain, rng)
        _blend(planes, share, light.weather.horizon)
    planes *= 255
    planes += camera_noise
    np.clip(planes, 0, 255, out=planes)
    return np.ascontiguousarray(planes.astype(np.uint8).T).reshape(rows, columns, 3)


def _shade_sky(
    planes: _Floats,
    surface: NDArray[np.int16],
    grid: Grid,
    pose: NDArray[np.float64],
    light: Light,
) -> None:
    """Fill the rows down to the last one with sky in it, in place; solids overwrite it later."""
    rows, columns = grid.shape
    has_sky = np.flatnonzero((surface.reshape(rows, columns) == SKY).any(1))
    last = int(has_sky[-1]) + 1 if len(has_sky) else 0
    sky = light.sky_colour(pose[2] - grid.angle, grid.dz[:last])
    planes[:, : last * columns] = sky.reshape(3, -1)


def _ground_colours(
    pixels: NDArray[np.intp],
    hits: Hits,
    grid: Grid,
    pose: NDArray[np.float64],
    ground: Ground,
    light: Light,
) -> _Floats:
    row, column = np.divmod(pixels, grid.shape[1])
    t = hits.distance.reshape(-1)[pixels]
    x, y = to_world(t * grid.dx[column], t * grid.dy[column], pose)
    lit, opened = light.on_ground(x, y)
    weather = light.weather
    dry = 1 - 0.3 * weather.wetness
    ambient = _column(weather.ambient) * np.float32(dry / 255)
    sun = _column(weather.sun) * np.float32(dry / 255 * light.sun_direction[2])
    colour = ground.colour[ground.cells(x, y)].T.astype(np.float32, order="C")
    colour *= ambient * opened + sun * lit
    mirror = (0.55 * weather.wetness * np.exp(grid.dz * 6.0)).astype(np.float32)[row]
    if weather.puddles:
        glossy = (0.2 + 0.7 * np.exp(grid.dz * 2.5)).astype(np.float32)[row]
        mirror = np.maximum(mirror, glossy * puddle_share(x, y, weather.puddles))
    return _hazed(_blend(colour, mirror, weather.horizon), t, light)


def _solid_colours(
    pixels: NDArray[np.intp],
    hits: Hits,
    grid: Grid,
    solids: Solids,
    pose: NDArray[np.float64],
    height: float,
    light: Light,
) -> _Floats:
    row, column = np.divmod(pixels, grid.shape[1])
    number = hits.surface.reshape(-1)[pixels].astype(np.intp) - FIRST_SOLID
    t = hits.distance.reshape(-1)[pixels]
    point = (t * grid.dx[column], t * grid.dy[column], t * grid.dz[row])
    faces = _surface(number, point, solids, _in_sensor(light.sun_direction, pose))
    weight = weights(solids.pattern[number], faces.u, faces.v, solids.cell[number], faces.side)
    colour = solids.colour.T.take(number, axis=1)
    colour += weight * (solids.second - solids.colour).T.take(number, axis=1)
    grain = np.float32(0.95) + np.float32(0.1) * noise(faces.u, faces.v, 14.0)
    foot = np.clip((point[2] + np.float32(height)) * np.float32(1.2), 0, 1)
    opened = grain * (np.float32(0.62) + np.float32(0.2) * faces.up + np.float32(0.18) * foot)
    weather = light.weather
    colour *= _column(weather.ambient) * opened + _column(weather.sun) * (faces.sun * grain)
    return _hazed(colour, t, light)


def _surface(
    number: NDArray[np.intp],
    point: tuple[_Floats, _Floats, _Floats],
    solids: Solids,
    sun: NDArray[np.float64],
) -> Surface:
    """Where on its solid each hit lies and how the sun meets it there."""
    cos, sin = np.cos(solids.yaw), np.sin(solids.yaw)
    sun_x = (cos * sun[0] + sin * sun[1]).astype(np.float32)
    sun_y = (cos * sun[1] - sin * sun[0]).astype(np.float32)
    dx, dy = point[0] - solids.x[number], point[1] - solids.y[number]
    c, s = cos[number], sin[number]
    x, y = c * dx + s * dy, c * dy - s * dx
    z = point[2] - solids.bottom[number]
    result = {name: np.empty(len(number), np.float32) for name in ("u", "v", "sun", "up")}
    side = np.empty(len(number), bool)
    is_box = solids.kind[number] == BOX
    for rows, faces in (
        (np.flatnonzero(is_box), _box_faces),
        (np.flatnonzero(~is_box), _round_faces),
    ):
        local = (x[rows], y[rows], z[rows])
        n = number[rows]
        part = faces(local, n, solids, (sun_x[n], sun_y[n], float(sun[2])))
        for name, column in result.items():
            column[rows] = getattr(part, name)
        side[rows] = part.side
    return Surface(side=side, **result)


_Sun = tuple[_Floats, _Floats, float]
_Point = tuple[_Floats, _Floats, _Floats]


def _box_faces(point: _Point, n: NDArray[np.intp], solids: Solids, sun: _Sun) -> Surface:
    x, y, z = point
    half_z = (solids.top - solids.bottom)[n] * np.float32(0.5)
    rx, ry, rz = x / solids.half_x[n], y / solids.half_y[n], z / half_z - 1
    ax, ay, az = np.abs(rx), np.abs(ry), np.abs(rz)
    is_top = az > np.maximum(ax, ay)
    is_end = ax > ay
    facing = np.where(is_end, np.copysign(sun[0], rx * sun[0]), np.copysign(sun[1], ry * sun[1]))
    lambert = np.where(is_top, np.copysign(np.float32(sun[2]), rz), facing)
    return Surface(
        u=np.where(is_end & ~is_top, y, x),
        v=np.where(is_top, y, z),
        side=~is_top,
        sun=np.maximum(lambert, 0),
        up=np.where(is_top, np.sign(rz), 0).astype(np.float32),
    )


def _round_faces(point: _Point, n: NDArray[np.intp], solids: Solids, sun: _Sun) -> Surface:
    """Cylinder, ellipsoid and cone: u runs around, v up."""
    x, y, z = point
    kind = solids.kind[n]
    half_x, half_y, height = solids.half_x[n], solids.half_y[n], (solids.top - solids.bottom)[n]
    rx, ry = x / half_x, y / half_y
    is_cap = (kind == CYLINDER) & (rx * rx + ry * ry < 0.995)
    slope = np.where(kind == ELLIPSOID, (2 * z / height - 1) * 2 / height, 0.5 / height)
    nz = np.where(kind == CYLINDER, 0, slope).astype(np.float32)
    nx, ny = np.where(is_cap, 0, rx / half_x), np.where(is_cap, 0, ry / half_y)
    nz = np.where(is_cap, 1, nz)
    length = np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-9)
    lambert = (nx * sun[0] + ny * sun[1] + nz * np.float32(sun[2])) / length
    return Surface(
        u=np.where(is_cap, x, np.arctan2(ry, rx) * (half_x + half_y) * np.float32(0.5)),
        v=np.where(is_cap, y, z),
        side=~is_cap,
        sun=np.maximum(lambert, 0),
        up=nz / length,
    )


def to_world(
    x: _Floats, y: _Floats, pose: NDArray[np.float64]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """World positions (P,) of positions in the frame of a sensor at pose x, y, yaw."""
    cos, sin = np.float64(math.cos(pose[2])), np.float64(math.sin(pose[2]))
    return pose[0] + cos * x - sin * y, pose[1] + sin * x + cos * y


def _in_sensor(direction: NDArray[np.float64], pose: NDArray[np.float64]) -> NDArray[np.float64]:
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    x, y, z = direction
    return np.array([cos * x + sin * y, -sin * x + cos * y, z])


def _hazed(colour: _Floats, t: _Floats, light: Light) -> _Floats:
    share = 1 - np.exp(t * np.float32(-1 / light.weather.haze_m))
    return _blend(colour, share, light.weather.horizon)


def _blend(colour: _Floats, share: _Floats, other: Colour) -> _Floats:
    """`share` (P,) of another colour in place of colours (3, P), which are changed in place."""
    colour *= 1 - share
    colour += share * _column(other)
    return colour


def _column(colour: Colour) -> _Floats:
    return np.array(colour, np.float32)[:, None]


def _noise(rows: int, columns: int, rng: np.random.Generator) -> _Floats:
    """Gaussian noise (3, H * W): a window of a fixed tile, as fresh noise costs 10 ms a frame."""
    tile = _noise_tile(3 * rows + 256, columns + 256)
    i, j = rng.integers(256, size=2)
    return tile[i : i + 3 * rows, j : j + columns].reshape(3, rows * columns)


@lru_cache(maxsize=2)
def _noise_tile(rows: int, columns: int) -> _Floats:
    normal = np.random.default_rng(21).standard_normal((rows, columns), dtype=np.float32)
    return normal * np.float32(NOISE_SIGMA)
