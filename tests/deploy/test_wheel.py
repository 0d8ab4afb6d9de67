"""The package as a user installs it: a wheel in an environment of its own, without the checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from pipeline.config.reference import JOBS
from tests.helpers.repository import REPOSITORY

pytestmark = pytest.mark.slow
SMALL = (
    *("synthetic.num_scenes=16", "synthetic.num_frames=2", "synthetic.towns=[Town03]"),
    *("synthetic.image_width=192", "synthetic.image_height=128", "synthetic.num_channels=16"),
    *("synthetic.points_per_second=40000", "data.root=anovox", "data.blocks=blocks"),
    *("prepare.image_width=96", "prepare.val_fraction=0.25", "prepare.test_fraction=0.25"),
    *("prepare.split_seed=11", "model.image_channels=8", "model.point_channels=8"),
    *("model.image_stages=2", "train.num_epochs=1", "health_checks.enabled=false"),
    *("scaling.num_workers=0", "evaluation.num_bootstraps=100", "tracking.system_metrics=false"),
)


def _run(words: list[str], *, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    outside = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        words, cwd=cwd, env=outside, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == code, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as setuptools leaves its folders beside what it builds."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    for name in ("pipeline", "jobs"):
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, source / name, ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index"]
    _run([*pip, "--no-build-isolation", "-w", str(place), str(source)], cwd=place)
    (made,) = place.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the commands of an environment that has the wheel, and our packages by a path."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    _run([*pip, "install", "--no-deps", "--no-index", str(wheel)], cwd=place)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin"


def test_the_wheel_has_every_module_and_says_that_it_is_typed(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {
        path.relative_to(REPOSITORY).as_posix()
        for room in ("pipeline", "jobs")
        for path in (REPOSITORY / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == modules
    assert {"pipeline/py.typed", "jobs/py.typed"} <= packed


def test_the_command_lists_the_jobs_and_a_jobs_settings(installed: Path, tmp_path: Path):
    shown = _run([str(installed / "anovox"), "--help"], cwd=tmp_path).stdout
    assert shown.startswith("usage: anovox JOB ")
    assert {line.split()[0] for line in shown.splitlines() if line.strip()} >= set(JOBS)
    shown = _run([str(installed / "anovox"), "train", "--help"], cwd=tmp_path).stdout
    assert shown.startswith("usage: anovox train ")
    assert "  train.lr=" in shown


def test_a_typo_and_a_config_that_is_not_there_are_refused(installed: Path, tmp_path: Path):
    refused = _run([str(installed / "anovox"), "train", "trian.lr=1"], cwd=tmp_path, code=2)
    assert refused.stderr == "train: unknown key 'trian.lr'; did you mean 'train.lr'?\n"
    words = ["train", "--config", "configs/demo.yaml"]
    refused = _run([str(installed / "anovox"), *words], cwd=tmp_path, code=2)
    assert "config file configs/demo.yaml does not exist" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_jobs_of_the_wheel_go_from_scenes_to_metrics(installed: Path, tmp_path: Path):
    for job in ("synthesize", "prepare", "train", "evaluate"):
        done = _run([str(installed / "anovox"), job, *SMALL], cwd=tmp_path)
        facts = json.loads(done.stdout.splitlines()[-1])
        assert facts["status"] == "finished"
    assert 0 <= facts["test/point_ap"] <= 1
    assert facts["logged_model"].startswith("models:/")
    assert (tmp_path / "mlflow.db").is_file()


def test_the_installed_program_is_not_the_checkouts(installed: Path, tmp_path: Path):
    code = "import pipeline; print(pipeline.__file__)"
    found = _run([str(installed / "python"), "-c", code], cwd=tmp_path).stdout
    assert str(REPOSITORY) not in found
