"""What Ray Train's errors become: one sentence with a way out."""

import dataclasses
from pathlib import Path

import pytest
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
)
from torch import nn

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.training import checkpoints
from pipeline.training.checkpoints import CheckpointMeta, Position
from pipeline.training.ray_errors import failure_of
from pipeline.training.train_job import TrainJob

NO_CHECKPOINT = "; it had no checkpoint yet, so start it again"


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    config = merge(Config(), {"scaling": {"num_workers": 2, "max_failures": 3}})
    return TrainJob(config=config, run_id="r", folder=tmp_path, blocks=tmp_path, revision="v")


def with_checkpoint(job: TrainJob) -> None:
    meta = CheckpointMeta(
        position=Position(epoch=0, step_in_epoch=1, step=1),
        config={},
        run_id="r",
        split_hash="s",
        revision="v",
        prior=0.1,
        metrics={},
        thresholds={},
        best={},
        history=[],
        epoch_loss=[],
        largest_grad_norm=0.0,
        precision="fp32",
        grad_scaler={},
    )
    checkpoints.save_checkpoint(job.folder / checkpoints.FOLDER, nn.Linear(1, 1), None, meta)


def test_an_error_of_a_worker_is_told_by_its_last_line(job: TrainJob):
    error = WorkerGroupError("two pages", {1: ValueError("Traceback\n  line 7\nKeyError: 'x'\n")})
    failure = failure_of(error, job)
    assert failure.reason == "worker_error"
    assert str(failure) == (
        "worker 1 of 2 failed (KeyError: 'x') and scaling.max_failures=3 allows no further restart"
        + NO_CHECKPOINT
    )
    assert failure.facts == {"run_id": "r", "folder": str(job.folder)}


def test_the_lost_worker_is_named_and_not_the_one_that_noticed_first(job: TrainJob):
    gone = WorkerHealthCheckFailedError("a page", failure=RuntimeError("another page"))
    error = WorkerGroupError("", {0: RuntimeError("Connection closed by peer"), 1: gone})
    assert str(failure_of(error, job)).startswith(
        "worker 1 of 2 failed (its process or its node died) and"
    )


def test_a_worker_that_took_too_much_memory_is_told_as_that(job: TrainJob):
    ray_says = "a page\nset the environment variable `RAY_memory_usage_threshold` when starting Ray"
    gone = WorkerHealthCheckFailedError("a page", failure=RuntimeError(ray_says))
    for error in (WorkerGroupError("", {0: gone}), ControllerError(OSError(ray_says))):
        assert "(Ray ended it, as the memory of its node ran out)" in str(failure_of(error, job))


def test_workers_that_never_started_are_missing_resources(job: TrainJob):
    with_checkpoint(job)
    failure = failure_of(ControllerError(WorkerGroupStartupTimeoutError(num_workers=2)), job)
    assert failure.reason == "no_resources"
    assert str(failure) == (
        "the cluster did not give 2 workers 1 CPU each within scaling.start_timeout_s=120, as "
        "nodes were lost or are in use; add nodes or lower scaling.num_workers; "
        f"train.resume={job.folder} goes on from its last checkpoint"
    )


def test_missing_gpus_are_named(job: TrainJob):
    config = merge(job.config, {"scaling": {"use_gpu": True}})
    wants_gpus = dataclasses.replace(job, config=config)
    failure = failure_of(ControllerError(WorkerGroupStartupTimeoutError(2)), wants_gpus)
    assert "did not give 2 workers 1 CPU and 1 GPU each" in str(failure)


def test_another_error_of_the_controller_is_told_as_it_is(job: TrainJob):
    failure = failure_of(ControllerError(OSError("disk full")), job)
    assert failure.reason == "worker_error"
    assert str(failure) == "Ray Train failed (disk full)" + NO_CHECKPOINT
