"""What lights one scene: the sun, shadows and dim corners on the ground, and the sky.

Shadows are polygons drawn once per scene into a map of the ground, because casting shadow rays
would cost as much as the camera; what moves casts none.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pipeline.synthetic.primitives import BOX, Solids
from pipeline.synthetic.weather import Weather

SHADOW_CELL_M = 0.2
_MARGIN_M = 45.0
_LONGEST_M = 25.0
_FOOT_M = 0.5
_SKY_SHAPE = (128, 512)
_TOP_SLOPE = 0.8


@dataclass(frozen=True, kw_only=True)
class Light:
    """Sun direction (world, unit), ground maps, and the sky as a panorama."""

    weather: Weather
    sun_direction: NDArray[np.float64]
    origin: NDArray[np.float64]
    """World x, y of the maps' first cell."""
    lit: NDArray[np.floating]
    """Share of sunlight (X, Y) on the ground; 1 outside the map."""
    open: NDArray[np.floating]
    """Share of sky light (X, Y) on the ground, less around the feet of things."""
    sky: NDArray[np.float32]
    """Colours (3, elevation, azimuth); rows from slope 0 to `_TOP_SLOPE`."""

    def on_ground(
        self, x: NDArray[np.floating], y: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Shares of sunlight and sky light (P,) at world positions."""
        rows, columns = self.lit.shape
        i = ((x - self.origin[0]) * (1 / SHADOW_CELL_M)).astype(np.int32)
        j = ((y - self.origin[1]) * (1 / SHADOW_CELL_M)).astype(np.int32)
        cell = np.clip(i, 0, rows - 1) * np.int32(columns) + np.clip(j, 0, columns - 1)
        return self.lit.reshape(-1)[cell], self.open.reshape(-1)[cell]

    def sky_colour(
        self, azimuth: NDArray[np.floating], slope: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Colours (3, R, C) of directions by world azimuth (C,) and slope (R,)."""
        rows, columns = _SKY_SHAPE
        i = np.clip(slope * (rows / _TOP_SLOPE), 0, rows - 1).astype(np.intp)
        j = np.floor(azimuth * (columns / (2 * math.pi))).astype(np.intp) % columns
        return self.sky[:, i].take(j, axis=2)


def build_light(
    weather: Weather,
    sun_azimuth: float,
    standing: Solids,
    places: NDArray[np.float64],
    rng: np.random.Generator,
) -> Light:
    """Light of a scene whose ego passes `places` (N, 2); `standing` are world solids at rest."""
    elevation = math.radians(weather.sun_elevation_deg)
    flat = math.cos(elevation)
    direction = np.array(
        [flat * math.cos(sun_azimuth), flat * math.sin(sun_azimuth), math.sin(elevation)]
    )
    low, high = places.min(0) - _MARGIN_M, places.max(0) + _MARGIN_M
    shape = tuple(int(length / SHADOW_CELL_M) for length in high - low)
    near = standing.take(np.flatnonzero(_is_inside(standing, low, high)))
    outlines = (_outlines(near) - low) / SHADOW_CELL_M
    per_metre = -direction[:2] / direction[2]
    height = np.minimum([near.bottom, near.top], _LONGEST_M / np.hypot(*per_metre))
    shift = height[..., None] * per_metre / SHADOW_CELL_M
    return Light(
        weather=weather,
        sun_direction=direction,
        origin=low,
        lit=_draw(shape, _swept(outlines, *shift), blur=1.0, dark=1.0),
        open=_draw(shape, outlines[near.bottom < _FOOT_M], blur=3.0, dark=0.6),
        sky=_paint_sky(weather, rng),
    )


def _is_inside(
    solids: Solids, low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.bool_]:
    r = solids.radius + _LONGEST_M
    in_x = (solids.x + r > low[0]) & (solids.x - r < high[0])
    return in_x & (solids.y + r > low[1]) & (solids.y - r < high[1])


def _outlines(solids: Solids) -> NDArray[np.float64]:
    """World footprints (S, 8, 2), counter-clockwise; a circle is an octagon."""
    angle = np.arange(8) * (math.pi / 4)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    square = circle / np.abs(circle).max(axis=1, keepdims=True)
    unit = np.where((solids.kind == BOX)[:, None, None], square, circle)
    local = unit * np.stack([solids.half_x, solids.half_y], axis=1)[:, None, :]
    cos, sin = np.cos(solids.yaw)[:, None], np.sin(solids.yaw)[:, None]
    x = solids.x[:, None] + cos * local[..., 0] - sin * local[..., 1]
    y = solids.y[:, None] + sin * local[..., 0] + cos * local[..., 1]
    return np.stack([x, y], axis=-1).astype(np.float64)


def _swept(
    outlines: NDArray[np.float64], first: NDArray[np.float64], last: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Polygons (S, 16, 2) that outlines (S, 8, 2) cover between shifts (S, 2) `first` and `last`.

    An edge that faces the way of the shift is found at `last`, any other at `first`.
    """
    way = (last - first)[:, None, :]
    edge = np.roll(outlines, -1, axis=1) - outlines
    leads = (edge[..., 1] * way[..., 0] - edge[..., 0] * way[..., 1] > 0)[..., None]
    start = outlines + first[:, None, :]
    ends = np.stack([start + way * np.roll(leads, 1, axis=1), start + way * leads], axis=2)
    return ends.reshape(len(outlines), 2 * outlines.shape[1], 2)


def _draw(
    shape: tuple[int, ...], polygons: NDArray[np.float64], *, blur: float, dark: float
) -> NDArray[np.floating]:
    """Map (X, Y) that is 1, but 1 - `dark` inside polygons (S, V, 2), with soft edges."""
    image = Image.new("L", (shape[1], shape[0]), 255)
    draw = ImageDraw.Draw(image)
    flat = polygons[..., ::-1].reshape(len(polygons), 2 * polygons.shape[1])
    for polygon in flat.tolist():
        draw.polygon(polygon, fill=0)
    soft = np.asarray(image.filter(ImageFilter.BoxBlur(blur)), np.float32) / 255
    return 1 - np.float32(dark) * (1 - soft)


def _paint_sky(weather: Weather, rng: np.random.Generator) -> NDArray[np.float32]:
    """Panorama (3, elevation, azimuth): zenith to horizon, and clouds that close up all around."""
    rows, columns = _SKY_SHAPE
    height = (np.linspace(0, 1, rows) ** 0.7)[:, None]
    horizon, zenith = (np.array(c)[:, None, None] for c in (weather.horizon, weather.zenith))
    blue = horizon * (1 - height) + zenith * height
    coarse = rng.random((10, 24), dtype=np.float32)
    wrapped = np.concatenate([coarse[:, -3:], coarse, coarse[:, :3]], axis=1)
    margin = columns // 8
    size = (columns + 2 * margin, rows)
    clouds = np.asarray(Image.fromarray(wrapped).resize(size, Image.Resampling.BICUBIC))
    density = clouds[:, margin:-margin] + 0.9 * weather.cloud_cover - 0.75
    cover = np.clip(density * 2.0, 0, 1) * 0.75
    white = horizon * 0.4 + 0.58
    return (blue * (1 - cover) + white * cover).astype(np.float32)
