"""What an archive holds by its names: the scenes that can be read, and why others cannot."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from pipeline.datasets.anovox.layout import Archive
from pipeline.datasets.anovox.scene import Scene, read_scenes
from pipeline.datasets.protocol.frames import SceneError

_NUM_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A scene folder that cannot be read."""

    folder: str
    reason: str
    """One sentence that begins with the path."""
    finding: str
    """The same without the path, for a text that names the folder."""


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """One archive; a refused one (`archive.refusal`) has no scenes."""

    archive: Archive
    scenes: tuple[tuple[Scene, ...], ...]
    """Per usable scene folder, one scene per camera pose in use."""
    refused: tuple[Refused, ...]

    def sentence(self) -> str:
        """`AnoVox_...: 22 folders, 21 usable, 4200 frames; Scenario_...: no folder ...`.

        Frames are instants; poses are told where there are several.
        """
        archive = self.archive
        num_frames = sum(len(poses[0].frame_ids) for poses in self.scenes)
        counts = f"{archive.num_scene_folders} folders, {len(self.scenes)} usable"
        parts = [f"{archive.name}: {counts}, {num_frames} frames{self._poses()}"]
        if archive.refusal:
            parts.append(archive.refusal)
        parts += [f"{bad.folder}: {bad.finding}" for bad in self.refused[:_NUM_NAMED]]
        if len(self.refused) > _NUM_NAMED:
            parts.append(f"and {len(self.refused) - _NUM_NAMED} more refused")
        of_scene = ({note for pose in poses for note in pose.notes} for poses in self.scenes)
        notes = Counter(note for own in of_scene for note in sorted(own))
        return "; ".join([*parts, *(f"{count} x {note}" for note, count in notes.items())])

    def _poses(self) -> str:
        most = max((len(poses) for poses in self.scenes), default=1)
        return f" from {most} poses" if most > 1 else ""


def take_inventory(archive: Archive, poses: Collection[str] = ()) -> Inventory:
    """Read the names in every scene folder, of these camera poses only if any are named."""
    scenes: list[tuple[Scene, ...]] = []
    refused: list[Refused] = []
    for path in archive.scenes if not archive.refusal else ():
        try:
            scenes.append(read_scenes(path, archive, poses))
        except SceneError as error:
            finding = str(error).removeprefix(f"{path}: ").replace(f"{path}/", "")
            refused.append(Refused(folder=path.name, reason=str(error), finding=finding))
    return Inventory(archive=archive, scenes=tuple(scenes), refused=tuple(refused))
