"""A checkout lies where its owner likes: every job runs below a folder with an odd name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config.schema import Config
from tests.helpers.ray_head import short_folder
from tests.helpers.repository import REPOSITORY
from tests.helpers.study_runs import environment, job


@pytest.mark.slow
def test_two_workers_train_and_an_evaluation_ends_below_a_folder_with_an_odd_name(
    tiny_config: Config, tmp_path: Path
):
    """Its virtual environment too: Ray starts workers by a line of shell."""
    checkout = tmp_path / "数据 a#b c?d"
    checkout.mkdir()
    for name in ("pipeline", "jobs"):
        (checkout / name).symlink_to(REPOSITORY / name)
    (checkout / "venv").symlink_to(sys.prefix)
    ray_folder = short_folder()
    for name in ("train", "evaluate"):
        _, *arguments = job(name, tiny_config, "scaling.num_workers=2", "train.num_epochs=1")
        done = subprocess.run(
            [str(checkout / "venv/bin/python"), *arguments],
            cwd=checkout,
            env=environment(ray_folder),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout.splitlines()[-1])
        assert facts["status"] == "finished"
    assert Path(facts["table"]).is_relative_to(checkout)
    assert list(checkout.rglob("mlartifacts/**/results.csv"))
