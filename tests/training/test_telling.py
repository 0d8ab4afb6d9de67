"""What rank 0 says and logs: means over steps, an ETA, validations."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from pipeline import tracking
from pipeline.config import Config, TrackingConfig, TrainConfig
from pipeline.metric_logger import MetricLogger
from pipeline.training.telling import StepTeller
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
    run_id = tracking.start_run(config, name="telling", params={}, tags={})
    metrics = MetricLogger(config.uri, run_id)

    def history(key: str) -> list[tuple[int, float]]:
        metrics.flush()
        points = MlflowClient(config.uri).get_metric_history(run_id, key)
        return [(point.step, point.value) for point in points]

    yield metrics, history
    metrics.close()


def make_teller(metrics: MetricLogger, lines: list[str]) -> StepTeller:
    worker = Worker(
        rank=0,
        num_workers=1,
        device=torch.device("cpu"),
        barrier=lambda metrics: None,
        progress=lines.append,
    )
    config = Config(train=TrainConfig(num_epochs=2, log_every_n_steps=2))
    return StepTeller(config, worker, metrics, first_step=0, total_steps=5)


def test_the_mean_of_the_steps_since_the_last_line_is_logged_and_the_last_step_always(
    logged, lines: list[str]
):
    metrics, history = logged
    teller = make_teller(metrics, lines)
    for step, loss in enumerate((1.0, 3.0, 5.0, 7.0, 9.0), start=1):
        teller.step(step, {"train/loss": loss}, epoch=0)
    assert history("train/loss") == [(2, 2.0), (4, 6.0), (5, 9.0)]
    assert all(value > 0 for _, value in history("perf/frames_per_s"))


def test_a_progress_line_tells_epoch_step_rate_loss_and_eta(logged, lines: list[str]):
    teller = make_teller(logged[0], lines)
    teller.step(1, {"train/loss": 0.5}, epoch=0)
    teller.step(2, {"train/loss": 0.5}, epoch=0)
    assert lines[0].startswith("train: epoch 1/2, step 2/5, ")
    assert "frames/s, loss 0.5000, ETA " in lines[0]


def test_a_validation_is_logged_whole_and_said_short(logged, lines: list[str]):
    metrics, history = logged
    found = {"val/point_ap": 0.25, "val/point_auroc": 0.75, "val/point_loss": 1.0}
    make_teller(metrics, lines).validation(4, found, duration_s=1.0)
    assert {key: history(key) for key in found} == {k: [(4, v)] for k, v in found.items()}
    assert lines == ["train: validation at step 4: point_ap 0.250, point_auroc 0.750"]


def test_a_metric_that_some_steps_lack_is_the_mean_of_the_others(logged, lines: list[str]):
    metrics, history = logged
    teller = make_teller(metrics, lines)
    teller.step(1, {"train/loss": 1.0, "train/grad_norm": 4.0}, epoch=0)
    teller.step(2, {"train/loss": 3.0}, epoch=0)
    assert history("train/loss") == [(2, 2.0)]
    assert history("train/grad_norm") == [(2, 4.0)]
