"""The checks of whole archives: each line is the worst of its scenes, with counts over all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.datasets.anovox.layout import Archive, find_archives
from pipeline.datasets.anovox.scan import Inventory
from pipeline.datasets.anovox.scene import Scene
from pipeline.inspection.check import Check, CheckStatus, worst, worst_check
from pipeline.inspection.sample import Sample, read_sample
from pipeline.inspection.scene import SceneReport, evenly_spread, inspect_scene
from pipeline.runtime.progress import Progress


@dataclass(frozen=True, kw_only=True)
class ExampleFrame:
    """One frame to look at."""

    scene_id: str
    frame_id: int
    sample: Sample


@dataclass(frozen=True, kw_only=True)
class ArchiveReport:
    """The checks of one archive."""

    name: str
    path: Path
    sentence: str
    checks: tuple[Check, ...]
    scenes: tuple[SceneReport, ...]
    refused: tuple[tuple[str, str], ...]
    """Scene folder and reason."""
    example: ExampleFrame | None
    """Of the worst scene, for the figure; None where no scene can be read."""

    @property
    def status(self) -> CheckStatus:
        """The worst of all checks."""
        return worst([check.status for check in self.checks])


def inspect_archive(
    inventory: Inventory, *, num_scenes: int, num_frames: int, progress: Progress
) -> ArchiveReport:
    """Checks of `num_scenes` scenes (0 = all), `num_frames` frames each, spread over the archive.

    `progress` gets (scenes done, scenes in all), a scene once per camera pose.
    """
    folders = inventory.scenes
    chosen = evenly_spread(range(len(folders)), num_scenes or len(folders)) if folders else ()
    scenes = [scene for place in chosen for scene in folders[place]]
    reports: list[SceneReport] = []
    for scene in scenes:
        reports.append(inspect_scene(scene, num_frames=num_frames))
        progress(len(reports), len(scenes))
    return ArchiveReport(
        name=inventory.archive.name,
        path=inventory.archive.path,
        sentence=inventory.sentence(),
        checks=(_check_scenes(inventory), *_worst_of_each(reports)),
        scenes=tuple(reports),
        refused=tuple((bad.folder, bad.finding) for bad in inventory.refused),
        example=_example(scenes, reports),
    )


def choose_archives(root: Path, name: str) -> list[Archive]:
    """Archives under `root`, or the one with this name; ValueError if there is none."""
    archives = find_archives(root)
    chosen = [archive for archive in archives if name in ("", archive.name)]
    if not chosen:
        names = ", ".join(archive.name for archive in archives)
        raise ValueError(f"inspect.archive is {name!r}, but {root} holds {names}; name one of them")
    return chosen


def _check_scenes(inventory: Inventory) -> Check:
    num_folders, num_usable = inventory.archive.num_scene_folders, len(inventory.scenes)
    status: CheckStatus = "FAIL" if num_usable == 0 else "warn" if inventory.refused else "pass"
    meaning = "Every scene can be read."
    if status == "FAIL":
        meaning = inventory.archive.refusal or "No scene can be read: extract the archive again."
    elif status == "warn":
        meaning = "The other scenes are left out and recorded; the first line says why."
    return Check(
        name="scenes",
        status=status,
        found=f"{num_usable} of {num_folders} usable",
        expected="every scene folder usable",
        num_frames=sum(len(poses[0].frame_ids) for poses in inventory.scenes),
        num_items=num_folders,
        unit="folders",
        meaning=meaning,
    )


def _example(scenes: Sequence[Scene], reports: Sequence[SceneReport]) -> ExampleFrame | None:
    """The frame that shows most, of the scene with most failed checks."""
    if not reports:
        return None
    num_failed = [sum(check.status == "FAIL" for check in r.checks) for r in reports]
    worst_place = num_failed.index(max(num_failed))
    frame_id = reports[worst_place].figure_frame
    return ExampleFrame(
        scene_id=reports[worst_place].scene_id,
        frame_id=frame_id,
        sample=read_sample(scenes[worst_place], frame_id),
    )


def _worst_of_each(reports: Sequence[SceneReport]) -> list[Check]:
    """One line per check: the worst scene's, told how many scenes share its status."""
    names = dict.fromkeys(check.name for report in reports for check in report.checks)
    return [_merged(name, reports) for name in names]


def _merged(name: str, reports: Sequence[SceneReport]) -> Check:
    pairs = [(r, check) for r in reports for check in r.checks if check.name == name]
    checks = [check for _, check in pairs]
    chosen = worst_check(checks)
    found = chosen.found
    if chosen.status != "pass" and len(reports) > 1:
        num = sum(check.status == chosen.status for check in checks)
        scene_id = next(r.scene_id for r, check in pairs if check is chosen)
        found += f" (scene {scene_id[:8]}; {chosen.status} in {num} of {len(checks)} scenes)"
    return replace(
        chosen,
        found=found,
        num_frames=sum(check.num_frames for check in checks),
        num_items=sum(check.num_items for check in checks),
    )
