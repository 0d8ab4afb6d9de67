"""Runs of a study: found again by name, gone on from where they were, never doubled."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.runtime.errors import Pruned
from pipeline.tracking import runs
from pipeline.training import checkpoints
from pipeline.training.trainer import ParentRun, Trained, fit


@pytest.fixture
def config(small_training: Config) -> Config:
    return merge(small_training, {"train": {"num_epochs": 2, "batch_size": 5}})


@pytest.fixture
def short(config: Config) -> Config:
    """One step, where a training is only to have been."""
    return merge(config, {"train": {"max_steps": 1}})


@pytest.fixture
def child(config: Config, tiny_blocks: Path, tmp_path: Path) -> ParentRun:
    study = runs.start_run(config.tracking, name="study", params={}, tags={"study": "s"})
    return ParentRun(study=study, name="full-seed0", folder=tmp_path / "runs/study/full-seed0")


def quiet(line: str) -> None:
    pass


def steps_logged(config: Config, trained: Trained) -> list[int]:
    history = MlflowClient(config.tracking.uri).get_metric_history(trained.run_id, "train/loss")
    return [metric.step for metric in history]


def test_a_child_is_grouped_under_its_study_and_lies_in_the_folder_it_was_given(short, child):
    trained = fit(short, say=quiet, child=child)
    run = MlflowClient(short.tracking.uri).get_run(trained.run_id)
    assert run.data.tags["mlflow.parentRunId"] == child.study
    assert run.info.run_name == run.data.tags["variant"] == "full-seed0"
    assert trained.folder == child.folder


def test_a_stopped_child_goes_on_in_its_own_run_without_a_gap_or_a_double(config, child):
    half = merge(config, {"train": {"num_epochs": 1}})
    first = fit(half, say=quiet, child=child)
    second = fit(config, say=quiet, child=child)
    assert second.run_id == first.run_id
    assert second.num_steps == 2 * first.num_steps
    assert steps_logged(config, second) == list(range(1, second.num_steps + 1))


def test_a_child_killed_before_its_first_checkpoint_takes_its_run_again(config, short, child):
    mark = {"variant": child.name}
    orphan = runs.start_run(
        config.tracking, name=child.name, params={}, tags=mark, parent=child.study
    )
    assert fit(short, say=quiet, child=child).run_id == orphan


def test_children_of_another_study_are_not_taken(config, short, child):
    other = runs.start_run(config.tracking, name="other", params={}, tags={})
    stranger = runs.start_run(
        config.tracking, name=child.name, params={}, tags={"variant": child.name}, parent=other
    )
    assert fit(short, say=quiet, child=child).run_id != stranger


def test_every_validation_but_the_last_is_told_when_its_checkpoint_is_there(config, child):
    told: list[tuple[int, int]] = []

    def validated(history: list[dict[str, float]]) -> None:
        newest = checkpoints.whole_checkpoints(child.folder / checkpoints.FOLDER)[-1]
        assert checkpoints.read_meta(newest).history == history
        told.append((len(history), int(history[-1]["epoch"])))

    trained = fit(
        merge(config, {"train": {"num_epochs": 3}}), say=quiet, child=child, validated=validated
    )
    assert told == [(1, 1), (2, 2)]
    assert [row["epoch"] for row in trained.history] == [1, 2, 3]


def test_a_pruned_child_stops_there_and_its_run_is_left_to_the_study(config, child):
    def validated(history: list[dict[str, float]]) -> None:
        raise Pruned

    with pytest.raises(Pruned):
        fit(config, say=quiet, child=child, validated=validated)
    run_id = runs.find_run(config.tracking, {"variant": child.name}, parent=child.study)
    run = MlflowClient(config.tracking.uri).get_run(run_id)
    assert run.info.status == "RUNNING"
    assert "failure" not in run.data.tags

    told: list[int] = []
    longer = merge(config, {"train": {"num_epochs": 3}})
    fit(longer, say=quiet, child=child, validated=lambda history: told.append(len(history)))
    assert told == [2]


@pytest.mark.slow
def test_workers_tell_their_validations_to_the_driver(config, child):
    told: list[int] = []
    fit(
        merge(config, {"scaling": {"num_workers": 1}}),
        say=quiet,
        child=child,
        validated=lambda history: told.append(int(history[-1]["epoch"])),
    )
    assert told == [1]
