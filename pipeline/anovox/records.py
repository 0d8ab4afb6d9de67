"""The small text files of a frame: ACTION and ANOMALY, one `key ; value` per line.

Values are what Python's `str` printed, unquoted; a value that is no literal stays text.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.anovox.arrays import FrameError, damaged, load_text
from pipeline.anovox.labels import CATEGORY

SEPARATOR = " ; "
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
    location: tuple[float, float, float] | None
    """Metres in CARLA's world (y right), None in the variant without it."""
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
        x, y, z = _numbers(values.get("location"), "location", (3,))
        location = (float(x), float(y), float(z))
    return Anomaly(
        type_id=type_id,
        category=categories[0] if categories else "",
        tags=tuple(tags),
        location=location,
        size=str(values.get("size", "")),
    )


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


def read_anomaly(path: Path, *, scene_id: str, frame_id: int) -> Anomaly:
    """The placed object of a static frame. FrameError for an actor that ids cannot label."""
    values = read_record(path, scene_id=scene_id, frame_id=frame_id)
    try:
        anomaly = parse_anomaly(values)
    except ValueError as error:
        raise damaged(path, str(error)) from None
    if not anomaly.category:
        raise FrameError(
            f"{path}: {anomaly.type_id} with tags {list(anomaly.tags)} is of no anomaly class, but "
            "frames of static archives are labelled by class; move the scene to the dynamic "
            "archive it belongs to"
        )
    return anomaly


def lidar_matrix(path: Path, action: Mapping[str, Any]) -> NDArray[np.float64]:
    """CARLA's LiDAR-to-world matrix, once its inverse and the camera's pose agree with it."""
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
        if not np.allclose(inverse @ camera, np.eye(4), atol=POSE_TOLERANCE):
            raise ValueError("camera and lidar matrices differ, but both share one mount")
    except ValueError as error:
        raise damaged(path, str(error)) from None
    return lidar


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
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
