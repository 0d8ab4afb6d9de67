"""Keys that are not there: answered with what was meant, and old ones with their new name."""

import pytest

from pipeline.config.keys import MEANINGS, RENAMED, REPLACED, nearest
from pipeline.config.load import flatten, load, recorded, to_dict
from pipeline.config.schema import Config

KNOWN = list(flatten(Config()))
GUESSES = {
    "train.learning_rate": "train.lr",
    "optimizer.lr": "train.lr",
    "epochs": "train.num_epochs",
    "trainer.max_epochs": "train.num_epochs",
    "train.batch": "train.batch_size",
    "dataloader.batch_size": "train.batch_size",
    "seed": "train.seed",
    "trainer.precision": "train.precision",
    "trainer.devices": "scaling.num_workers",
    "workers": "scaling.num_workers",
    "gpus": "scaling.use_gpu",
    "data.data_root": "data.root",
    "dataset_root": "data.root",
    "work_dir": "storage_path",
    "output-dir": "storage_path",
    "model.backbone": "model.lidar_backbone",
    "model.fusion_type": "model.fusion",
    "optim.wd": "train.weight_decay",
    "gradient_clip_val": "train.grad_clip",
    "trainer.accumulate_grad_batches": "train.frames_per_gpu",
    "resume_from": "train.resume",
    "ckpt_path": "evaluation.checkpoint",
    "mlflow.tracking_uri": "tracking.uri",
    "experiment_name": "tracking.experiment",
    "tune.num_trials": "tune.num_samples",
    "lr_scheduler": "train.lr_schedule",
    "warmup": "train.warmup_steps",
    "train.dropout": "model.dropout",
    "model.fuson": "model.fusion",
    "train.lrr": "train.lr",
}


@pytest.mark.parametrize(("guess", "meant"), GUESSES.items())
def test_a_natural_guess_is_answered_with_the_key_that_was_meant(guess: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"unknown key '{guess}'; did you mean '{meant}'"):
        load(None, [f"{guess}=1"])


@pytest.mark.parametrize(
    "meant", sorted({*MEANINGS.values(), *RENAMED.values(), *REPLACED.values()})
)
def test_every_answer_is_a_key(meant: str) -> None:
    assert meant in KNOWN


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_key_of_before_is_refused_with_its_new_name(old: str, new: str) -> None:
    with pytest.raises(ValueError, match=f"{old} is now called '{new}'"):
        load(None, [f"{old}=1"])


@pytest.mark.parametrize(("old", "new"), REPLACED.items())
def test_a_key_whose_work_others_do_is_refused_with_theirs(old: str, new: str) -> None:
    with pytest.raises(ValueError, match=f"{old} is gone; see '{new}' in"):
        load(None, [f"{old}=1"])


def test_what_a_run_recorded_before_is_read_under_the_new_names() -> None:
    old = {
        "guards": {"enabled": False},
        "compare": {"world_seeds": [1, 2], "fusions": ["late"]},
        "train": {"choose_by": "frame_ap", "restarts": [2], "schedule": "cosine"},
        "loss": {"name": "seed_self_supervised"},
        "model": {"name": "simple", "fusion": "lidar_only"},
    }
    config = recorded(old)
    assert not config.health_checks.enabled
    assert config.ablate == Config().ablate
    assert config.train.monitor == "frame_ap"
    assert config.train.lr_restart_epochs == [2]
    assert config.loss.name == "prior_self_supervised"
    assert old["guards"] == {"enabled": False}, "what was recorded stays"
    assert recorded({"data": {"window": 3}}).data.num_sweeps == 3
    assert recorded(to_dict(config)) == config


def test_a_word_that_nobody_knows_is_answered_by_spelling() -> None:
    assert nearest("trian.lr", KNOWN) == "train.lr"
