"""A study whose runs are on S3: another node, with nothing on its disk, goes on with it."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_server import running_s3
from study_runs import children, job

from pipeline.config import Config

REPOSITORY = Path(__file__).parents[2]
STUDY = (
    *("train.num_epochs=1", "tracking.system_metrics=false"),
    'ablate.rows=["lidar model.fusion=lidar_only"]',
)


def run(name: str, config: Config, *overrides: str) -> tuple[dict[str, Any], str]:
    """The job's last line and what it said on stderr."""
    command = job(name, config, *STUDY, *overrides)
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1]), ran.stderr


@pytest.fixture
def address() -> Iterator[str]:
    """`s3://results/runs` of a local S3 server."""
    with running_s3() as address:
        yield address


def store(folder: Path) -> str:
    """MLflow's, which all nodes share."""
    return f"sqlite:///{folder}/mlflow.db"


def places_of(node: str, folder: Path, address: str) -> list[str]:
    """Overrides: where a node keeps its runs, its local copy of them, and MLflow."""
    cache = f"storage_cache={folder}/{node}"
    return [f"storage_path={address}", cache, f"tracking.uri={store(folder)}"]


@pytest.mark.slow
def test_cells_that_one_node_has_done_are_found_done_by_another(
    tiny_config: Config,
    tiny_blocks: Path,
    tmp_path: Path,
    address: str,
    new_store: Callable[[Path], str],
):
    new_store(tmp_path)

    def on_node(node: str, seeds: str) -> tuple[dict[str, Any], str]:
        places = places_of(node, tmp_path, address)
        return run("ablate", tiny_config, *places, f"ablate.seeds={seeds}")

    first, _ = on_node("a", "[0]")
    shutil.rmtree(tmp_path / "a")
    second, said = on_node("b", "[0,1]")
    assert "ablate: 2 trainings, 1 of them found done" in said
    assert second["run_id"] == first["run_id"]
    third, said = on_node("c", "[0,1]")
    assert "ablate: 2 trainings, 2 of them found done" in said
    assert len(children(store(tmp_path), third["run_id"])) == 2


@pytest.mark.slow
def test_trials_that_one_node_has_run_are_found_by_another(
    tiny_config: Config,
    tiny_blocks: Path,
    tmp_path: Path,
    address: str,
    new_store: Callable[[Path], str],
):
    new_store(tmp_path)

    def on_node(node: str, samples: int) -> tuple[dict[str, Any], str]:
        places = places_of(node, tmp_path, address)
        return run(
            "tune", tiny_config, *places, f"tune.num_samples={samples}", "tune.scheduler=none"
        )

    first, _ = on_node("a", 2)
    shutil.rmtree(tmp_path / "a")
    second, said = on_node("b", 3)
    assert "tune: 3 proposals, 2 of them found" in said
    assert "tune: up to 1 trials to run" in said
    assert second["run_id"] == first["run_id"]
    assert second["num_finished"] == 3
    shutil.rmtree(tmp_path / "b")
    third, said = on_node("c", 3)
    assert "to run" not in said
    assert "evaluating" not in said
    assert third["best_run_id"] == second["best_run_id"]
    assert third["test/point_ap"] == second["test/point_ap"]
    assert len(children(store(tmp_path), third["run_id"])) == 3
