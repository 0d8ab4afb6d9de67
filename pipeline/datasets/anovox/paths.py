"""The name of every folder and file of AnoVox, for the reader and the synthetic writer alike.

Sensor folders are matched whole, never globbed: LIDAR and SEMANTIC-LIDAR cannot be mixed up, and
the parentheses in the names do no harm.
"""

import re
from collections.abc import Sequence

SENSOR_TYPES = (
    "RGB-CAM",
    "DEPTH_CAM",
    "SEMANTIC-CAM",
    "INSTANCE-CAM",
    "LIDAR",
    "SEMANTIC-LIDAR",
)
"""In the order in which `sensor_setup.json` lists the sensors of a pose."""

VOXEL_FOLDER = "VOXEL_GRID"
ACTION_FOLDER = "ACTION"
ANOMALY_FOLDER = "ANOMALY"
ROUTE_FOLDER = "ROUTE_MAP"
SETUP_FILE = "sensor_setup.json"
CONFIG_FOLDER = "Scenario_Configuration_Files"

_MONO = "Mono"

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
SCENE_PREFIX = "Scenario_"
SENSOR_FOLDER = re.compile(rf"(?P<type>{'|'.join(SENSOR_TYPES)})(?P<pose>\([^()]+\)\([^()]+\))_\d+")
POSE = re.compile(r"\((?P<location>[^()]+)\)\((?P<rotation>[^()]+)\)")
LEGACY_FOLDERS = {"RGB_IMG", "DEPTH_IMG", "SEMANTIC_IMG", "INSTANCE_IMG", "PCD", "SEMANTIC_PCD"}
FILE_SOURCES = {
    "image": ("RGB-CAM", ".png"),
    "depth": ("DEPTH_CAM", ".png"),
    "semantic": ("SEMANTIC-CAM", ".png"),
    "instance": ("INSTANCE-CAM", ".png"),
    "lidar": ("LIDAR", ".npy"),
    "semantic_lidar": ("SEMANTIC-LIDAR", ".npy"),
    "voxels": (VOXEL_FOLDER, ".npy"),
    "action": (ACTION_FOLDER, ".csv"),
    "anomaly": (ANOMALY_FOLDER, ".csv"),
    "route_map": (ROUTE_FOLDER, ".png"),
}
OPTIONAL_FOLDERS = {"INSTANCE-CAM", VOXEL_FOLDER, ROUTE_FOLDER}
"""Folders that a scene can be read without: two are never read, voxels can be computed."""
ARCHIVE_NAME = re.compile(
    r"AnoVox_(?P<kind>Normality|Static|Dynamic)_(?P<sensor_set>Mono|Stereo|Multi|Surround)"
    r"_(?P<town>Town\d+)(?:HD)?(?:_Opt)?(?:_\d+)?"
)


def archive_name(kind: str, town: str, sensor_set: str = _MONO) -> str:
    """`AnoVox_Static_Mono_Town03`, for kind static and town Town03."""
    return f"AnoVox_{kind.capitalize()}_{sensor_set}_{town}"


def parse_archive_name(name: str) -> tuple[str, str]:
    """Kind (normality, static, dynamic) and town of an archive's folder name.

    Part numbers (`_2`) are dropped and Town10HD is Town10, as AnoVox's own names have it. Raises
    ValueError for any other name.
    """
    match = ARCHIVE_NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"archive folder {name!r} is not named AnoVox_<Normality|Static|Dynamic>_<Set>_<Town>; "
            "kind and town are read from the name: give it the name of its Zenodo archive"
        )
    return match["kind"].lower(), match["town"]


def scene_folder_name(scene_id: str) -> str:
    """`Scenario_<uuid4>`; ValueError unless the id is a lower-case UUID version 4."""
    if not UUID4.fullmatch(scene_id):
        raise ValueError(f"scene id {scene_id!r} is not a lower-case UUID version 4; use uuid4()")
    return f"{SCENE_PREFIX}{scene_id}"


def scenario_config_name(town: str) -> str:
    """File in `CONFIG_FOLDER` that holds the weather of an archive's scenes."""
    return f"scenario_config_map_{town}.json"


def pose_name(location: Sequence[int | float], rotation: Sequence[int | float]) -> str:
    """`(0, 0, 1.8)(0, 0, 0)`: tuples as Python prints them, whole numbers without a point."""
    return "".join(f"({', '.join(_number(x) for x in triple)})" for triple in (location, rotation))


def parse_pose(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Location (m) and rotation (deg) of a pose's name; ValueError unless three numbers each."""
    match = POSE.fullmatch(text)
    triples = [_triple(match[part]) for part in ("location", "rotation")] if match else []
    if not triples or any(len(triple) != 3 for triple in triples):
        raise ValueError(f"{text!r} is no pose such as (0, 0, 1.8)(0, 0, 0)")
    return triples[0], triples[1]


def sensor_folder_name(
    sensor_type: str,
    location: Sequence[int | float],
    rotation: Sequence[int | float],
    sensor_hash: int,
) -> str:
    """Folder of one sensor: type, mount location (m), rotation (roll, pitch, yaw in deg), hash."""
    assert sensor_type in SENSOR_TYPES, sensor_type
    return f"{sensor_type}{pose_name(location, rotation)}_{sensor_hash}"


def sensor_file_name(folder: str, frame_id: int, ending: str) -> str:
    """File of one frame in a sensor's folder; `ending` has its dot: `.png` or `.npy`."""
    assert ending.startswith("."), ending
    return f"{folder}_{frame_id}{ending}"


def other_file_name(folder: str, frame_id: int, ext: str) -> str:
    """File of one frame in VOXEL_GRID (npy), ACTION, ANOMALY (csv) or ROUTE_MAP (png)."""
    return sensor_file_name(folder, frame_id, f".{ext.removeprefix('.')}")


def _triple(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _number(value: int | float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
