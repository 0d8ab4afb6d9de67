"""`ray job submit --working-dir .` uploads the program and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import create_package

from tests.helpers.repository import REPOSITORY

MOST_BYTES = 2_000_000
"""Ray copies the package to every node; a package of 500 MiB is refused."""
MUST_NOT_TRAVEL = (
    "data/demo/blocks/train/shard-00000.arrow",
    "runs/detector/checkpoints/step-00000001/tensors.safetensors",
    "mlartifacts/1/model.bin",
    "mlruns/1/meta.yaml",
    "mlflow.db",
    ".venv/lib/torch.so",
    "venv/lib/torch.so",
    ".git/objects/pack/one.pack",
    ".pytest_cache/v/nodeids",
    ".ruff_cache/one",
    ".hypothesis/examples/one",
    "pipeline/__pycache__/config.cpython-311.pyc",
    "job.log",
    "deploy/mlflow/.env",
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files of a clone, with what working in it leaves behind: megabytes that do not shrink."""
    place = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, place / name)
    junk = bytes(range(256)) * 8192
    for name in MUST_NOT_TRAVEL:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(junk)
    return place


def uploaded(clone: Path, *, include_gitignore: bool) -> Path:
    target = clone.parent / "package.zip"
    create_package(str(clone), target, include_gitignore=include_gitignore, excludes=[])
    return target


@pytest.mark.parametrize("include_gitignore", [True, False])
def test_the_upload_of_a_used_clone_is_small_and_holds_no_data(
    clone: Path, include_gitignore: bool
):
    package = uploaded(clone, include_gitignore=include_gitignore)
    with zipfile.ZipFile(package) as file:
        names = set(file.namelist())
    assert not names & set(MUST_NOT_TRAVEL)
    assert package.stat().st_size < MOST_BYTES, package.stat().st_size
    needed = {
        "jobs/train.py",
        "configs/demo.yaml",
        "pipeline/data/prepare/prepare.py",
        "requirements.txt",
    }
    assert needed <= names


def test_every_job_starts_from_the_upload_alone(clone: Path, tmp_path: Path):
    with zipfile.ZipFile(uploaded(clone, include_gitignore=True)) as file:
        file.extractall(tmp_path / "there")
    for job in ("train", "inspect"):
        ran = subprocess.run(
            [sys.executable, "-m", f"jobs.{job}", "--help"],
            cwd=tmp_path / "there", capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
