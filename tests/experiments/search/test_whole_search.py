"""A whole search with Ray: pruned trials, one look at test, and kills that cost nothing twice."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from pipeline.config.load import load, merge, override, to_dict
from pipeline.config.schema import Config
from pipeline.data.manifest import read_manifest
from pipeline.data.prepare.prepare import find_blocks
from pipeline.experiments.search.space import words
from pipeline.experiments.search.trial_store import FINISHED, PRUNED, Ledger
from pipeline.experiments.search.tune import open_search, tune
from pipeline.experiments.variant_runs import LOCK
from pipeline.runtime.errors import RunFailed
from pipeline.runtime.file_lock import file_lock
from pipeline.training.trainer import config_hash, fit
from tests.helpers.repository import REPOSITORY

TINY = {
    "train": {"num_epochs": 4},
    "tune": {
        "name": "tiny",
        "num_samples": 4,
        "reduction_factor": 2,
        "space": ["train.lr loguniform 1e-4 1e-2", "model.fusion choice lidar_only concat"],
    },
}


@pytest.fixture
def config(small_training: Config) -> Config:
    return merge(small_training, TINY)


def quiet(line: str) -> None:
    pass


def runs(config: Config, query: str = ""):
    client = MlflowClient(config.tracking.uri)
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    return client.search_runs([experiment.experiment_id], query) if experiment else []


def children(config: Config, study: str):
    return runs(config, f"tags.mlflow.parentRunId = '{study}'")


def steps_of(config: Config, run_id: str, key: str) -> list[int]:
    history = MlflowClient(config.tracking.uri).get_metric_history(run_id, key)
    return [one.step for one in history]


def assert_whole(config: Config, facts: dict[str, Any]) -> None:
    """Every trial has one child, ended, with every metric step once and in order."""
    found = children(config, facts["run_id"])
    names = Counter(run.info.run_name for run in found)
    assert set(names.values()) == {1}
    assert len(found) == facts["num_finished"] + facts["num_pruned"]
    for run in found:
        pruned = run.data.tags.get("pruned") == "true"
        assert run.info.status == ("KILLED" if pruned else "FINISHED")
        for key in ("train/loss", "val/point_ap"):
            steps = steps_of(config, run.info.run_id, key)
            assert steps == sorted(set(steps)), (run.info.run_name, key)
        losses = steps_of(config, run.info.run_id, "train/loss")
        assert losses == list(range(1, len(losses) + 1)), run.info.run_name


@pytest.mark.slow
def test_a_study_ends_in_a_leaderboard_and_a_registered_model_and_is_not_run_twice(
    config: Config, tiny_blocks: Path, ray_session: None
):
    told = tune(config, command=["train.num_epochs=4"], say=quiet)
    facts = told.facts
    assert facts["num_finished"] + facts["num_pruned"] == 4
    assert facts["num_finished"] >= 1
    assert_whole(config, facts)

    client = MlflowClient(config.tracking.uri)
    version = client.get_model_version_by_alias("tiny", "best")
    assert version.run_id == facts["best_run_id"]
    tested = [
        one for one in children(config, facts["run_id"]) if "test/point_ap" in one.data.metrics
    ]
    assert [one.info.run_id for one in tested] == [facts["best_run_id"]]
    shown = client.get_run(facts["run_id"]).data.params
    assert not {"train.lr", "model.fusion"} & shown.keys()
    # The command line trains what the best trial did.
    words = facts["command"].split("jobs.train ")[1].split()
    assert config_hash(override(config, words)) == tested[0].data.tags["config_hash"]

    said: list[str] = []
    again = tune(config, command=["train.num_epochs=4"], say=said.append)
    assert (again.text, again.facts) == (told.text, facts)
    assert not any("side by side" in line or "evaluating" in line for line in said)
    assert len(client.search_model_versions("name = 'tiny'")) == 1


def num_trial_actors() -> int:
    """Processes that Tune has started for trials in this Ray."""
    from ray._private.state import actors

    return sum(one["ActorClassName"].endswith("ImplicitFunc") for one in actors().values())


@pytest.mark.slow
def test_trials_share_a_process_and_leave_nothing_behind_in_it(
    config: Config, tiny_blocks: Path, ray_session: None
):
    space = ["train.lr grid 1e-2 1e-9 5e-3 2e-9"]
    changes = {"space": space, "num_samples": 1, "num_parallel": 1}
    one_by_one = merge(config, {"tune": changes})
    before = num_trial_actors()
    facts = tune(one_by_one, command=[], say=quiet).facts
    assert num_trial_actors() == before + 1
    assert facts["num_finished"] + facts["num_pruned"] == 4
    assert facts["num_pruned"] >= 1
    assert_whole(one_by_one, facts)
    (study,) = Path(config.storage_path).glob("tiny-*")
    third = Ledger(Config(), study).records()[2]
    by_itself = merge(config, {"storage_path": f"{config.storage_path}-by-itself"})
    trained = fit(override(by_itself, words(third.settings)), say=quiet)
    assert len(third.history) > 1
    values = [one["val/point_ap"] for one in trained.history]
    assert values[: len(third.history)] == [one.value for one in third.history]


def test_a_study_that_another_process_runs_is_not_run_beside_it(config: Config, tiny_blocks: Path):
    study = open_search(config, read_manifest(find_blocks(config)))
    with (
        file_lock(study.folder / LOCK),
        pytest.raises(RunFailed, match=r"another process is searching in .*start the same command"),
    ):
        tune(config, command=[], say=quiet)
    assert MlflowClient(config.tracking.uri).get_run(study.run_id).info.status == "RUNNING"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("searcher", "how"), [("random", signal.SIGKILL), ("optuna", signal.SIGINT)]
)
def test_a_study_killed_at_any_moment_goes_on_with_the_same_command(
    config: Config, tiny_blocks: Path, tmp_path: Path, searcher: str, how: signal.Signals
):
    path = tmp_path / "study.yaml"
    short = {"tune": {"searcher": searcher, "num_samples": 3}}
    path.write_text(yaml.safe_dump(to_dict(merge(config, short))))
    first = start(path)
    folder = wait_for(lambda: next(Path(config.storage_path).glob("tiny-*"), None), first)
    wait_for(lambda: ended_and_running(folder), first)
    # The driver alone: what it started must notice by itself.
    os.kill(first.pid, how)
    first.communicate(timeout=120)
    assert first.returncode == (130 if how == signal.SIGINT else -how)
    if how == signal.SIGINT:
        assert {run.info.status for run in runs(config)} <= {"KILLED", "FINISHED"}
    before = {one.name: one for one in Ledger(Config(), folder).records(FINISHED, PRUNED)}
    losses = {run.info.run_name: run.info.end_time for run in runs(load(path)) if run.info.end_time}

    second = start(path)
    out, err = second.communicate(timeout=600)
    assert second.returncode == 0, err[-3000:]
    facts = json.loads(out.splitlines()[-1])
    assert facts["num_finished"] + facts["num_pruned"] + facts["num_skipped"] == 3
    assert facts["num_failed"] == 0
    assert_whole(config, facts)
    after = Ledger(Config(), folder)
    assert {name: after[name] for name in before} == before
    for run in children(config, facts["run_id"]):
        if run.info.run_name in before and run.info.run_id != facts["best_run_id"]:
            assert run.info.end_time == losses[run.info.run_name], "a finished trial ran again"


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 1])
def test_trials_that_stream_their_data_do_not_starve_each_other(
    config: Config, tiny_blocks: Path, tmp_path: Path, num_workers: int
):
    changes = {
        "data": {"reader": "stream"},
        "scaling": {"num_workers": num_workers},
        "train": {"num_epochs": 2},
        # Of four CPUs each takes one to train and one to read.
        "tune": {"num_samples": 2, "num_parallel": 2, "stall_timeout_s": 300.0},
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(to_dict(merge(config, changes))))
    study = start(path)
    out, err = study.communicate(timeout=580)
    assert study.returncode == 0, err[-3000:]
    facts = json.loads(out.splitlines()[-1])
    assert facts["num_finished"] + facts["num_pruned"] == 2
    found = children(config, facts["run_id"])
    pruned = [run for run in found if run.data.tags.get("pruned") == "true"]
    assert {run.info.status for run in found} <= {"FINISHED", "KILLED"}
    assert len(pruned) == facts["num_pruned"]
    assert not [run for run in found if "failure" in run.data.tags]


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.tune", "--config", str(path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(find, process: subprocess.Popen[str], *, timeout_s: float = 400.0):
    end = time.monotonic() + timeout_s
    while not (found := find()):
        assert process.poll() is None, process.stderr.read()[-3000:] if process.stderr else ""
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def ended_and_running(folder: Path) -> bool:
    """Some trial has ended, and another has a validation behind it and more before it."""
    records = Ledger(Config(), folder).records()
    return any(one.status in (FINISHED, PRUNED) for one in records) and any(
        one.status == "open" and one.history for one in records
    )


@pytest.mark.slow
def test_a_study_without_a_free_cpu_ends_and_names_what_waits(
    config: Config, tiny_blocks: Path, ray_session: None
):
    import ray
    from ray.util import placement_group, remove_placement_group

    occupied = placement_group([{"CPU": 1}] * int(ray.cluster_resources()["CPU"]))
    ray.get(occupied.ready())
    short = merge(config, {"tune": {"stall_timeout_s": 5.0}})
    with pytest.raises(RunFailed) as stalled:
        tune(short, command=[], say=quiet)
    assert stalled.value.reason == "stalled"
    assert "no trial started, reported or ended for 5 s: 000-" in str(stalled.value)
    assert "1 CPU each of which 0 of 4 free" in str(stalled.value)
    (study,) = [run for run in runs(config) if "study" in run.data.tags]
    assert (study.info.status, study.data.tags["failure"]) == ("FAILED", "stalled")
    remove_placement_group(occupied)


@pytest.mark.slow
def test_a_trial_that_breaks_is_told_and_the_others_stand(
    config: Config, tiny_blocks: Path, ray_session: None
):
    space = ["model.image_weights grid none /nowhere/weights.pt"]
    broken = {"train": {"num_epochs": 2}, "tune": {"space": space, "num_samples": 1}}
    said: list[str] = []
    told = tune(merge(config, broken), command=[], say=said.append)
    assert (told.facts["num_finished"], told.facts["num_failed"]) == (1, 1)
    (line,) = [line for line in told.text.splitlines() if " failed: " in line]
    assert "/nowhere/weights.pt" in line
    assert any(" error after 0 epochs (" in line for line in said)
    (run,) = runs(config, "attributes.status = 'FAILED'")
    assert run.data.tags["mlflow.parentRunId"] == told.facts["run_id"]


def test_a_wrong_space_is_refused_before_anything_starts(config: Config):
    wrong = merge(config, {"tune": {"space": ["train.lr uniform 0 1"]}})
    with pytest.raises(ValueError, match=r"tune\.space 'train\.lr uniform 0 1': train\.lr is 0\.0"):
        tune(wrong, command=[], say=quiet)
    assert not Path(config.storage_path).exists()


def test_a_training_that_no_cluster_could_start_is_one_sentence(
    config: Config, tiny_blocks: Path, ray_session: None
):
    huge = merge(config, {"scaling": {"cpus_per_worker": 64.0}})
    with pytest.raises(RunFailed, match="one training needs 64 CPU but the cluster has 4"):
        tune(huge, command=[], say=quiet)
    many = merge(config, {"tune": {"num_parallel": 9}})
    with pytest.raises(
        RunFailed, match="9 trainings side by side need 9 CPU but the cluster has 4"
    ):
        tune(many, command=[], say=quiet)
