"""A study whose runs are on S3: another node, with nothing on its disk, goes on with it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from pipeline.config.load import load
from pipeline.config.schema import Config
from pipeline.experiments.ablation import ablate
from pipeline.experiments.search.tune import tune
from pipeline.runtime import remote_storage
from pipeline.runtime.ray_cluster import ensure_ray
from tests.helpers.s3_server import running_s3
from tests.helpers.study_runs import children, words

STUDY = (
    *("train.num_epochs=1", "tracking.system_metrics=false"),
    *('ablate.variants=["lidar model.fusion=lidar_only"]', "ablate.num_parallel=1"),
)


@pytest.fixture(scope="module")
def address(ray_session: None) -> Iterator[str]:
    """`s3://results/runs` of a local S3 server, whose key the processes of this Ray have."""
    ray.shutdown()
    with running_s3() as address:
        ensure_ray(4)
        yield address
        ray.shutdown()
    # As the session's other tests find it.
    ensure_ray(4)


def store(folder: Path) -> str:
    """MLflow's, which all nodes share."""
    return f"sqlite:///{folder}/mlflow.db"


def on_node(node: str, config: Config, folder: Path, address: str, *overrides: str) -> Config:
    """The config as a node loads it: the same address and MLflow, a local copy of its own."""
    cache = f"storage_cache={folder}/{node}"
    places = [f"storage_path={address}", cache, f"tracking.uri={store(folder)}"]
    return load(None, [*words(config), *STUDY, *places, *overrides])


@pytest.mark.slow
def test_cells_that_one_node_has_done_are_found_done_by_another(
    tiny_config: Config,
    tiny_blocks: Path,
    tmp_path: Path,
    address: str,
    new_store: Callable[[Path], str],
):
    new_store(tmp_path)

    def run(node: str, seeds: str) -> tuple[dict[str, Any], list[str]]:
        seeded = f"ablate.seeds={seeds}"
        config = on_node(node, tiny_config, tmp_path, address, "ablate.name=cells", seeded)
        said: list[str] = []
        with remote_storage.synced(config):
            return ablate(config, say=said.append).facts, said

    first, _ = run("a", "[0]")
    shutil.rmtree(tmp_path / "a")
    second, said = run("b", "[0,1]")
    assert "2 trainings, 1 of them already finished" in said
    assert second["run_id"] == first["run_id"]
    third, said = run("c", "[0,1]")
    assert "2 trainings, 2 of them already finished" in said
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

    def run(node: str, samples: int) -> tuple[dict[str, Any], str]:
        search = (f"tune.num_samples={samples}", "tune.scheduler=none", "tune.num_parallel=1")
        config = on_node(node, tiny_config, tmp_path, address, *search)
        said: list[str] = []
        with remote_storage.synced(config):
            facts = tune(config, command=[], say=said.append).facts
        return facts, "\n".join(said)

    first, _ = run("a", 2)
    shutil.rmtree(tmp_path / "a")
    second, said = run("b", 3)
    assert "3 proposals, 2 of them found" in said
    assert "up to 1 trials to run" in said
    assert second["run_id"] == first["run_id"]
    assert second["num_finished"] == 3
    shutil.rmtree(tmp_path / "b")
    third, said = run("c", 3)
    assert "to run" not in said
    assert "evaluating" not in said
    assert third["best_run_id"] == second["best_run_id"]
    assert third["test/point_ap"] == second["test/point_ap"]
    assert len(children(store(tmp_path), third["run_id"])) == 3
