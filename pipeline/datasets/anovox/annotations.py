"""The small text files of a frame: ACTION and ANOMALY, one `key ; value` per line.

Values are what Python's `str` printed, unquoted; a value that is no literal stays text.
"""

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.anovox.class_ids import CATEGORY, GENERIC_ANOMALY
from pipeline.datasets.anovox.geometry import carla_transform
from pipeline.datasets.anovox.io import damaged, load_text
from pipeline.datasets.anovox.sensors import Mount, SensorSetup, Vector3
from pipeline.datasets.protocol.frames import FrameError

SEPARATOR = " ; "
_NUMBERS = re.compile(r"[-+0-9eE., \t\[\]]*")
"""Texts that mean the same in JSON, where they are JSON at all."""
KM_H_PER_M_S = 3.6
POSE_TOLERANCE = 0.02
"""Largest entry of the difference of two poses that ought to be one (metres and unit vectors)."""
_TEXT_KEYS = frozenset({"scenario_id", "vehicle_type_id", "anomaly_type_id", "steering_curve"})


@dataclass(frozen=True, kw_only=True)
class Anomaly:
    """What the ANOMALY file says of the actor that was placed; says nothing about visibility."""

    type_id: str
    category: str
    """One of labels.CATEGORY's values, or empty for an actor of an ordinary class (a vehicle)."""
    tags: tuple[int, ...]
    """CARLA's native class ids of the actor; empty in the variant without them."""
    location: Vector3 | None
    """Metres in CARLA's world (y right), None in the variant without it."""
    velocity: Vector3 | None
    """m/s in CARLA's world, None in the variant without it."""
    speed_m_s: float | None
    """Length of `velocity`, or the speed of the variant that has no velocity."""
    size: str
    """tiny, small, medium, big or huge; empty where the file does not say."""


def format_key_value(values: Mapping[str, Any]) -> str:
    """ACTION or ANOMALY text: one `key ; value` per line, values as Python's `str` prints them."""
    lines = [f"{key}{SEPARATOR}{value}" for key, value in values.items()]
    for key, line in zip(values, lines, strict=True):
        if "\n" in line or SEPARATOR in key:
            raise ValueError(f"{line!r} does not fit a `key ; value` line; remove the line break")
    return "".join(f"{line}\n" for line in lines)


def parse_key_value(text: str) -> dict[str, Any]:
    """ACTION or ANOMALY text as a dict; values are Python literals, or text where they are none.

    Raises ValueError for a line without ` ; ` and for a key that comes twice.
    """
    values: dict[str, Any] = {}
    for line in text.split("\n"):
        if not line.strip():
            continue
        key, separator, value = line.rstrip("\r").partition(SEPARATOR)
        if not separator or key in values:
            raise ValueError(f"line {line[:60]!r} is not `key ; value` with a key of its own")
        values[key] = value if key in _TEXT_KEYS else _literal(value)
    return values


def parse_anomaly(values: Mapping[str, Any]) -> Anomaly:
    """The Anomaly of a parsed ANOMALY file; ValueError if it is of neither variant.

    Variant A describes the placed actor; variant B has the lines of ACTION for the vehicle ahead.
    """
    type_id = str(values.get("anomaly_type_id") or values.get("vehicle_type_id") or "")
    if not type_id:
        raise ValueError("neither anomaly_type_id nor vehicle_type_id is in it")
    tags = values.get("semantic_tags", [])
    if not isinstance(tags, list) or not all(type(tag) is int for tag in tags):
        raise ValueError(f"semantic_tags is {tags!r} instead of a list of class ids")
    categories = [CATEGORY[tag] for tag in tags if tag in CATEGORY]
    by_name = type_id.rpartition("_")[2]
    if not categories and not tags and by_name in CATEGORY.values():
        categories = [by_name]
    location = None
    if "location" in values or "anomaly_type_id" in values:
        location = _triple(values, "location")
    velocity = _triple(values, "velocity") if "velocity" in values else None
    return Anomaly(
        type_id=type_id,
        category=categories[0] if categories else "",
        tags=tuple(tags),
        location=location,
        velocity=velocity,
        speed_m_s=_speed_m_s(values, velocity),
        size=str(values.get("size", "")),
    )


def _speed_m_s(values: Mapping[str, Any], velocity: Vector3 | None) -> float | None:
    if velocity is not None:
        return float(np.linalg.norm(velocity))
    if "speed" not in values:
        return None
    return float(_numbers(values["speed"], "speed", ())) / KM_H_PER_M_S


def read_record(path: Path, *, scene_id: str, frame_id: int) -> dict[str, Any]:
    """ACTION or ANOMALY of this frame and of no other."""
    text = load_text(path)
    try:
        values = parse_key_value(text)
        for key, expected in (("frame_id", frame_id), ("scenario_id", scene_id)):
            if values.get(key) != expected:
                raise ValueError(f"its {key} is {values.get(key)!r} instead of {expected!r}")
    except ValueError as error:
        raise damaged(path, str(error)) from None
    return values


def read_anomaly(path: Path, *, scene_id: str, frame_id: int, kind: str) -> Anomaly:
    """The object placed in a frame of this kind of scene.

    FrameError for an object that does not belong there: a static scene places one of an anomaly
    class, a dynamic scene a vehicle.
    """
    values = read_record(path, scene_id=scene_id, frame_id=frame_id)
    try:
        anomaly = parse_anomaly(values)
    except ValueError as error:
        raise damaged(path, str(error)) from None
    is_generic_only = set(anomaly.tags) <= {GENERIC_ANOMALY} and anomaly.category in ("", "anomaly")
    if kind == "static" and not anomaly.category:
        raise FrameError(
            f"{path}: {anomaly.type_id} with tags {list(anomaly.tags)} is of no anomaly class, but "
            "frames of static archives are labelled by class; move the scene to the dynamic "
            "archive it belongs to"
        )
    if kind == "dynamic" and anomaly.category and not is_generic_only:
        raise FrameError(
            f"{path}: {anomaly.type_id} is a placed object ({anomaly.category}), but dynamic "
            "archives hold a braking vehicle; move the scene to the static archive it belongs to"
        )
    return anomaly


def lidar_matrix(path: Path, action: Mapping[str, Any], setup: SensorSetup) -> NDArray[np.float64]:
    """CARLA's LiDAR-to-world matrix of this pose, from the one of the set's last LiDAR in ACTION.

    Before it is believed its inverse must agree, and the camera's pose must lie where the mounts
    of one of `setup.action_mounts` put it.
    """
    try:
        lidar, inverse, camera = (
            _numbers(action.get(key), key, (4, 4))
            for key in (
                "lidar transformation matrix",
                "lidar inverse transformation matrix",
                "camera transformation matrix",
            )
        )
        rotation = lidar[:3, :3]
        if not (
            np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
            and np.linalg.det(rotation) > 0
            and np.array_equal(lidar[3], [0, 0, 0, 1])
        ):
            raise ValueError("lidar transformation matrix is not a rigid motion")
        if not np.allclose(lidar @ inverse, np.eye(4), atol=POSE_TOLERANCE):
            raise ValueError("lidar inverse transformation matrix is not the matrix's inverse")
        return _moved(lidar, _action_lidar(inverse @ camera, setup), setup.lidar)
    except ValueError as error:
        raise damaged(path, str(error)) from None


def _action_lidar(lidar_from_camera: NDArray[np.float64], setup: SensorSetup) -> Mount:
    """The LiDAR that ACTION's matrices are of; ValueError if no pair of mounts explains them."""
    for camera, lidar in setup.action_mounts:
        expected = np.linalg.inv(_vehicle_from(lidar)) @ _vehicle_from(camera)
        if np.allclose(lidar_from_camera, expected, atol=POSE_TOLERANCE):
            return lidar
    raise ValueError("camera and lidar matrices do not differ as their mounts do")


def _moved(matrix: NDArray[np.float64], mount: Mount, to: Mount) -> NDArray[np.float64]:
    """World matrix of a sensor at mount `to`, from that of one at `mount` on the same vehicle."""
    if mount == to:
        return matrix
    return matrix @ np.linalg.inv(_vehicle_from(mount)) @ _vehicle_from(to)


def _vehicle_from(mount: Mount) -> NDArray[np.float64]:
    """4x4 from a sensor's axes to the vehicle's, both CARLA's (y right)."""
    return carla_transform(mount.location, *mount.rotation)


def _triple(values: Mapping[str, Any], key: str) -> Vector3:
    x, y, z = _numbers(values.get(key), key, (3,)).tolist()
    return x, y, z


def _numbers(value: Any, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{name} is {str(value)[:60]!r} instead of finite numbers {shape}")
    return array


def _literal(text: str) -> Any:
    """A number, tuple or list; anything else stays text (the files quote no strings)."""
    try:
        # JSON says the same of numbers and lists of them, at a tenth of the compiler's cost.
        return json.loads(text) if _NUMBERS.fullmatch(text) else ast.literal_eval(text)
    except json.JSONDecodeError:
        return _compiled(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _compiled(text: str) -> Any:
    """What Python's own grammar says, for numbers that are none of JSON's, such as `.5` and `1.`"""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
