"""Trainings of models that score pixels: either reader, both worker counts, and what they learn."""

import pytest
from mlflow import MlflowClient

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.training import checkpoints
from pipeline.training.trainer import Trained, fit

PIXELS = {
    "model": {"dropout": 0.0, "pixel_head": True},
    "train": {"num_epochs": 2, "batch_size": 4},
}


@pytest.fixture
def config(small_training: Config) -> Config:
    return merge(small_training, PIXELS)


def quiet(line: str) -> None:
    pass


def curve(config: Config, trained: Trained, name: str) -> list[float]:
    history = MlflowClient(config.tracking.uri).get_metric_history(trained.run_id, name)
    return [metric.value for metric in sorted(history, key=lambda metric: metric.step)]


def test_pixels_are_trained_and_validated_beside_the_points(config: Config):
    trained = fit(merge(config, {"train": {"num_epochs": 4}}), say=quiet)
    losses = curve(config, trained, "train/pixel_loss")
    assert len(losses) == trained.num_steps
    assert sum(losses[-4:]) < sum(losses[:4])
    last = trained.history[-1]
    assert last["val/pixel_loss"] > 0
    assert last["val/pixel_ap"] > last["val/pixel_prevalence"] > 0
    (newest, *_) = reversed(checkpoints.whole_checkpoints(trained.folder / checkpoints.FOLDER))
    assert set(checkpoints.read_meta(newest).thresholds) == {"point", "frame", "pixel"}


def test_without_the_head_no_pixel_is_read_or_told(config: Config):
    without = {"model": {"pixel_head": False}, "train": {"num_epochs": 1}}
    trained = fit(merge(config, without), say=quiet)
    assert not curve(config, trained, "train/pixel_loss")
    assert not any("pixel" in name for name in trained.history[-1])


@pytest.mark.slow
def test_the_stream_trains_pixels_too(config: Config, ray_session: None):
    trained = fit(merge(config, {"data": {"reader": "stream"}}), say=quiet)
    assert len(curve(config, trained, "train/pixel_loss")) == trained.num_steps


@pytest.mark.slow
def test_two_workers_equal_one_on_pixels(config: Config, ray_session: None):
    one = fit(merge(config, {"train": {"num_epochs": 1}}), say=quiet)
    several = {"train": {"num_epochs": 1}, "scaling": {"num_workers": 2}}
    two = fit(merge(config, several), say=quiet)
    for name in ("train/pixel_loss", "train/loss"):
        alone, together = curve(config, one, name), curve(config, two, name)
        assert len(alone) == len(together) == one.num_steps
        assert alone == pytest.approx(together, rel=1e-6)
