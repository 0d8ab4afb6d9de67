"""What lies under `data.root`: every frame once, accepted or quarantined with its reason.

Reads names, sizes and one small text per scene, no arrays, so it takes seconds. Its hash says
whether the input is still the one that a prepared folder was made from.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.anovox.arrays import FrameError
from pipeline.anovox.layout import Archive, Scene, SceneError, find_archives, read_scene
from pipeline.anovox.records import read_anomaly
from pipeline.data.splits import SceneFacts, scene_key


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A frame, a scene (frame_id is None) or an archive (scene_id is empty) that was left out.

    A scene that could not be read goes by its folder's name.
    """

    archive: str
    scene_id: str
    frame_id: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Index:
    """Readable scenes by `SceneFacts.key`, in sorted order, and what was left out."""

    scenes: Mapping[str, Scene]
    facts: tuple[SceneFacts, ...]
    quarantined: tuple[Quarantined, ...]
    inputs_hash: str

    @property
    def num_found(self) -> int:
        """Frames of readable scenes: the whole ones and those that some folders lack."""
        return sum(len(s.frame_ids) + len(s.partial_frames) for s in self.scenes.values())


def scan(root: Path) -> Index:
    """Raises ValueError when there is no archive, or none that can be read."""
    archives = find_archives(root)
    scenes: dict[str, Scene] = {}
    quarantined: list[Quarantined] = []
    for archive in archives:
        _scan_archive(archive, scenes, quarantined)
    if not scenes:
        raise ValueError(f"{root} has no readable scene; first reason: {quarantined[0].reason}")
    scenes = dict(sorted(scenes.items()))
    return Index(
        scenes=scenes,
        facts=tuple(_facts(scene) for scene in scenes.values()),
        quarantined=tuple(quarantined),
        inputs_hash=inputs_hash(scenes),
    )


def _scan_archive(
    archive: Archive, scenes: dict[str, Scene], quarantined: list[Quarantined]
) -> None:
    if archive.refusal:
        quarantined.append(_left_out(archive.name, "", None, archive.refusal))
        return
    for path in archive.scenes:
        try:
            scene = read_scene(path, archive)
        except SceneError as error:
            quarantined.append(_left_out(archive.name, path.name, None, str(error)))
            continue
        scenes[scene_key(scene.archive, scene.scene_id)] = scene
        for frame_id, folders in scene.partial_frames.items():
            reason = f"{path}: frame {frame_id} is missing in {', '.join(folders)}"
            quarantined.append(_left_out(archive.name, scene.scene_id, frame_id, reason))


def _left_out(archive: str, scene_id: str, frame_id: int | None, reason: str) -> Quarantined:
    return Quarantined(archive=archive, scene_id=scene_id, frame_id=frame_id, reason=reason)


def _facts(scene: Scene) -> SceneFacts:
    return SceneFacts(
        archive=scene.archive,
        scene_id=scene.scene_id,
        kind=scene.kind,
        town=scene.town,
        category=_category(scene),
    )


def _category(scene: Scene) -> str:
    """Category of the scene's one anomaly, from the first frame whose ANOMALY text is readable."""
    for frame_id in scene.frame_ids:
        path = scene.files(frame_id).anomaly
        if path is None:
            return ""
        try:
            return read_anomaly(path, scene_id=scene.scene_id, frame_id=frame_id).category
        except FrameError:
            continue
    return ""


def inputs_hash(scenes: Mapping[str, Scene]) -> str:
    """Hash of scene names, calibrations, file names and file sizes, not of file contents.

    Hashing contents would take as long as preparing; a file changed in place at equal size is not
    noticed (delete the prepared folder then).
    """
    digest = hashlib.sha256()
    for key, scene in sorted(scenes.items()):
        digest.update(json.dumps([key, scene.weather, repr(scene.setup)]).encode())
        for name, folder in sorted(scene.folders.items()):
            with os.scandir(folder) as entries:
                sizes = sorted((entry.name, entry.stat().st_size) for entry in entries)
            digest.update(json.dumps([name, sizes]).encode())
    return digest.hexdigest()[:16]
