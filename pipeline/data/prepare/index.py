"""What lies under `data.root`: every frame once, accepted or quarantined with its reason.

Reads names, sizes and one small text per scene, no arrays, so it takes seconds. Its hash says
whether the input is still the one that a prepared folder was made from.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.data.prepare.quarantine import Quarantined
from pipeline.data.splits import SceneFacts, scene_key
from pipeline.datasets.protocol.dataset import Dataset, ScannedArchive, SceneView
from pipeline.datasets.protocol.registry import FIRST_DATASET, open_dataset


@dataclass(frozen=True, kw_only=True)
class Index:
    """Readable scenes once per pose, by `view_key` in sorted order, and what was left out."""

    dataset: str
    """As `data.dataset` names it."""
    scenes: Mapping[str, Any]
    """`SceneView` of the data set's own type."""
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


def view_key(scene: SceneView) -> str:
    """Names one pose of one scene: `archive/scene_id/pose`."""
    return f"{_scene_key(scene)}/{scene.pose}"


def scan(root: Path, poses: Collection[str] = (), *, dataset: str = FIRST_DATASET) -> Index:
    """The index of `root`, of these camera poses only if any are named.

    Raises ValueError when there is no archive, or none that can be read.
    """
    source = open_dataset(dataset)
    archives = list(source.scan(root, poses))
    quarantined = [bad for archive in archives for bad in _left_out_of(archive)]
    views = [scene for archive in archives for scene in archive.scenes]
    if not views:
        raise ValueError(f"{root} has no readable scene; first reason: {quarantined[0].reason}")
    scenes = dict(sorted((view_key(scene), scene) for scene in views))
    facts = {_scene_key(scene): _facts(source, scene) for scene in scenes.values()}
    return Index(
        dataset=dataset,
        scenes=scenes,
        facts=tuple(facts.values()),
        quarantined=tuple(quarantined),
        sentences=tuple(archive.sentence for archive in archives),
        inputs_hash=inputs_hash(source, scenes),
    )


def _left_out_of(archive: ScannedArchive) -> Iterator[Quarantined]:
    for bad in archive.left_out:
        yield _left_out(archive.name, bad.scene, bad.reason)
    for scene in archive.scenes:
        for frame_id, folders in scene.partial_frames.items():
            finding = f"frame {frame_id} is missing in {', '.join(folders)}"
            reason = f"{scene.path}: {finding}; re-extract the archive or leave the frame out"
            yield quarantined_frame(scene, frame_id, reason)


def quarantined_frame(scene: SceneView, frame_id: int, reason: str) -> Quarantined:
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


def _facts(source: Dataset, scene: SceneView) -> SceneFacts:
    return SceneFacts(
        archive=scene.archive,
        scene_id=scene.scene_id,
        kind=scene.kind,
        town=scene.town,
        category=source.category(scene),
    )


def _scene_key(scene: SceneView) -> str:
    return scene_key(scene.archive, scene.scene_id)


def inputs_hash(source: Dataset, scenes: Mapping[str, Any]) -> str:
    """Hash of scene names, calibrations, file names and file sizes, not of file contents.

    Hashing contents would take as long as preparing; a file changed in place at equal size is not
    noticed (delete the prepared folder then).
    """
    digest = hashlib.sha256()
    for key, scene in sorted(scenes.items()):
        first, *others = source.input_facts(scene)
        for facts in ([key, *first], *others):
            digest.update(json.dumps(facts).encode())
    return digest.hexdigest()[:16]
