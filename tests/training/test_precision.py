"""What a run is computed in: said once, kept in MLflow and in checkpoints, gone on in."""

import json
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.models.precision import choose_precision
from pipeline.training import checkpoints
from pipeline.training.loop import train
from pipeline.training.train_job import TrainJob
from pipeline.training.trainer import Trained, fit
from pipeline.training.worker import single_worker

POINTS_ALONE = {"fusion": "lidar_only", "lidar_backbone": "point_mlp"}
"""Without convolutions, which a CPU computes in fp16 a hundred times as slowly as in fp32."""


@pytest.fixture
def config(small_training: Config) -> Config:
    short = {"num_epochs": 1, "max_steps": 2, "batch_size": 4, "lr_schedule": "none"}
    return merge(small_training, {"train": short, "model": POINTS_ALONE})


def trained_in(asked: str, config: Config, *, resume: Path | str = "", steps: int = 2, say=None):
    changes = {"train": {"precision": asked, "resume": str(resume), "max_steps": steps}}
    return fit(merge(config, changes), say=say or (lambda line: None))


def newest(trained: Trained) -> Path:
    return checkpoints.whole_checkpoints(trained.folder / checkpoints.FOLDER)[-1]


def model_tensors(trained: Trained) -> dict[str, torch.Tensor]:
    tensors = load_file(newest(trained) / checkpoints.TENSORS)
    return {name: value for name, value in tensors.items() if name.startswith("model.")}


def test_what_ran_is_a_param_of_the_run_and_in_its_checkpoint_and_is_said_once(config: Config):
    lines: list[str] = []
    trained = trained_in("auto", config, say=lines.append)
    expected = choose_precision("auto", key="train.precision", device=torch.device("cpu"))
    assert checkpoints.read_meta(newest(trained)).precision == expected.name
    params = MlflowClient(config.tracking.uri).get_run(trained.run_id).data.params
    assert (params["precision"], params["train.precision"]) == (expected.name, "auto")
    assert [line for line in lines if "precision" in line] == [f"train: {expected.reason}"]


@pytest.mark.parametrize("began", ["fp32", "bf16"])
def test_a_resumed_run_goes_on_in_what_it_began_in(began: str, config: Config):
    first, lines = trained_in(began, config), []
    second = trained_in("auto", config, resume=first.folder, steps=3, say=lines.append)
    assert second.num_steps == 3
    assert checkpoints.read_meta(newest(second)).precision == began
    assert any(f"precision {began}, in which this run began" in line for line in lines)


def test_another_precision_is_refused_on_resume(config: Config):
    first = trained_in("bf16", config)
    with pytest.raises(ValueError, match=r"other settings \(train\.precision bf16 -> fp32\)"):
        trained_in("fp32", config, resume=first.folder, steps=3)


def test_a_run_that_began_by_auto_takes_the_name_of_what_it_ran_in(config: Config):
    first = trained_in("auto", config)
    ran = checkpoints.read_meta(newest(first)).precision
    assert trained_in(ran, config, resume=first.folder, steps=3).num_steps == 3


def test_a_run_without_a_checkpoint_goes_on_in_what_its_param_says(
    config: Config, tiny_blocks: Path
):
    """Workers that Ray starts again on another node, before there is a checkpoint."""
    first = trained_in("bf16", config)
    checkpoints.keep(first.folder / checkpoints.FOLDER, set())
    job = TrainJob(
        config=merge(config, {"train": {"precision": "auto"}}),
        run_id=first.run_id,
        folder=first.folder,
        blocks=tiny_blocks,
        revision="",
    )
    lines: list[str] = []
    train(single_worker(lines.append, use_gpu=False), job)
    assert checkpoints.read_meta(newest(first)).precision == "bf16"
    assert any("precision bf16, in which this run began" in line for line in lines)


def test_fp16_trains_with_a_gradient_scaler_and_resumes_to_the_bit(config: Config):
    whole = trained_in("fp16", config, steps=4)
    meta = checkpoints.read_meta(newest(whole))
    assert (meta.precision, meta.grad_scaler["scale"]) == ("fp16", 65536.0)
    assert meta.grad_scaler["_growth_tracker"] == 4
    again = trained_in("fp16", config, resume=trained_in("fp16", config).folder, steps=4)
    one, other = model_tensors(whole), model_tensors(again)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert checkpoints.read_meta(newest(again)).grad_scaler == meta.grad_scaler
    run = MlflowClient(config.tracking.uri).get_run(whole.run_id)
    assert run.data.metrics["train/loss_scale"] == 65536.0


def test_a_step_whose_scaled_gradient_overflows_is_left_out_and_does_not_end_the_run(
    config: Config,
):
    heavy = merge(config, {"loss": {"frame_weight": 1e6}})
    first = trained_in("fp16", heavy)
    before, path = model_tensors(first), newest(first) / checkpoints.META
    facts = json.loads(path.read_text())
    facts["grad_scaler"]["scale"] = 2.0**127
    path.write_text(json.dumps(facts))
    second = trained_in("fp16", heavy, resume=first.folder, steps=3)
    meta = checkpoints.read_meta(newest(second))
    assert meta.position.step == 3
    assert meta.grad_scaler["scale"] == 2.0**126
    after = model_tensors(second)
    assert all(torch.equal(before[name], after[name]) for name in before)
