"""AnoVox's 14 weather presets as light: sun, sky light, tint, haze and wetness."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.synthetic.primitives import Colour


@dataclass(frozen=True, kw_only=True)
class Weather:
    """Light of one scene. Strengths are factors on surface colours."""

    name: str
    sun_elevation_deg: float
    sun: Colour
    ambient: Colour
    zenith: Colour
    horizon: Colour
    cloud_cover: float
    haze_m: float
    """Distance at which 63 % of a surface's colour is haze."""
    wetness: float
    """0 dry, 1 wet: darker road that mirrors the sky at grazing angles."""
    rain: float
    """Streaks before the camera, 0 none to 1 hard rain; 0 unless the weather is rich."""
    puddles: float
    """Share of the road under water; 0 unless the weather is rich."""


class _Daylight(NamedTuple):
    elevation_deg: float
    sun: Colour
    ambient: Colour


_DAYLIGHT = {
    "NOON": _Daylight(52.0, (0.95, 0.91, 0.83), (0.56, 0.6, 0.66)),
    "SUNSET": _Daylight(17.0, (1.05, 0.68, 0.38), (0.56, 0.51, 0.54)),
}
_SKY = {
    "NOON": ((0.25, 0.45, 0.78), (0.72, 0.81, 0.9)),
    "SUNSET": ((0.3, 0.36, 0.56), (0.92, 0.7, 0.5)),
}
_GREY = ((0.52, 0.56, 0.61), (0.72, 0.74, 0.76))

_SKIES: dict[str, tuple[float, float, float, float]] = {
    "CLEAR": (1.0, 0.15, 900.0, 0.0),
    "CLOUDY": (0.35, 0.8, 600.0, 0.0),
    "WET": (0.8, 0.3, 500.0, 0.8),
    "WET_CLOUDY": (0.3, 0.85, 400.0, 0.8),
    "SOFT_RAIN": (0.2, 0.9, 280.0, 0.9),
    "MID_RAIN": (0.12, 0.95, 200.0, 1.0),
    "HARD_RAIN": (0.05, 1.0, 140.0, 1.0),
}
"""Sun, cloud cover, haze distance in metres, wetness."""

WEATHER_NAMES: tuple[str, ...] = (
    "CLEAR_NOON",
    "CLOUDY_NOON",
    "WET_NOON",
    "WET_CLOUDY_NOON",
    "MID_RAINY_NOON",
    "HARD_RAIN_NOON",
    "SOFT_RAIN_NOON",
    "CLEAR_SUNSET",
    "CLOUDY_SUNSET",
    "WET_SUNSET",
    "WET_CLOUDYSUNSET",
    "MID_RAIN_SUNSET",
    "HARD_RAIN_SUNSET",
    "SOFT_RAIN_SUNSET",
)
"""As AnoVox spells them."""


_RAIN = {"SOFT_RAIN": 0.35, "MID_RAIN": 0.65, "HARD_RAIN": 1.0}
_PUDDLES_WHEN_WET = 0.3


def preset(name: str, *, rich: bool) -> Weather:
    """The light of one preset; with `rich` also its rain and puddles."""
    time = "SUNSET" if name.endswith("SUNSET") else "NOON"
    sky = name.removesuffix(time).strip("_").replace("RAINY", "RAIN")
    sun, cover, haze_m, wetness = _SKIES[sky]
    daylight = _DAYLIGHT[time]
    zenith, horizon = (
        _mix(blue, grey, cover) for blue, grey in zip(_SKY[time], _GREY, strict=True)
    )
    brighter = 1.0 + 0.45 * cover
    return Weather(
        name=name,
        sun_elevation_deg=daylight.elevation_deg,
        sun=_mix((0.0, 0.0, 0.0), daylight.sun, sun),
        ambient=_mix((0.0, 0.0, 0.0), daylight.ambient, brighter),
        zenith=zenith,
        horizon=horizon,
        cloud_cover=cover,
        haze_m=haze_m,
        wetness=wetness,
        rain=_RAIN.get(sky, 0.0) if rich else 0.0,
        puddles=_PUDDLES_WHEN_WET * wetness if rich else 0.0,
    )


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    r, g, b = (np.array(first) * (1 - share) + np.array(second) * share).tolist()
    return r, g, b
