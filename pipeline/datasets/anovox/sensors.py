"""The sensors of one pose, as the scene's `sensor_setup.json` lists them.

Everything that turns pixels and points into metres comes from here, so a value that is absent, of
another type or different between sensors that share a pose is refused, not defaulted.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.datasets.anovox.paths import SENSOR_FOLDER

_CAMERA_ARGS = ("image_width", "image_height", "camera_fov")
_LIDAR_ARGS = ("range", "channels", "upper_fov", "lower_fov")
_WHOLE_ARGS = ("image_width", "image_height", "channels")
LARGEST_NUMBER = 1e9
"""Of anything in a setup: ranges, rates, sizes."""
_MAX_WHOLE = 8192  # also keeps images below the size that image decoders call a bomb
_ANOVOX_ARGS = {
    "camera_fov": 90.0,
    "range": 100.0,
    "channels": 64.0,
    "upper_fov": 15.0,
    "lower_fov": -25.0,
}
"""What every published sensor set has; for scenes that have lost their own setup."""

Vector3 = tuple[float, float, float]


class Mount(NamedTuple):
    """Where a sensor sits, in CARLA's vehicle axes (x forward, y right, z up)."""

    location: Vector3
    """Metres from the vehicle's origin on the ground."""
    rotation: Vector3
    """Roll, pitch, yaw in degrees; yaw is positive to the right."""


@dataclass(frozen=True, kw_only=True)
class SensorSetup:
    """The cameras of one pose and the LiDARs that belong to them."""

    image_width: int
    image_height: int
    camera_fov_deg: float
    """Horizontal field of view."""
    lidar_range_m: float
    lidar_channels: int
    lidar_upper_fov_deg: float
    lidar_lower_fov_deg: float
    camera: Mount
    lidar: Mount
    action_mounts: tuple[tuple[Mount, Mount], ...]
    """Camera and LiDAR whose matrices ACTION may hold: the set's last ones, listed or recorded."""


def parse_setup(text: str, cameras: Sequence[str], lidars: Sequence[str]) -> SensorSetup:
    """The setup of the sensors with these folder names.

    Raises ValueError with the finding alone; the caller knows the path and the way out.
    """
    setup = _json_object(text)
    args: dict[str, float] = {}
    for folders, names in ((cameras, _CAMERA_ARGS), (lidars, _LIDAR_ARGS)):
        args |= _same("args", [_args(setup, folder, names) for folder in folders])
    return _setup(
        args,
        camera=_same("mount", [_mount(setup, folder) for folder in cameras]),
        lidar=_same("mount", [_mount(setup, folder) for folder in lidars]),
        action_mounts=_action_mounts(setup),
    )


def setup_without_file(
    image_size: tuple[int, int], *, camera: Mount, lidar: Mount, only_pose: bool
) -> SensorSetup:
    """The setup of a scene without `sensor_setup.json`: mounts by folder name, AnoVox's own args.

    `image_size` is (width, height) in pixels. Raises ValueError when the scene has several poses,
    since nothing says then which of them ACTION's matrices belong to.
    """
    if not only_pose:
        raise ValueError("nothing says to which of several poses the matrices of ACTION belong")
    args = _ANOVOX_ARGS | {
        "image_width": float(image_size[0]),
        "image_height": float(image_size[1]),
    }
    return _setup(args, camera=camera, lidar=lidar, action_mounts=((camera, lidar),))


def listed_folders(text: str) -> set[str]:
    """Folder names of all sensors in a setup."""
    return set(_json_object(text))


def saved_folders(text: str) -> set[str]:
    """Folder names of the sensors that were recorded; entries with save_data false have none."""
    setup = _json_object(text)
    return {name for name in setup if _is_saved(_entry(setup, name))}


def _setup(args: Mapping[str, float], **mounts: Any) -> SensorSetup:
    _check_args(args)
    return SensorSetup(
        image_width=int(args["image_width"]),
        image_height=int(args["image_height"]),
        camera_fov_deg=args["camera_fov"],
        lidar_range_m=args["range"],
        lidar_channels=int(args["channels"]),
        lidar_upper_fov_deg=args["upper_fov"],
        lidar_lower_fov_deg=args["lower_fov"],
        **mounts,
    )


def _action_mounts(setup: Mapping[str, Any]) -> tuple[tuple[Mount, Mount], ...]:
    """The last camera and LiDAR of those listed, and of those recorded, where that differs."""
    pairs: list[tuple[Mount, Mount]] = []
    for folders in (list(setup), [name for name in setup if _is_saved(_entry(setup, name))]):
        kinds = {m["type"]: name for name in folders if (m := SENSOR_FOLDER.fullmatch(name))}
        if {"RGB-CAM", "LIDAR"} <= set(kinds):
            pairs.append((_mount(setup, kinds["RGB-CAM"]), _mount(setup, kinds["LIDAR"])))
    return tuple(dict.fromkeys(pairs))


def _is_saved(entry: Mapping[str, Any]) -> bool:
    return entry.get("save_data", True) is not False


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


def _mount(setup: Mapping[str, Any], folder: str) -> Mount:
    entry = _entry(setup, folder)
    return Mount(_triple(entry, "location"), _triple(entry, "rotation"))


def _triple(entry: Mapping[str, Any], key: str) -> Vector3:
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
