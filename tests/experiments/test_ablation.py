"""A tiny grid: every cell once, found again after a stop, one table with its differences."""

import csv
import threading
from pathlib import Path
from queue import Queue

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.config.load import load, merge, to_dict
from pipeline.config.schema import Config
from pipeline.experiments.ablation import ablate
from pipeline.experiments.study import Study, open_study
from pipeline.experiments.variant_runs import VariantRun, _run_variant, run_variant, write_note
from pipeline.runtime.file_lock import file_lock
from tests.helpers.repository import REPOSITORY

CONFIGS = REPOSITORY / "configs"
TINY = {
    "train": {"num_epochs": 1},
    "ablate": {
        "name": "tiny",
        "variants": ["lidar model.fusion=lidar_only", "camera model.fusion=camera_only"],
        "seeds": [0, 1],
    },
}
CONTROLS = [
    "boosted tree",
    "constant predictor",
    "archive probe",
    "frame_index probe",
    "archive and frame_index probe",
]


@pytest.fixture
def config(small_training: Config) -> Config:
    return merge(small_training, TINY)


def quiet(line: str) -> None:
    pass


def children(config: Config, study: str):
    client = MlflowClient(config.tracking.uri)
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    assert experiment is not None
    query = f"tags.mlflow.parentRunId = '{study}'"
    return client.search_runs([experiment.experiment_id], query)


def logged_models(run: Run) -> list[str]:
    assert run.outputs is not None
    return [model.model_id for model in run.outputs.model_outputs]


@pytest.mark.slow
def test_every_cell_is_trained_once_however_often_the_study_is_started(
    config: Config, tiny_blocks: Path, ray_session
):
    first = ablate(config, say=quiet)
    said: list[str] = []
    second = ablate(config, say=said.append)
    assert "4 trainings, 4 of them already finished" in said
    assert second.text == first.text
    runs = children(config, first.facts["run_id"])
    assert len(runs) == 4
    assert {run.info.status for run in runs} == {"FINISHED"}

    lidar, camera, *controls = first.lines
    assert lidar.num_parameters < camera.num_parameters
    assert not lidar.differences
    assert camera.differences["point_ap"].value == pytest.approx(
        camera.values["point_ap"].value - lidar.values["point_ap"].value
    )
    with Path(first.facts["table"]).with_suffix(".csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["row"] for line in lines} == {"lidar", "camera", *CONTROLS}
    tex = Path(first.facts["table"]).with_suffix(".tex").read_text()
    assert tex.count(r"\\") == 3 + len(CONTROLS)
    assert [control.name for control in controls] == CONTROLS
    assert controls[2].values.keys() == {m for m in lidar.values if m.startswith("frame")}
    assert controls[1].values["frame_auroc"].value == 0.5
    parent = MlflowClient(config.tracking.uri).get_run(first.facts["run_id"])
    assert "camera/point_ap" in parent.data.metrics
    assert parent.info.status == "FINISHED"


@pytest.mark.slow
def test_a_row_whose_guard_fired_says_so_and_the_others_stand(
    config: Config, tiny_blocks: Path, ray_session
):
    rows = [
        "full model.fusion=lidar_only",
        "hopeless model.fusion=lidar_only health_checks.enabled=true",
    ]
    strict = {
        "health_checks": {"no_signal_margin": 0.999},
        "ablate": {"variants": rows, "seeds": [0]},
    }
    ablated = ablate(merge(config, strict), say=quiet)
    assert ablated.facts["failed_rows"] == ["hopeless"]
    assert ablated.lines[1].status == "no_signal (1 of 1)"
    assert "no_signal (1 of 1)" in ablated.text
    assert ablated.lines[0].values


@pytest.mark.slow
def test_the_prior_systems_row_collapses_and_is_told_with_its_parameters(
    config: Config, tiny_blocks: Path, ray_session
):
    base = load(CONFIGS / "ablation.yaml")
    (simple,) = (text for text in base.ablate.variants if text.startswith("simple "))
    changes = {
        "health_checks": {"enabled": True},
        "ablate": {"variants": [simple], "seeds": [0, 1]},
    }
    ablated = ablate(merge(config, changes), say=quiet)
    assert ablated.lines[0].status == "collapsed (2 of 2)"
    assert ablated.lines[0].num_parameters == 1_146_497
    values, made_of = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in ablated.text.splitlines()
        if line.startswith("| simple ")
    )
    assert values == ["simple", *["collapsed (2 of 2)"] * len(config.ablate.metrics)]
    assert made_of[2] == "1,146,497"
    parent = children(config, ablated.facts["run_id"])
    tags = {run.data.tags.get("failure") for run in parent if "simple" in run.data.tags["variant"]}
    assert tags == {"collapsed"}


@pytest.mark.slow
def test_a_cell_killed_between_its_evaluation_and_its_note_leaves_nothing_double(
    config: Config, tiny_blocks: Path
):
    study = open_study(config, name="s", split_hash="s")
    run = VariantRun(name="full-seed0", config=config)
    first = run_variant(run, study, say=quiet)
    client = MlflowClient(config.tracking.uri)
    models = logged_models(client.get_run(first.run_id))
    assert run_variant(run, study, say=quiet).run_id == first.run_id
    after = client.get_run(first.run_id)
    assert logged_models(after) == models
    assert len(models) == 1
    assert {"train/loss", "test/point_ap", "baseline/point_ap"} <= after.data.metrics.keys()
    for key in after.data.metrics:
        steps = [point.step for point in client.get_metric_history(first.run_id, key)]
        assert len(set(steps)) == len(steps), key
    assert len(children(config, study.run_id)) == 1


def test_a_cell_that_another_start_of_the_study_is_at_is_waited_for_and_not_run_again(
    config: Config, tmp_path: Path
):
    study = Study(run_id="r", folder=tmp_path / "study")
    folder = study.folder / "full-seed0"
    folder.mkdir(parents=True)
    task = threading.Thread(
        target=_run_variant, args=("full-seed0", to_dict(config), study, Queue())
    )
    with file_lock(folder / ".lock"):
        task.start()
        task.join(timeout=1)
        assert task.is_alive()
        write_note(config, study.folder / "finished" / "full-seed0.json", {"status": "finished"})
    task.join(timeout=30)
    assert not task.is_alive()
    assert [path.name for path in folder.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("a train.lrr=1", "row a: unknown key 'train.lrr'; did you mean 'train.lr'"),
        ("a model.fusion=sum", "row a: model.fusion"),
        ("full train.lr=1", "two rows are named full"),
    ],
)
def test_a_wrong_row_is_refused_before_anything_starts(config: Config, row: str, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        ablate(merge(config, {"ablate": {"variants": ["full", row]}}), say=quiet)
    assert not Path(config.storage_path).exists()


def test_a_row_whose_shards_were_not_prepared_is_refused(config: Config, tiny_blocks: Path):
    rows = ["full", "other prepare.split_seed=5"]
    with pytest.raises(ValueError, match=r"jobs\.prepare"):
        ablate(merge(config, {"ablate": {"variants": rows}}), say=quiet)
