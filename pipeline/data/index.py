"""What lies under `data.root`: every frame once, accepted or quarantined with its reason.

Reads names, sizes and one small text per scene, no arrays, so it takes seconds. Its hash says
whether the input is still the one that a prepared folder was made from.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.anovox.arrays import FrameError
from pipeline.anovox.layout import Archive, find_archives
from pipeline.anovox.records import read_anomaly
from pipeline.anovox.scene import Scene, SceneError, read_scenes
from pipeline.anovox.truth import BRAKING_CATEGORY
from pipeline.data.quarantine import Quarantined
from pipeline.data.splits import SceneFacts, scene_key


@dataclass(frozen=True, kw_only=True)
class Index:
    """Readable scenes once per pose, by `view_key` in sorted order, and what was left out."""

    scenes: Mapping[str, Scene]
    facts: tuple[SceneFacts, ...]
    """One per scene, however many poses it has."""
    quarantined: tuple[Quarantined, ...]
    num_folders: Mapping[str, int]
    """Scene folders found, by archive."""
    inputs_hash: str

    @property
    def num_found(self) -> int:
        """Frames of readable scenes, per pose: the whole ones and those that some folders lack."""
        return sum(len(s.frame_ids) + len(s.partial_frames) for s in self.scenes.values())

    def without(self, refused: Mapping[str, str]) -> "Index":
        """The index less the scenes with these keys (`SceneFacts.key`), for the reasons given."""
        kept = {k: s for k, s in self.scenes.items() if _scene_key(s) not in refused}
        frames_of_kept = [
            bad for bad in self.quarantined if scene_key(bad.archive, bad.scene_id) not in refused
        ]
        left_out = [
            _left_out(facts.archive, facts.scene_id, refused[facts.key])
            for facts in self.facts
            if facts.key in refused
        ]
        return replace(
            self,
            scenes=kept,
            facts=tuple(facts for facts in self.facts if facts.key not in refused),
            quarantined=(*frames_of_kept, *left_out),
        )

    def sentences(self) -> list[str]:
        """What was found in each archive and why the rest of it cannot be used."""
        return [_sentence(self, archive) for archive in self.num_folders]


def view_key(scene: Scene) -> str:
    """Names one pose of one scene: `archive/scene_id/pose`."""
    return f"{_scene_key(scene)}/{scene.pose}"


def scan(root: Path, poses: Collection[str] = ()) -> Index:
    """The index of `root`, of these camera poses only if any are named.

    Raises ValueError when there is no archive, or none that can be read.
    """
    archives = find_archives(root)
    scenes: dict[str, Scene] = {}
    quarantined: list[Quarantined] = []
    for archive in archives:
        _scan_archive(archive, poses, scenes, quarantined)
    if not scenes:
        raise ValueError(f"{root} has no readable scene; first reason: {quarantined[0].reason}")
    scenes = dict(sorted(scenes.items()))
    return Index(
        scenes=scenes,
        facts=tuple({_scene_key(scene): _facts(scene) for scene in scenes.values()}.values()),
        quarantined=tuple(quarantined),
        num_folders={archive.name: archive.num_scene_folders for archive in archives},
        inputs_hash=inputs_hash(scenes),
    )


def _scan_archive(
    archive: Archive,
    poses: Collection[str],
    scenes: dict[str, Scene],
    quarantined: list[Quarantined],
) -> None:
    if archive.refusal:
        quarantined.append(_left_out(archive.name, "", archive.refusal))
        return
    for path in archive.scenes:
        try:
            views = read_scenes(path, archive, poses)
        except SceneError as error:
            quarantined.append(_left_out(archive.name, path.name, str(error)))
            continue
        for scene in views:
            scenes[view_key(scene)] = scene
            for frame_id, folders in scene.partial_frames.items():
                reason = f"{path}: frame {frame_id} is missing in {', '.join(folders)}"
                quarantined.append(quarantined_frame(scene, frame_id, reason))


def quarantined_frame(scene: Scene, frame_id: int, reason: str) -> Quarantined:
    """One frame of one pose, left out."""
    return Quarantined(
        archive=scene.archive,
        scene_id=scene.scene_id,
        pose=scene.pose,
        frame_id=frame_id,
        reason=reason,
    )


def _left_out(archive: str, scene: str, reason: str) -> Quarantined:
    return Quarantined(archive=archive, scene_id=scene, pose="", frame_id=None, reason=reason)


def _sentence(index: Index, archive: str) -> str:
    """`NAME: 22 folders, 21 usable, 4200 frames; Scenario_...: no sensor_setup.json ...`."""
    views = [scene for scene in index.scenes.values() if scene.archive == archive]
    num_usable = len({scene.scene_id for scene in views})
    num_frames = sum(len(scene.frame_ids) for scene in views)
    num_poses = len({scene.pose for scene in views})
    told = f"{archive}: {index.num_folders[archive]} folders, {num_usable} usable, "
    told += f"{num_frames} frames" + (f" (from {num_poses} poses)" if num_poses > 1 else "")
    reasons = [b.reason for b in index.quarantined if b.archive == archive and b.frame_id is None]
    notes = Counter(note for scene in views for note in scene.notes)
    noted = [f"{count} x {note}" for note, count in notes.items()]
    return "; ".join([told, *reasons, *noted])


def _facts(scene: Scene) -> SceneFacts:
    return SceneFacts(
        archive=scene.archive,
        scene_id=scene.scene_id,
        kind=scene.kind,
        town=scene.town,
        category=_category(scene),
    )


def _scene_key(scene: Scene) -> str:
    return scene_key(scene.archive, scene.scene_id)


def _category(scene: Scene) -> str:
    """Category of the scene's one anomaly, from the first frame whose ANOMALY text is readable."""
    if scene.kind == "normality":
        return ""
    if scene.kind == "dynamic":
        return BRAKING_CATEGORY
    for frame_id in scene.frame_ids:
        path = scene.file("anomaly", frame_id)
        try:
            anomaly = read_anomaly(
                path, scene_id=scene.scene_id, frame_id=frame_id, kind=scene.kind
            )
            return anomaly.category
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
