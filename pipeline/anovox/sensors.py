"""The sensors of one scene, as its `sensor_setup.json` lists them.

Everything that turns pixels and points into metres comes from here, so a value that is absent, of
another type or different between sensors that share a pose is refused, not defaulted.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_CAMERA_ARGS = ("image_width", "image_height", "camera_fov")
_LIDAR_ARGS = ("range", "channels", "upper_fov", "lower_fov")
_WHOLE_ARGS = ("image_width", "image_height", "channels")
LARGEST_NUMBER = 1e9
"""Of anything in a setup: ranges, rates, sizes."""
_MAX_WHOLE = 8192  # also keeps images below the size that image decoders call a bomb

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class SensorSetup:
    """Cameras and LiDARs of one pose; the mount is in CARLA's vehicle axes (y right)."""

    image_width: int
    image_height: int
    camera_fov_deg: float
    """Horizontal field of view."""
    lidar_range_m: float
    lidar_channels: int
    lidar_upper_fov_deg: float
    lidar_lower_fov_deg: float
    mount_location: Triple
    """Metres forward, right and up from the vehicle's origin on the ground."""
    mount_rotation: Triple
    """Roll, pitch, yaw in degrees."""


def parse_setup(text: str, cameras: Sequence[str], lidars: Sequence[str]) -> SensorSetup:
    """The setup of the sensors with these folder names.

    Raises ValueError with the finding alone; the caller knows the path and the way out.
    """
    setup = _json_object(text)
    args: dict[str, float] = {}
    for folders, names in ((cameras, _CAMERA_ARGS), (lidars, _LIDAR_ARGS)):
        args |= _same("args", [_args(setup, folder, names) for folder in folders])
    mounts = [_entry(setup, folder) for folder in (*cameras, *lidars)]
    location = _same("location", [_triple(entry, "location") for entry in mounts])
    rotation = _same("rotation", [_triple(entry, "rotation") for entry in mounts])
    _check_args(args)
    return SensorSetup(
        image_width=int(args["image_width"]),
        image_height=int(args["image_height"]),
        camera_fov_deg=args["camera_fov"],
        lidar_range_m=args["range"],
        lidar_channels=int(args["channels"]),
        lidar_upper_fov_deg=args["upper_fov"],
        lidar_lower_fov_deg=args["lower_fov"],
        mount_location=location,
        mount_rotation=rotation,
    )


def saved_folders(text: str) -> set[str]:
    """Folder names of the sensors that were recorded; entries with save_data false have none."""
    setup = _json_object(text)
    return {name for name in setup if _entry(setup, name).get("save_data", True) is not False}


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object of sensors")
    return value


def _entry(setup: Mapping[str, Any], folder: str) -> Mapping[str, Any]:
    entry = setup.get(folder)
    if not isinstance(entry, dict):
        raise ValueError(f"it has no entry for the folder {folder}")
    return entry


def _args(setup: Mapping[str, Any], folder: str, names: Sequence[str]) -> dict[str, float]:
    args = _entry(setup, folder).get("args")
    if not isinstance(args, dict):
        raise ValueError(f"the entry of {folder} has no args")
    return {name: _number(args.get(name), f"{name} of {folder}") for name in names}


def _triple(entry: Mapping[str, Any], key: str) -> Triple:
    value = entry.get(key)
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError(f"a sensor's {key} is {value!r} instead of three numbers")
    x, y, z = (_number(item, key) for item in value)
    return x, y, z


def _number(value: Any, name: str) -> float:
    # An integer of hundreds of digits is legal JSON, but no float.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) < LARGEST_NUMBER:
        raise ValueError(f"{name} is {repr(value)[:60]} instead of a finite number")
    return float(value)


def _same(name: str, values: Sequence[Any]) -> Any:
    for value in values[1:]:
        if value != values[0]:
            raise ValueError(f"{name} differs between sensors of one pose: {values[0]} and {value}")
    return values[0]


def _check_args(args: Mapping[str, float]) -> None:
    for name in _WHOLE_ARGS:
        if not (1 <= args[name] <= _MAX_WHOLE and args[name].is_integer()):
            raise ValueError(
                f"{name} is {args[name]:g} instead of a whole number 1 to {_MAX_WHOLE}"
            )
    if not 0 < args["camera_fov"] < 180:
        raise ValueError(f"camera_fov is {args['camera_fov']:g} instead of 0 < degrees < 180")
    if not args["range"] > 0:
        raise ValueError(f"range is {args['range']:g} instead of metres > 0")
    if not args["lower_fov"] <= args["upper_fov"]:
        raise ValueError(f"lower_fov {args['lower_fov']:g} exceeds upper_fov {args['upper_fov']:g}")
