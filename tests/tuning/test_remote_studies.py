"""A study whose runs are on S3: another node, with nothing on its disk, goes on with it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from s3_server import running_s3

from pipeline.config import Config

REPOSITORY = Path(__file__).parents[2]
PREPARED = ("image_width", "frames_per_shard", "val_fraction", "test_fraction", "split_seed")
STUDY = (
    *("model.image_channels=8", "model.point_channels=8", "model.image_stages=2"),
    *("train.num_epochs=1", "train.warmup_steps=2", "scaling.num_workers=0"),
    *("guards.enabled=false", "tracking.system_metrics=false", "evaluation.num_bootstraps=100"),
)


def run_job(job: str, config: Config, *overrides: str) -> tuple[dict[str, Any], str]:
    """The job's last line and what it said on stderr."""
    places = [f"data.root={config.data.root}", f"data.blocks={config.data.blocks}"]
    prepared = [f"prepare.{name}={getattr(config.prepare, name)}" for name in PREPARED]
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    ran = subprocess.run(
        [sys.executable, "-m", f"jobs.{job}", *STUDY, *places, *prepared, *overrides],
        cwd=REPOSITORY, env=os.environ | keys, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1]), ran.stderr


@pytest.mark.slow
def test_cells_that_one_node_has_done_are_found_done_by_another(
    tiny_config: Config, tiny_blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    rows = 'ablate.rows=["lidar model.fusion=lidar_only"]'
    with running_s3() as address:

        def on_node(name: str, seeds: str) -> tuple[dict[str, Any], str]:
            place = (f"storage_path={address}", f"storage_cache={tmp_path}/{name}")
            study = (rows, f"ablate.seeds={seeds}", f"tracking.uri={uri}")
            return run_job("ablate", tiny_config, *place, *study)

        first, _ = on_node("a", "[0]")
        shutil.rmtree(tmp_path / "a")
        second, said = on_node("b", "[0,1]")
        assert "ablate: 2 trainings, 1 of them found done" in said
        assert second["run_id"] == first["run_id"]
        third, said = on_node("c", "[0,1]")
        assert "ablate: 2 trainings, 2 of them found done" in said
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("anovox")
    assert experiment is not None
    query = f"tags.mlflow.parentRunId = '{third['run_id']}'"
    assert len(client.search_runs([experiment.experiment_id], query)) == 2
