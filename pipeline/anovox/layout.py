"""Archives, scenes and frame ids of AnoVox as they lie on disk; reads names and no arrays.

Everything found is counted: an archive is read or carries its refusal, a scene is read or raises
SceneError, a frame id is in `frame_ids` or in `partial_frames`.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.anovox.names import (
    ANOMALY_FOLDER,
    ARCHIVE_NAME,
    CONFIG_FOLDER,
    FILE_SOURCES,
    LEGACY_FOLDERS,
    MONO,
    SCENE_PREFIX,
    SENSOR_FOLDER,
    SENSOR_TYPES,
    SETUP_FILE,
    UUID4,
    parse_archive_name,
    pose_name,
    sensor_file_name,
)
from pipeline.anovox.sensors import SensorSetup, parse_setup, saved_folders
from pipeline.anovox.weather import read_weather

DYNAMIC_REFUSAL = (
    "dynamic archives need the kinematic label rule, which is not supported yet; use normality and "
    "static archives"
)


class ArchiveError(ValueError):
    """A whole archive cannot be read; one sentence with the way out."""


class SceneError(ValueError):
    """One scene cannot be read; one sentence with the way out."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One AnoVox dataset folder; `refusal` is empty, or why none of its scenes can be read."""

    path: Path
    name: str
    kind: str
    town: str
    scenes: tuple[Path, ...]
    weather: Mapping[str, str]
    """Weather preset per scene id, from the scenario configuration where the archive has one."""
    refusal: str

    @property
    def num_scene_folders(self) -> int:
        """Scene folders found, whether or not they can be read."""
        return len(self.scenes)


@dataclass(frozen=True, kw_only=True)
class FrameFiles:
    """Paths of one frame; `anomaly` is None in normality archives."""

    image: Path
    depth: Path
    semantic: Path
    instance: Path
    lidar: Path
    semantic_lidar: Path
    voxels: Path
    action: Path
    anomaly: Path | None
    route_map: Path


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One recording: its sensors, and the frames that every folder has."""

    archive: str
    scene_id: str
    path: Path
    kind: str
    town: str
    weather: str
    """CARLA preset such as CLEAR_NOON, or `unknown` (most archives do not say)."""
    pose: str
    setup: SensorSetup
    frame_ids: tuple[int, ...]
    """Ascending as numbers; CARLA's tick counter, neither padded nor starting at 0."""
    partial_frames: Mapping[int, tuple[str, ...]]
    """Frame ids that some folders lack, and which: the scene's quarantined frames."""
    folders: Mapping[str, Path]
    """Folder per field of FrameFiles."""

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
        for field, folder in self.folders.items():
            ending = FILE_SOURCES[field][1]
            paths[field] = folder / sensor_file_name(folder.name, frame_id, ending)
        return FrameFiles(**paths)


def find_archives(root: Path) -> list[Archive]:
    """Every archive at `root`, in it, or one folder deeper, by name; refused ones included.

    Raises ArchiveError if there is none, if two share a name, or if a scene lies in two of them
    (it would leak between splits).
    """
    archives = [_read_archive(path) for path in _archive_paths(root)]
    if not archives:
        raise ArchiveError(
            f"{root} holds no AnoVox archive (a folder of {SCENE_PREFIX}<uuid> folders); extract "
            "the .tar.gz files there, point data.root at them, or run jobs.synthesize"
        )
    _refuse_repeats("archive", [(archive.name, archive.path) for archive in archives])
    scenes = [scene for archive in archives if not archive.refusal for scene in archive.scenes]
    _refuse_repeats("scene", [(scene.name, scene) for scene in scenes])
    return sorted(archives, key=lambda archive: archive.name)


def read_scene(path: Path, archive: Archive) -> Scene:
    """The scene in folder `path` of `archive`; reads names and `sensor_setup.json`, no arrays.

    Raises ArchiveError if the archive is refused and SceneError if this scene cannot be read.
    """
    if archive.refusal:
        raise ArchiveError(archive.refusal)
    scene_id = path.name.removeprefix(SCENE_PREFIX)
    if not UUID4.fullmatch(scene_id):
        raise SceneError(
            f"{path}: the folder is not named {SCENE_PREFIX}<uuid4>; re-extract the archive"
        )
    folders = _scene_folders(path, archive.kind)
    frame_ids, partial_frames = _match_frames(path, folders)
    return Scene(
        archive=archive.name,
        scene_id=scene_id,
        path=path,
        kind=archive.kind,
        town=archive.town,
        weather=archive.weather.get(scene_id, "unknown"),
        pose=_matched(folders["lidar"].name)["pose"],
        setup=_read_setup(path, folders),
        frame_ids=frame_ids,
        partial_frames=partial_frames,
        folders=folders,
    )


def _archive_paths(root: Path) -> list[Path]:
    if not root.is_dir():
        raise ArchiveError(f"{root} is not a folder; set data.root to one that holds archives")
    if _scene_paths(root):
        return [root]
    paths: list[Path] = []
    for child in _subfolders(root):
        nested = [] if _scene_paths(child) else [p for p in _subfolders(child) if _scene_paths(p)]
        if _scene_paths(child) or (not nested and ARCHIVE_NAME.fullmatch(child.name)):
            paths.append(child)
        paths.extend(nested)
    return paths


def _read_archive(path: Path) -> Archive:
    path = path.absolute()
    kind, town, weather = "unknown", "unknown", {}
    refusal = _content_refusal(path)
    if not refusal:
        try:
            kind, town = parse_archive_name(path.name)
            if kind == "dynamic":
                refusal = f"{path}: {DYNAMIC_REFUSAL}"
            weather = read_weather(path)
        except ValueError as error:
            refusal = f"{path}: {error}"
    return Archive(
        path=path,
        name=path.name,
        kind=kind,
        town=town,
        scenes=tuple(_scene_paths(path)),
        weather=weather,
        refusal=refusal,
    )


def _content_refusal(path: Path) -> str:
    scenes = _scene_paths(path)
    if not scenes:
        return f"{path}: no {SCENE_PREFIX}<uuid> folder in it; extract the archive again"
    match = ARCHIVE_NAME.fullmatch(path.name)
    if match and match["sensor_set"] != MONO:
        return (
            f"{path}: the {match['sensor_set']} sensor set is multi-pose, which is not supported; "
            f"use a {MONO} archive"
        )
    for scene in scenes:
        names = {folder.name for folder in _subfolders(scene)}
        if names & LEGACY_FOLDERS:
            return (
                f"{path}: {min(names & LEGACY_FOLDERS)} in {scene.name} is the legacy layout "
                "(coloured labels), which is not supported; use an archive of the Zenodo release"
            )
        poses = sorted({m["pose"] for name in names if (m := SENSOR_FOLDER.fullmatch(name))})
        if len(poses) > 1:
            return (
                f"{path}: {scene.name} is multi-pose ({', '.join(poses)}), which is not supported; "
                f"use a {MONO} archive"
            )
    return ""


def _refuse_repeats(noun: str, named: Sequence[tuple[str, Path]]) -> None:
    counts = Counter(name for name, _ in named)
    for name, count in counts.items():
        if count > 1:
            paths = [str(path) for other, path in named if other == name]
            raise ArchiveError(
                f"{noun} {name} is there {count} times: {', '.join(paths)}; it would count twice "
                "and leak between splits: remove all but one"
            )


def _scene_paths(path: Path) -> list[Path]:
    """Folders that claim to be scenes; the scenario configurations bear a similar name."""
    return [
        child
        for child in _subfolders(path)
        if child.name.startswith(SCENE_PREFIX) and child.name != CONFIG_FOLDER
    ]


def _subfolders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir())


def _matched(folder_name: str) -> re.Match[str]:
    match = SENSOR_FOLDER.fullmatch(folder_name)
    assert match is not None, folder_name
    return match


def _scene_folders(path: Path, kind: str) -> dict[str, Path]:
    """Folder per field of FrameFiles; one of each, ANOMALY only where the kind has one."""
    by_type: dict[str, Path] = {}
    for folder in _subfolders(path):
        match = SENSOR_FOLDER.fullmatch(folder.name)
        if match is None and folder.name in SENSOR_TYPES:
            continue  # a sensor's folder also says pose and hash
        name = match["type"] if match else folder.name
        if name in by_type:
            raise SceneError(
                f"{path}: {by_type[name].name} and {folder.name} are two folders of one sensor; "
                "keep the one that sensor_setup.json names"
            )
        by_type[name] = folder
    if kind == "normality" and ANOMALY_FOLDER in by_type:
        raise SceneError(
            f"{path}: it has an {ANOMALY_FOLDER} folder, but normality archives have none; move "
            "the scene to the static archive it belongs to"
        )
    needed = {
        field: name
        for field, (name, _) in FILE_SOURCES.items()
        if name != ANOMALY_FOLDER or kind != "normality"
    }
    missing = [name for name in needed.values() if name not in by_type]
    if missing:
        raise SceneError(
            f"{path}: no folder {', '.join(missing)}, but a {kind} scene needs each of them; "
            "re-extract the archive"
        )
    return {field: by_type[name] for field, name in needed.items()}


def _read_setup(path: Path, folders: Mapping[str, Path]) -> SensorSetup:
    file = path / SETUP_FILE
    if not file.is_file():
        raise SceneError(f"{path}: no {SETUP_FILE}, so no calibration; re-extract the archive")
    cameras = [folders[field].name for field in ("image", "depth", "semantic", "instance")]
    lidars = [folders[field].name for field in ("lidar", "semantic_lidar")]
    try:
        text = file.read_text(encoding="utf-8")
        setup = parse_setup(text, cameras, lidars)
        absent = saved_folders(text) - {*cameras, *lidars}
        if absent:
            raise ValueError(f"it names folders that are not there: {', '.join(sorted(absent))}")
        pose = pose_name(setup.mount_location, setup.mount_rotation)
        if pose != _matched(lidars[0])["pose"]:
            raise ValueError(f"its mount {pose} is not that of the folder {lidars[0]}")
    except ValueError as error:
        raise SceneError(f"{file}: {error}; re-extract the archive") from None
    if any(setup.mount_rotation):
        raise SceneError(
            f"{path}: its sensors are rotated by {setup.mount_rotation} degrees, but AnoVox "
            f"misplaces the voxel grid of rotated sensors; use a {MONO} archive"
        )
    return setup


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
