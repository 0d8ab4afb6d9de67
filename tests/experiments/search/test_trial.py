"""A trial reports each validation once, stops where it is told to, and goes on after a kill."""

import threading
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.experiments.search.trial import Trial, make_trial, run_trial
from pipeline.experiments.search.trial_store import ERROR, FINISHED, OPEN
from pipeline.experiments.study import Study, open_study
from pipeline.experiments.variant_runs import LOCK
from pipeline.runtime.errors import Pruned
from pipeline.runtime.file_lock import file_lock
from pipeline.tracking import runs


@pytest.fixture
def config(small_training: Config) -> Config:
    return merge(small_training, {"train": {"num_epochs": 3, "batch_size": 5}})


@pytest.fixture
def study(config: Config) -> Study:
    return open_study(config, name="s", split_hash="abc", marks={"space_hash": "x"})


def trial_of(config: Config, study: Study) -> Trial:
    return make_trial(config, study, "000-a", {"model.fusion": "lidar_only", "train.lr": "0.003"})


def test_every_validation_is_reported_and_the_last_with_the_end(config: Config, study: Study):
    reports: list[dict[str, Any]] = []
    run_trial(trial_of(config, study), report=reports.append)
    assert [one["epoch"] for one in reports] == [1, 2, 3]
    assert [one["status"] for one in reports] == [OPEN, OPEN, FINISHED]
    assert [len(one["history"]) for one in reports] == [1, 2, 3]
    assert [one["history"][-1]["value"] for one in reports] == [one["value"] for one in reports]
    run = MlflowClient(config.tracking.uri).get_run(reports[-1]["run_id"])
    assert run.data.params["model.fusion"] == "lidar_only"
    assert run.data.params["train.lr"] == "0.003"
    best = max(reports[-1]["history"], key=lambda one: one["value"])
    assert reports[-1]["best_step"] == best["step"]


def test_a_stopped_trial_goes_on_and_tells_only_what_is_new(config: Config, study: Study):
    reports: list[dict[str, Any]] = []

    def stop(facts: dict[str, Any]) -> None:
        reports.append(facts)
        raise SystemExit

    with pytest.raises(Pruned):
        run_trial(trial_of(config, study), report=stop)
    assert [one["epoch"] for one in reports] == [1]
    run_trial(trial_of(config, study), report=reports.append)
    assert [one["epoch"] for one in reports] == [1, 2, 3]
    assert len(reports[-1]["history"]) == 3
    history = MlflowClient(config.tracking.uri).get_metric_history(
        reports[-1]["run_id"], "val/point_ap"
    )
    assert [one.step for one in history] == [one["step"] for one in reports[-1]["history"]]


def test_a_guard_that_ends_the_training_is_a_report_and_no_error(config: Config, study: Study):
    strict = merge(config, {"health_checks": {"enabled": True, "no_signal_margin": 0.999}})
    reports: list[dict[str, Any]] = []
    run_trial(trial_of(strict, study), report=reports.append)
    assert reports[-1]["status"] == "no_signal"
    assert reports[-1]["epoch"] == 0
    assert runs.find_run(config.tracking, {"failure": "no_signal"}) == reports[-1]["run_id"]


def test_a_metric_that_the_validation_lacks_is_refused_by_name(config: Config, study: Study):
    other = merge(config, {"tune": {"metric": "pixel_ap"}})
    reports: list[dict[str, Any]] = []
    run_trial(trial_of(other, study), report=reports.append)
    assert reports[-1]["status"] == ERROR
    assert (
        "trial 000-a has no val/pixel_ap to be ranked by, only val/point_ap"
        in (reports[-1]["message"])
    )


@pytest.mark.slow
def test_a_trial_waits_for_a_process_that_still_trains_it(config: Config, study: Study):
    trial, reports = trial_of(config, study), []
    trial.child.folder.mkdir(parents=True)
    later = threading.Thread(target=run_trial, args=(trial,), kwargs={"report": reports.append})
    with file_lock(trial.child.folder / LOCK):
        later.start()
        later.join(timeout=2)
        assert later.is_alive()
        assert not reports
    later.join(timeout=120)
    assert reports[-1]["status"] == FINISHED


def test_a_study_is_found_again_by_its_marks(config: Config, study: Study):
    def opened(**change: str) -> Study:
        given = {"name": "s", "split_hash": "abc"} | change
        return open_study(config, **given, marks={"space_hash": change.get("name", "x")})

    assert opened() == study
    assert opened(split_hash="other") != study
    assert open_study(config, name="s", split_hash="abc", marks={"space_hash": "y"}) != study


def test_a_study_shows_no_base_value_of_what_its_trials_vary(config: Config):
    study = open_study(config, name="v", split_hash="abc", varied={"train.lr"})
    again = open_study(config, name="v", split_hash="abc", varied={"train.lr"})
    assert again == study
    params = MlflowClient(config.tracking.uri).get_run(study.run_id).data.params
    assert "train.weight_decay" in params
    assert "train.lr" not in params


@pytest.mark.slow
def test_with_workers_the_reports_come_from_this_thread_and_may_stop_it(
    config: Config, study: Study
):
    beside = merge(config, {"scaling": {"num_workers": 1}})
    reports: list[dict[str, Any]] = []
    run_trial(trial_of(beside, study), report=reports.append)
    assert [one["epoch"] for one in reports] == [1, 2, 3]
    assert reports[-1]["status"] == FINISHED


@pytest.mark.slow
def test_an_error_of_the_workers_is_that_of_the_trial(config: Config, study: Study):
    many = merge(config, {"scaling": {"num_workers": 5, "cpus_per_worker": 4.0}})
    reports: list[dict[str, Any]] = []
    run_trial(trial_of(many, study), report=reports.append)
    assert [one["status"] for one in reports] == [ERROR]
    assert "scaling asks for 20 CPU" in reports[0]["message"]
