"""An ablation on one tiny world, stopped never and started twice."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.config.load import absolute_paths, merge
from pipeline.config.schema import Config
from pipeline.experiments.worlds import ablate_worlds, world_config

TINY = {
    "synthetic": {
        "num_scenes": 24,
        "num_frames": 2,
        "towns": ["Town03"],
        "image_width": 192,
        "image_height": 128,
        "num_channels": 16,
        "points_per_second": 40_000,
    },
    "prepare": {"image_width": 96, "val_fraction": 0.25, "test_fraction": 0.25},
    "model": {"image_channels": 8, "point_channels": 8, "image_stages": 2},
    "train": {"num_epochs": 1, "warmup_steps": 2},
    "scaling": {"num_workers": 0},
    "health_checks": {"enabled": False},
    "evaluation": {"num_bootstraps": 100},
    "ablate": {
        "name": "worlds",
        "worlds": [3],
        "seeds": [0],
        "variants": ["lidar model.fusion=lidar_only", "camera model.fusion=camera_only"],
    },
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the worlds lie: the second test finds the first one's written and prepared."""
    return tmp_path_factory.mktemp("worlds")


def tiny(worlds: Path, tmp_path: Path) -> Config:
    place = {
        "data": {"root": str(worlds / "anovox"), "blocks": str(worlds / "blocks")},
        "storage_path": str(tmp_path / "runs"),
        "tracking": {"uri": f"sqlite:///{tmp_path}/mlflow.db"},
    }
    return merge(Config(), TINY, place)


def test_each_world_has_its_own_scenes_split_and_folders(worlds: Path, tmp_path: Path):
    one, two = (world_config(tiny(worlds, tmp_path), seed) for seed in (1, 2))
    assert (one.synthetic.seed, one.prepare.split_seed, one.train.seed) == (1, 1, 0)
    assert one.data.root != two.data.root
    assert one.data.blocks != two.data.blocks


@pytest.mark.slow
def test_a_second_start_trains_nothing_and_tells_the_same(
    worlds: Path, tmp_path: Path, new_store: Callable[[Path], str], ray_session
):
    new_store(tmp_path)
    config = tiny(worlds, tmp_path)
    first = ablate_worlds(config, say=lambda line: None)
    said: list[str] = []
    second = ablate_worlds(config, say=said.append)
    assert second.text == first.text
    assert "2 trainings, 2 of them already finished" in said
    client = MlflowClient(config.tracking.uri)
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for run in runs}
    overall, study = first.facts["run_id"], first.facts["worlds"]["3"]["run_id"]
    assert second.facts == first.facts
    assert sorted(map(str, parents.values())) == sorted(["None", "None", study, study])
    assert parents[overall] is None
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {one.path for one in client.list_artifacts(overall)} == {"table.md", "worlds.png"}
    for name in ("lidar", "camera", "boosted tree", "constant"):
        assert name in first.text
    assert Path(first.facts["figure"]).stat().st_size > 10_000


@pytest.mark.slow
def test_on_a_remote_storage_path_another_node_finds_what_is_done(
    worlds: Path, tmp_path: Path, new_store: Callable[[Path], str], ray_session
):
    """The address is a folder here; what S3 adds to that is tested with the storage itself."""

    def on_node(name: str) -> Config:
        cache = {"storage_path": f"file://{tmp_path}/bucket", "storage_cache": f"{tmp_path}/{name}"}
        return absolute_paths(merge(tiny(worlds, tmp_path), cache))

    new_store(tmp_path)
    first = ablate_worlds(on_node("a"), say=lambda line: None)
    shutil.rmtree(tmp_path / "a")
    said: list[str] = []
    second = ablate_worlds(on_node("b"), say=said.append)
    assert second.text == first.text
    assert "2 trainings, 2 of them already finished" in said
