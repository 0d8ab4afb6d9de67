"""The records of the placed object, and lines of whole archives."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.scan import take_inventory
from pipeline.datasets.anovox.scene import Scene, read_scenes
from pipeline.inspection.archive import inspect_archive
from pipeline.inspection.check import Check
from pipeline.synthetic.writer import write_archives
from tests.helpers import wrong_archives as wrong

Checks = Callable[[Scene], dict[str, Check]]
Failed = Callable[[Scene], set[str]]
Scenes = Callable[[Path], list[Scene]]


# ---- anomalies


def test_the_placed_object_lies_on_its_points(static_scene: Scene, checks: Checks) -> None:
    found = checks(static_scene)["anomaly location"]
    assert found.status == "pass"
    assert found.found.startswith("variant A, ")
    assert found.num_items >= 5
    assert found.num_frames >= 1


def test_a_record_of_another_place_fails_as_anomaly_location(
    static_scene: Scene, failed: Failed
) -> None:
    for path in wrong.paths(static_scene, "anomaly"):
        lines = path.read_text().splitlines()
        moved = ["location ; (0.0, 0.0, 0.0)" if s.startswith("location") else s for s in lines]
        path.write_text("\n".join(moved) + "\n")
    assert failed(static_scene) == {"anomaly location"}


# ---- whole archives


def test_an_archive_is_as_good_as_its_worst_scene(
    tmp_path: Path, drive_config: SyntheticConfig
) -> None:
    config = replace(drive_config, num_scenes=3, num_frames=2, kinds=["normality"])
    write_archives(config, tmp_path)
    [archive] = find_archives(tmp_path)
    wrong.shuffle_rows(read_scenes(archive.scenes[1], archive)[0])
    done: list[tuple[int, int]] = []
    report = inspect_archive(
        take_inventory(archive),
        num_scenes=0,
        num_frames=2,
        progress=lambda *counts: done.append(counts),
    )
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert report.status == "FAIL"
    [line] = [check for check in report.checks if check.status == "FAIL"]
    scene_id = archive.scenes[1].name.removeprefix("Scenario_")
    assert line.name == "row alignment"
    assert line.found.endswith(f"(scene {scene_id[:8]}; FAIL in 1 of 3 scenes)")
    assert line.num_frames == 6
    assert report.example is not None
    assert report.example.scene_id == scene_id


def test_the_sentence_counts_folders_scenes_and_frames_and_says_why(
    tmp_path: Path, drive_config: SyntheticConfig
) -> None:
    config = replace(drive_config, num_scenes=3, num_frames=2, kinds=["normality"])
    write_archives(config, tmp_path)
    [archive] = find_archives(tmp_path)
    for folder in archive.scenes[0].glob("SEMANTIC-LIDAR*"):
        shutil.rmtree(folder)
    report = inspect_archive(
        take_inventory(archive), num_scenes=1, num_frames=1, progress=lambda *_: None
    )
    start = f"AnoVox_Normality_Mono_Town03: 3 folders, 2 usable, 4 frames; {archive.scenes[0].name}"
    assert report.sentence.startswith(f"{start}: no folder SEMANTIC-LIDAR")
    assert report.checks[0].status == "warn"
    assert len(report.scenes) == 1


def test_a_refused_archive_fails_with_its_reason(
    tmp_path: Path, drive_config: SyntheticConfig
) -> None:
    write_archives(replace(drive_config, num_scenes=1, num_frames=1, kinds=["normality"]), tmp_path)
    [archive] = find_archives(tmp_path)
    refused = replace(archive, refusal="the legacy layout is not supported")
    report = inspect_archive(
        take_inventory(refused), num_scenes=0, num_frames=1, progress=lambda *_: None
    )
    assert report.status == "FAIL"
    assert report.checks[0].meaning == "the legacy layout is not supported"
    assert report.example is None
