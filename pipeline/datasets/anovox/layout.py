"""Archives of AnoVox as they lie on disk; reads names and no arrays.

Everything found is counted: an archive is read or carries its refusal, and so does a scene in it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets.anovox.paths import (
    ARCHIVE_NAME,
    CONFIG_FOLDER,
    LEGACY_FOLDERS,
    SCENE_PREFIX,
    parse_archive_name,
)
from pipeline.datasets.anovox.weather import read_weather


class ArchiveError(ValueError):
    """A whole archive cannot be read; one sentence with the way out."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One AnoVox dataset folder; `refusal` is empty, or why none of its scenes can be read."""

    path: Path
    name: str
    kind: str
    """normality, static or dynamic."""
    town: str
    scenes: tuple[Path, ...]
    weather: Mapping[str, str]
    """Weather preset per scene id, from the scenario configuration where the archive has one."""
    refusal: str

    @property
    def num_scene_folders(self) -> int:
        """Scene folders found, whether or not they can be read."""
        return len(self.scenes)


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


def subfolders(path: Path) -> list[Path]:
    """Visible folders in a folder, sorted; a hidden one is somebody's unfinished work."""
    return sorted(c for c in path.iterdir() if c.is_dir() and not c.name.startswith("."))


def _archive_paths(root: Path) -> list[Path]:
    if not root.is_dir():
        raise ArchiveError(f"{root} is not a folder; set data.root to one that holds archives")
    if _scene_paths(root):
        return [root]
    paths: list[Path] = []
    for child in subfolders(root):
        nested = [] if _scene_paths(child) else [p for p in subfolders(child) if _scene_paths(p)]
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
    for scene in scenes:
        legacy = {folder.name for folder in subfolders(scene)} & LEGACY_FOLDERS
        if legacy:
            return (
                f"{path}: {min(legacy)} in {scene.name} is the legacy layout (coloured labels), "
                "which is not supported; use an archive of the Zenodo release"
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
    """Folders that claim to be scenes; the scenario configurations have a similar name."""
    return [
        child
        for child in subfolders(path)
        if child.name.startswith(SCENE_PREFIX) and child.name != CONFIG_FOLDER
    ]
