"""Scenes and frame ids as they lie on disk; reads names, the setup and no arrays.

Everything found is counted: a scene is read or raises SceneError, a frame id is in `frame_ids` or
in `partial_frames`. What a scene can be read without is replaced as the format says, and the
scene's notes say so.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.datasets.anovox.io import read_image_size
from pipeline.datasets.anovox.layout import Archive, ArchiveError, subfolders
from pipeline.datasets.anovox.paths import (
    ANOMALY_FOLDER,
    FILE_SOURCES,
    OPTIONAL_FOLDERS,
    SCENE_PREFIX,
    SENSOR_FOLDER,
    SENSOR_TYPES,
    SETUP_FILE,
    UUID4,
    VOXEL_FOLDER,
    parse_pose,
    pose_name,
    sensor_file_name,
)
from pipeline.datasets.anovox.sensors import (
    Mount,
    SensorSetup,
    listed_folders,
    parse_setup,
    saved_folders,
    setup_without_file,
)
from pipeline.datasets.protocol.frames import FrameError, SceneError

CAMERA_FIELDS = ("image", "depth", "semantic", "instance")
LIDAR_FIELDS = ("lidar", "semantic_lidar")


@dataclass(frozen=True, kw_only=True)
class FrameFiles:
    """Paths of one frame; None where the scene is read without that folder."""

    image: Path
    depth: Path
    semantic: Path
    instance: Path | None
    lidar: Path
    semantic_lidar: Path
    voxels: Path | None
    action: Path
    anomaly: Path | None
    """None in normality archives."""
    route_map: Path | None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One recording seen from one camera pose: its sensors, and the frames every folder has."""

    archive: str
    scene_id: str
    path: Path
    kind: str
    town: str
    weather: str
    """CARLA preset such as CLEAR_NOON, or `unknown` (most archives do not say)."""
    pose: str
    """Of the cameras, as folder names print it: `(0, 0, 1.8)(0, 0, 0)`."""
    setup: SensorSetup
    frame_ids: tuple[int, ...]
    """Ascending as numbers; CARLA's tick counter, neither padded nor starting at 0."""
    partial_frames: Mapping[int, tuple[str, ...]]
    """Frame ids that some folders lack, and which: the scene's quarantined frames."""
    folders: Mapping[str, Path]
    """Folder per field of FrameFiles."""
    num_lidars: int
    """LiDARs of the recording, whose clouds all lie in its one VOXEL_GRID."""
    notes: tuple[str, ...]
    """What the scene lacks and what stands in for it, a sentence each."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.setup.image_height, self.setup.image_width

    @property
    def has_own_voxels(self) -> bool:
        """Whether VOXEL_GRID is there and of this pose alone; else its voxels are computed."""
        return "voxels" in self.folders and self.num_lidars == 1

    @property
    def first_frame_id(self) -> int:
        """The first recorded tick, even if its frame is only partly there: time 0 of the scene."""
        return min((*self.frame_ids[:1], *self.partial_frames))

    def files(self, frame_id: int) -> FrameFiles:
        """Paths of a frame in `frame_ids`; ValueError for any other id."""
        if frame_id not in self.frame_ids:
            raise ValueError(
                f"{self.path} has no whole frame {frame_id}; its frames are "
                f"{self.frame_ids[0]} to {self.frame_ids[-1]} ({len(self.frame_ids)} in all)"
            )
        paths: dict[str, Any] = dict.fromkeys(FILE_SOURCES)
        return FrameFiles(**paths | {field: self.file(field, frame_id) for field in self.folders})

    def file(self, field: str, frame_id: int) -> Path:
        """Path of one file, whether or not it exists; `field` is one of `folders`."""
        folder = self.folders[field]
        return folder / sensor_file_name(folder.name, frame_id, FILE_SOURCES[field][1])


class _Content(NamedTuple):
    """Folders of a scene: sensors by (type, pose), the others by name."""

    sensors: dict[tuple[str, str], Path]
    others: dict[str, Path]

    def poses(self, sensor_type: str) -> list[str]:
        """Poses at which a type of sensor was recorded, in the order of their names."""
        return [pose for kind, pose in self.sensors if kind == sensor_type]


def read_scenes(path: Path, archive: Archive, poses: Collection[str] = ()) -> tuple[Scene, ...]:
    """The scene in folder `path` of `archive`, once per camera pose in `poses` (empty: all).

    Reads names and `sensor_setup.json`, no arrays. Raises ArchiveError if the archive is refused
    and SceneError if this scene cannot be read.
    """
    if archive.refusal:
        raise ArchiveError(archive.refusal)
    if not UUID4.fullmatch(path.name.removeprefix(SCENE_PREFIX)):
        raise SceneError(
            f"{path}: the folder is not named {SCENE_PREFIX}<uuid4>; re-extract the archive"
        )
    content = _content(path)
    there = content.poses("RGB-CAM")
    if not there:
        raise SceneError(
            f"{path}: no folder RGB-CAM(...){_and_no_setup(path)}, so it was never recorded or "
            "only partly extracted; re-extract the archive"
        )
    used = [pose for pose in there if not poses or pose in poses]
    if not used:
        raise SceneError(
            f"{path}: its camera poses are {', '.join(there)}, but data.poses asks for "
            f"{', '.join(sorted(poses))}; name one of its own, or [] for all"
        )
    return tuple(_read_view(path, archive, content, pose) for pose in used)


def _read_view(path: Path, archive: Archive, content: _Content, pose: str) -> Scene:
    scene_id = path.name.removeprefix(SCENE_PREFIX)
    folders, notes = _view_folders(path, archive.kind, content, pose)
    frame_ids, partial_frames = _match_frames(path, folders)
    # The setup comes after the frames: without its file, the size is that of the first image.
    setup, setup_notes = _read_setup(path, archive, content, folders, frame_ids[0])
    return Scene(
        archive=archive.name,
        scene_id=scene_id,
        path=path,
        kind=archive.kind,
        town=archive.town,
        weather=archive.weather.get(scene_id, "unknown"),
        pose=pose,
        setup=setup,
        frame_ids=frame_ids,
        partial_frames=partial_frames,
        folders=folders,
        num_lidars=len(content.poses("LIDAR")),
        notes=(*setup_notes, *notes),
    )


def _content(path: Path) -> _Content:
    sensors: dict[tuple[str, str], Path] = {}
    others: dict[str, Path] = {}
    for folder in subfolders(path):
        match = SENSOR_FOLDER.fullmatch(folder.name)
        if match is None:
            others[folder.name] = folder
            continue
        twin = sensors.setdefault((match["type"], match["pose"]), folder)
        if twin != folder:
            raise SceneError(
                f"{path}: {twin.name} and {folder.name} are two folders of one sensor; keep the "
                f"one that {SETUP_FILE} names"
            )
    return _Content(sensors, others)


def _view_folders(
    path: Path, kind: str, content: _Content, pose: str
) -> tuple[dict[str, Path], list[str]]:
    """Folder per field of FrameFiles for one camera pose, and notes on what is not there."""
    lidar_pose = _lidar_pose(path, content, pose)
    if kind == "normality" and ANOMALY_FOLDER in content.others:
        raise SceneError(
            f"{path}: it has an {ANOMALY_FOLDER} folder, but normality archives have none; move "
            "the scene to the archive it belongs to"
        )
    found: dict[str, Path] = {}
    missing: list[str] = []
    for field, (name, ending) in FILE_SOURCES.items():
        at = pose if field in CAMERA_FIELDS else lidar_pose
        key = (name, at)
        folder = content.sensors.get(key) if name in SENSOR_TYPES else content.others.get(name)
        if folder is not None and (name not in OPTIONAL_FOLDERS or _frame_ids(folder, ending)):
            found[field] = folder
        elif name != ANOMALY_FOLDER or kind != "normality":
            missing.append(name)
    needed = [name for name in missing if name not in OPTIONAL_FOLDERS]
    if needed:
        raise SceneError(
            f"{path}: no folder {', '.join(needed)} for the pose {pose}, but a {kind} scene needs "
            f"each of them{_and_no_setup(path)}; re-extract the archive"
        )
    notes = [f"no {name}" for name in missing if name != VOXEL_FOLDER]
    if VOXEL_FOLDER in missing:
        notes.append(f"no {VOXEL_FOLDER}: voxels are computed from SEMANTIC-LIDAR")
    elif len(content.poses("LIDAR")) > 1:
        # The generator pours the clouds of all poses into one grid, each displaced otherwise.
        notes.append(
            f"{VOXEL_FOLDER} merges all poses: voxels are computed from the pose's own cloud"
        )
    return found, notes


def _lidar_pose(path: Path, content: _Content, pose: str) -> str:
    """The LiDAR at the camera's pose, else the scene's only one (stereo with one LiDAR)."""
    poses = content.poses("LIDAR")
    if pose in poses:
        return pose
    if len(poses) == 1:
        return poses[0]
    raise SceneError(
        f"{path}: no LIDAR folder at the camera pose {pose} and not just one elsewhere "
        f"({', '.join(poses) or 'none'}){_and_no_setup(path)}; re-extract the archive"
    )


def _and_no_setup(path: Path) -> str:
    return "" if (path / SETUP_FILE).is_file() else f" and no {SETUP_FILE}"


def _read_setup(
    path: Path,
    archive: Archive,
    content: _Content,
    folders: Mapping[str, Path],
    frame_id: int,
) -> tuple[SensorSetup, list[str]]:
    """The setup of one view; from a sibling scene or the folder names where its file is missing."""
    cameras, lidars = (
        [folders[field].name for field in fields if field in folders]
        for fields in (CAMERA_FIELDS, LIDAR_FIELDS)
    )
    file, notes = path / SETUP_FILE, []
    if not file.is_file():
        file, notes = _sibling_setup(path, archive, content)
    try:
        if file is None:
            image = folders["image"] / sensor_file_name(folders["image"].name, frame_id, ".png")
            setup = setup_without_file(
                read_image_size(image),
                camera=_mount_of(cameras[0]),
                lidar=_mount_of(lidars[0]),
                only_pose=len(content.poses("RGB-CAM")) == len(content.poses("LIDAR")) == 1,
            )
        else:
            text = file.read_text(encoding="utf-8")
            setup = parse_setup(text, cameras, lidars)
            _check_listed(text, content, setup, cameras[0], lidars[0])
    except (ValueError, FrameError) as error:
        place = file or f"{path}: no {SETUP_FILE}, and"
        joint = ":" if file else ""
        raise SceneError(f"{place}{joint} {error}; re-extract the archive") from None
    return setup, notes


def _sibling_setup(
    path: Path, archive: Archive, content: _Content
) -> tuple[Path | None, list[str]]:
    """A setup that lists this scene's folders; the hash in their names is that of the args."""
    names = {folder.name for folder in content.sensors.values()}
    for scene in archive.scenes:
        file = scene / SETUP_FILE
        try:
            if file.is_file() and names <= listed_folders(file.read_text(encoding="utf-8")):
                return file, [f"no {SETUP_FILE}: that of {scene.name} lists the same sensors"]
        except ValueError:
            continue  # that scene is refused for it when its own turn comes
    return None, [f"no {SETUP_FILE}: mounts by folder names, field of view and range AnoVox's own"]


def _check_listed(
    text: str, content: _Content, setup: SensorSetup, camera: str, lidar: str
) -> None:
    there = {folder.name for folder in content.sensors.values()}
    absent = {n for n in saved_folders(text) - there if _matched_type(n) not in OPTIONAL_FOLDERS}
    if absent:
        raise ValueError(f"it names folders that are not there: {', '.join(sorted(absent))}")
    for mount, folder in ((setup.camera, camera), (setup.lidar, lidar)):
        if pose_name(*mount) != _matched(folder)["pose"]:
            raise ValueError(f"its mount {pose_name(*mount)} is not that of the folder {folder}")
        if any(mount.rotation[:2]):
            raise ValueError(f"{folder} is rolled or pitched, but AnoVox's sensors only yaw")
    if not setup.action_mounts:
        raise ValueError("it lists no RGB-CAM and LIDAR")


def _matched_type(folder_name: str) -> str:
    match = SENSOR_FOLDER.fullmatch(folder_name)
    return match["type"] if match else folder_name


def _mount_of(folder_name: str) -> Mount:
    location, rotation = parse_pose(_matched(folder_name)["pose"])
    return Mount(_three(location), _three(rotation))


def _three(numbers: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = numbers
    return x, y, z


def _matched(folder_name: str) -> re.Match[str]:
    match = SENSOR_FOLDER.fullmatch(folder_name)
    assert match is not None, folder_name
    return match


def _match_frames(
    path: Path, folders: Mapping[str, Path]
) -> tuple[tuple[int, ...], dict[int, tuple[str, ...]]]:
    """Frame ids that all folders have, and those that some lack with the names of these."""
    ids = {
        FILE_SOURCES[field][0]: _frame_ids(folder, FILE_SOURCES[field][1])
        for field, folder in folders.items()
    }
    common = set.intersection(*ids.values())
    if not common:
        counts = ", ".join(f"{len(found)} in {name}" for name, found in ids.items())
        raise SceneError(f"{path}: no frame is in every folder ({counts}); re-extract the archive")
    partial = sorted(set.union(*ids.values()) - common)
    lacking = {f: tuple(name for name, found in ids.items() if f not in found) for f in partial}
    return tuple(sorted(common)), lacking


def _frame_ids(folder: Path, ending: str) -> set[int]:
    """Frame ids of the files in a folder; files with any other name are not AnoVox's."""
    pattern = re.compile(rf"{re.escape(folder.name)}_(0|[1-9][0-9]*){re.escape(ending)}")
    matches = (pattern.fullmatch(child.name) for child in folder.iterdir())
    return {int(match[1]) for match in matches if match}
