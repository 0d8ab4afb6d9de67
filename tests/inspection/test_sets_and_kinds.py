"""Healthy archives of every kind, label style and sensor set pass; irregular ones do not FAIL."""

import dataclasses
from pathlib import Path

import pytest

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.scan import take_inventory
from pipeline.inspection.archive import inspect_archive
from pipeline.inspection.check import Check
from pipeline.synthetic.writer import write_archives

SMALL = SyntheticConfig(
    num_scenes=3,
    num_frames=24,
    kinds=["normality", "static", "dynamic"],
    towns=["Town03"],
    image_width=192,
    image_height=128,
    num_channels=16,
    points_per_second=40_000,
    num_processes=1,
    seed=5,
)
WORLDS: dict[str, dict] = {
    "ids": {},
    "native labels": {"kinds": ["dynamic"], "num_scenes": 1, "dynamic_labels": "native"},
    "variant B": {"kinds": ["dynamic"], "num_scenes": 1, "anomaly_variant": "B"},
    "weather": {"rich_weather": True, "kinds": ["static"], "num_scenes": 2},
    "Stereo": {"sensor_set": "Stereo", "kinds": ["dynamic"], "num_scenes": 1},
    "one LiDAR": {"sensor_set": "StereoOneLidar", "kinds": ["dynamic"], "num_scenes": 1},
    "Multi": {"sensor_set": "Multi", "kinds": ["static"], "num_scenes": 1, "num_frames": 8},
    "Surround": {"sensor_set": "Surround", "kinds": ["static"], "num_scenes": 1, "num_frames": 8},
}


def inspected(root: Path, changes: dict) -> dict[tuple[str, str], Check]:
    """Every check of every archive of this world."""
    write_archives(dataclasses.replace(SMALL, **changes), root)
    reports = [
        inspect_archive(
            take_inventory(archive), num_scenes=0, num_frames=3, progress=lambda *_: None
        )
        for archive in find_archives(root)
    ]
    return {(report.name, check.name): check for report in reports for check in report.checks}


@pytest.mark.parametrize("world", WORLDS)
def test_a_healthy_archive_passes_every_line(tmp_path: Path, world: str):
    found = inspected(tmp_path, WORLDS[world])
    assert {name: c.found for name, c in found.items() if c.status != "pass"} == {}
    assert len(found) >= 17


def test_irregular_archives_warn_where_they_are_irregular_and_nowhere_else(tmp_path: Path):
    found = inspected(
        tmp_path,
        {"irregular": True, "kinds": ["normality", "static"], "num_scenes": 12, "num_frames": 6},
    )
    told = {name: check.status for (_, name), check in found.items() if check.status != "pass"}
    assert set(told.values()) == {"warn"}
    assert set(told) <= {"scenes", "folders", "frames per folder", "voxel content"}
