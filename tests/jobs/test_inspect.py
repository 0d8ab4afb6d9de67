"""The inspect job as a user runs it: table, JSON, figure, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.scene import read_scenes
from pipeline.synthetic.writer import write_archives
from tests.helpers import wrong_archives as wrong
from tests.helpers.repository import REPOSITORY

NAMES = ("AnoVox_Normality_Mono_Town03", "AnoVox_Static_Mono_Town03")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    config = SyntheticConfig(
        num_scenes=2,
        num_frames=2,
        towns=["Town03"],
        image_width=96,
        image_height=64,
        num_channels=16,
        points_per_second=40_000,
        num_processes=1,
    )
    write_archives(config, tmp_path / "anovox")
    return tmp_path / "anovox"


def run(root: Path, *overrides: str) -> tuple[int, str, dict, str]:
    """Exit code, the table, the last line's JSON, stderr."""
    place = [f"data.root={root}", f"storage_path={root.parent / 'runs'}"]
    command = [sys.executable, "-m", "jobs.inspect", *place, *overrides]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    *table, last = done.stdout.splitlines() or [""]
    return done.returncode, "\n".join(table), json.loads(last or "{}"), done.stderr


def test_healthy_archives_end_with_0_and_leave_report_and_figures(root: Path) -> None:
    code, table, facts, errors = run(root)
    assert code == 0, errors
    assert table.startswith(f"{NAMES[0]}: 1 folders, 1 usable, 2 frames\nstatus  check")
    assert f"\n{NAMES[1]}: 1 folders, 1 usable, 2 frames\n" in table
    assert (facts["status"], facts["verdict"], facts["num_archives"]) == ("finished", "pass", 2)
    assert facts["checks"] == {"pass": 37, "warn": 0, "FAIL": 0}
    assert "inspect: AnoVox_Static_Mono_Town03: 1/1 scenes" in errors
    report = json.loads(Path(facts["report"]).read_text())
    assert report["is_synthetic"] is True
    assert [archive["name"] for archive in report["archives"]] == list(NAMES)
    assert {check["name"] for check in report["archives"][1]["checks"]} >= {
        "projection sign", "voxel content", "anomaly location",
    }  # fmt: skip
    for figure, name in zip(facts["figures"], NAMES, strict=True):
        assert Path(figure).name == f"{name}.png"
        assert np.asarray(Image.open(figure)).std() > 10


def test_a_wrong_archive_ends_with_1_and_its_line(root: Path) -> None:
    archive = find_archives(root)[1]
    wrong.shuffle_rows(read_scenes(archive.scenes[0], archive)[0])
    code, table, facts, errors = run(root, f"inspect.archive={NAMES[1]}")
    assert code == 1
    assert (facts["status"], facts["reason"]) == ("failed", "inspection_failed")
    assert facts["checks"]["FAIL"] == 1
    failed = [line for line in table.splitlines() if line.startswith("FAIL")]
    assert [line.split()[1:3] for line in failed] == [["row", "alignment"]]
    assert "-> Point labels would land on wrong points" in table
    assert f"1 checks failed ({NAMES[1]}: row alignment)" in errors
    assert "Traceback" not in errors
    assert Path(facts["report"]) == root.parent / "runs" / "inspect" / NAMES[1] / "report.json"


def test_an_archive_that_is_not_there_is_answered_with_those_that_are(root: Path) -> None:
    code, _, facts, errors = run(root, "inspect.archive=AnoVox_Static_Mono_Town04")
    assert (code, facts["reason"]) == (1, "bad_input")
    assert f"inspect.archive is 'AnoVox_Static_Mono_Town04', but {root} holds {NAMES[0]}" in errors


def test_a_setting_without_frames_is_refused_before_anything_starts(root: Path) -> None:
    code, _, _, errors = run(root, "inspect.frames_per_scene=0")
    assert code == 2
    assert "inspect.frames_per_scene is 0" in errors
