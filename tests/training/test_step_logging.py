"""What rank 0 says and logs: means over steps, an ETA, validations."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from pipeline.config.schema import Config, TrackingConfig, TrainConfig
from pipeline.tracking import runs
from pipeline.tracking.metric_logger import MetricLogger
from pipeline.training.step_logging import StepLogger
from pipeline.training.timing import StepClock
from pipeline.training.worker import Worker

History = Callable[[str], list[tuple[int, float]]]


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def logged(
    new_store: Callable[[Path], str], tmp_path: Path
) -> Iterator[tuple[MetricLogger, History]]:
    config = TrackingConfig(uri=new_store(tmp_path))
    run_id = runs.start_run(config, name="telling", params={}, tags={})
    metrics = MetricLogger(config.uri, run_id)

    def history(key: str) -> list[tuple[int, float]]:
        metrics.flush()
        points = MlflowClient(config.uri).get_metric_history(run_id, key)
        return [(point.step, point.value) for point in points]

    yield metrics, history
    metrics.close()


def make_logger(
    metrics: MetricLogger, lines: list[str], clock: StepClock | None = None
) -> StepLogger:
    worker = Worker(
        rank=0,
        num_workers=1,
        device=torch.device("cpu"),
        barrier=lambda metrics: None,
        progress=lines.append,
    )
    config = Config(train=TrainConfig(num_epochs=2, log_every_n_steps=2))
    clock = clock or StepClock(worker.device)
    return StepLogger(config, worker, metrics, clock=clock, first_step=0, total_steps=5)


def test_the_mean_of_the_steps_since_the_last_line_is_logged_and_the_last_step_always(
    logged, lines: list[str]
):
    metrics, history = logged
    clock = StepClock(torch.device("cpu"))
    step_logger = make_logger(metrics, lines, clock)
    for step, loss in enumerate((1.0, 3.0, 5.0, 7.0, 9.0), start=1):
        clock.begin(4)
        step_logger.step(step, {"train/loss": loss}, epoch=0)
    assert history("train/loss") == [(2, 2.0), (4, 6.0), (5, 9.0)]
    assert all(value > 0 for _, value in history("perf/frames_per_s"))


def test_a_progress_line_tells_epoch_step_rate_loss_and_eta(logged, lines: list[str]):
    step_logger = make_logger(logged[0], lines)
    step_logger.step(1, {"train/loss": 0.5}, epoch=0)
    step_logger.step(2, {"train/loss": 0.5}, epoch=0)
    assert lines[0].startswith("train: epoch 1/2, step 2/5, ")
    assert "frames/s, loss 0.5000, ETA " in lines[0]


def test_a_validation_is_logged_whole_and_said_short(logged, lines: list[str]):
    metrics, history = logged
    found = {"val/point_ap": 0.25, "val/point_auroc": 0.75, "val/point_loss": 1.0}
    make_logger(metrics, lines).validation(4, found, duration_s=1.0)
    assert {key: history(key) for key in found} == {k: [(4, v)] for k, v in found.items()}
    assert lines == ["train: validation at step 4: point_ap 0.250, point_auroc 0.750"]


def test_a_metric_that_some_steps_lack_is_the_mean_of_the_others(logged, lines: list[str]):
    metrics, history = logged
    step_logger = make_logger(metrics, lines)
    step_logger.step(1, {"train/loss": 1.0, "train/grad_norm": 4.0}, epoch=0)
    step_logger.step(2, {"train/loss": 3.0}, epoch=0)
    assert history("train/loss") == [(2, 2.0)]
    assert history("train/grad_norm") == [(2, 4.0)]


def test_waits_and_frames_are_those_since_the_last_line(logged, lines: list[str]):
    metrics, history = logged
    clock = StepClock(torch.device("cpu"))
    step_logger = make_logger(metrics, lines, clock)
    for step, (wait_s, work_s) in enumerate([(0.0, 0.04), (0.0, 0.04), (0.06, 0.02)] * 2, start=1):
        time.sleep(wait_s)
        clock.begin(7)
        time.sleep(work_s)
        clock.lap("forward")
        if step < 6:
            step_logger.step(step, {"train/loss": 1.0}, epoch=0)
    waits = dict(history("perf/data_wait_share"))
    assert waits[2] < 0.2
    assert 0.4 < waits[4] < 0.7
    assert history("perf/step_ms")[0][1] == pytest.approx(40, rel=0.5)
    assert 60 < dict(history("perf/frames_per_s"))[2] <= 7 / 0.04


def test_the_end_says_where_the_time_went_and_what_it_waited_for(logged, lines: list[str]):
    clock = StepClock(torch.device("cpu"))
    step_logger = make_logger(logged[0], lines, clock)
    time.sleep(0.05)
    clock.begin(4)
    time.sleep(0.15)
    clock.lap("backward")
    time.sleep(0.2)
    clock.skip()
    step_logger.end()
    (line,) = lines
    found = re.fullmatch(
        r"train: 1 steps in [\d.]+ s: data ([\d.]+) %, forward 0\.0 %, all-reduce 0\.0 %, "
        r"backward ([\d.]+) %, optimizer 0\.0 %, tracking 0\.0 %, validation, checkpoints and the "
        r"rest ([\d.]+) %; steps waited ([\d.]+) s for their batches and ran at ([\d.]+) of the "
        r"rate with batches that are always ready",
        line,
    )
    assert found, line
    data, backward, rest, waited_s, share = map(float, found.groups())
    assert (data, backward, rest) == pytest.approx((12.5, 37.5, 50), abs=6)
    assert waited_s == pytest.approx(0.05, abs=0.03)
    assert share == pytest.approx(0.75, abs=0.1)


def test_a_training_without_steps_has_nothing_to_say(logged, lines: list[str]):
    make_logger(logged[0], lines).end()
    assert lines == []
