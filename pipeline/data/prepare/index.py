"""What lies under `data.root`: every frame once, accepted or quarantined with its reason.

Reads names, sizes and one small text per scene, no arrays, so it takes seconds. Its hash says
whether the input is still the one that a prepared folder was made from.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.data.prepare.quarantine import Quarantined
from pipeline.data.splits import SceneFacts, scene_key
from pipeline.datasets.anovox.annotations import read_anomaly
from pipeline.datasets.anovox.io import FrameError
from pipeline.datasets.anovox.labels import BRAKING_CATEGORY
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.scan import Inventory, take_inventory
from pipeline.datasets.anovox.scene import Scene


@dataclass(frozen=True, kw_only=True)
class Index:
    """Readable scenes once per pose, by `view_key` in sorted order, and what was left out."""

    scenes: Mapping[str, Scene]
    facts: tuple[SceneFacts, ...]
    """One per scene, however many poses it has."""
    quarantined: tuple[Quarantined, ...]
    sentences: tuple[str, ...]
    """What was found in each archive, and why the rest of it cannot be used."""
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


def view_key(scene: Scene) -> str:
    """Names one pose of one scene: `archive/scene_id/pose`."""
    return f"{_scene_key(scene)}/{scene.pose}"


def scan(root: Path, poses: Collection[str] = ()) -> Index:
    """The index of `root`, of these camera poses only if any are named.

    Raises ValueError when there is no archive, or none that can be read.
    """
    inventories = [take_inventory(archive, poses) for archive in find_archives(root)]
    quarantined = [bad for inventory in inventories for bad in _left_out_of(inventory)]
    views = [scene for inventory in inventories for own in inventory.scenes for scene in own]
    if not views:
        raise ValueError(f"{root} has no readable scene; first reason: {quarantined[0].reason}")
    scenes = dict(sorted((view_key(scene), scene) for scene in views))
    return Index(
        scenes=scenes,
        facts=tuple({_scene_key(scene): _facts(scene) for scene in scenes.values()}.values()),
        quarantined=tuple(quarantined),
        sentences=tuple(inventory.sentence() for inventory in inventories),
        inputs_hash=inputs_hash(scenes),
    )


def _left_out_of(inventory: Inventory) -> Iterator[Quarantined]:
    archive = inventory.archive
    if archive.refusal:
        yield _left_out(archive.name, "", archive.refusal)
    for bad in inventory.refused:
        yield _left_out(archive.name, bad.folder, bad.reason)
    for scene in (scene for poses in inventory.scenes for scene in poses):
        for frame_id, folders in scene.partial_frames.items():
            finding = f"frame {frame_id} is missing in {', '.join(folders)}"
            reason = f"{scene.path}: {finding}; re-extract the archive or leave the frame out"
            yield quarantined_frame(scene, frame_id, reason)


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
