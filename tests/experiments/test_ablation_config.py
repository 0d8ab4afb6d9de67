"""The rows of configs/ablation.yaml: complete, legal, and able to learn.

Every axis of the prior system's ablations is a row of configs/ablation.yaml or a flag.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config.load import flatten, load, merge, override, to_dict
from pipeline.config.schema import Config
from pipeline.evaluation.probes import FACTS
from pipeline.experiments.timing import learn, make_subject, score
from pipeline.experiments.variants import row_configs
from pipeline.training.trainer import config_hash
from pipeline.training.worker import single_worker
from tests.helpers.repository import REPOSITORY

CONFIGS = REPOSITORY / "configs"
GRIDS = sorted(path for path in CONFIGS.glob("*.yaml") if load(path).ablate.variants != ["full"])
BASE = "cross_attention"
AXES: dict[str, dict[str, dict[str, Any]]] = {
    "modalities": {
        BASE: {"model.fusion": "cross_attention"},
        "image_only": {"model.fusion": "camera_only"},
        "lidar_only": {"model.fusion": "lidar_only"},
    },
    "fusion": {
        BASE: {"model.fusion": "cross_attention"},
        "late": {"model.fusion": "late"},
        "no_attention": {"model.fusion": "concat"},
        "gated": {"model.fusion": "gated"},
    },
    "positional encoding": {
        BASE: {"model.positional_encoding": "sincos"},
        "no_pe": {"model.positional_encoding": "none"},
        "learned_pe": {"model.positional_encoding": "learned"},
        "hybrid_pe": {"model.positional_encoding": "hybrid"},
    },
    "alignment": {
        BASE: {"model.alignment": "projection"},
        "no_alignment": {"model.alignment": "none"},
        "scrambled": {"model.alignment": "scrambled"},
    },
    "heads": {
        BASE: {"model.attention_heads": 4},
        "one_head": {"model.attention_heads": 1},
        "eight_heads": {"model.attention_heads": 8},
    },
    "what is in attention": {
        BASE: {"model.attention_ffn": True, "model.attention_residual": True},
        "no_ffn": {"model.attention_ffn": False},
        "no_residual": {"model.attention_residual": False},
    },
    "point pooling": {
        BASE: {"model.point_pooling": "max"},
        "mean_pooling": {"model.point_pooling": "mean"},
        "attention_pooling": {"model.point_pooling": "attention"},
    },
    "width": {
        BASE: {"model.point_channels": 64, "model.image_channels": 64},
        "half_width": {"model.point_channels": 32, "model.image_channels": 32},
    },
    "image backbone": {
        BASE: {"model.image_weights": "none", "model.freeze_image_backbone": False},
        "frozen_random_image": {"model.freeze_image_backbone": True},
    },
    "point backbone": {
        BASE: {"model.lidar_backbone": "pillars"},
        "point_mlp": {"model.lidar_backbone": "point_mlp"},
        "cylinder3d": {"model.lidar_backbone": "cylinder3d"},
    },
    "loss": {
        BASE: {"loss.name": "focal", "loss.focal_alpha": 0.75, "loss.focal_gamma": 2.0},
        "simple": {"loss.name": "prior_self_supervised", "model.name": "simple"},
        "bce": {"loss.name": "focal", "loss.focal_alpha": 0.5, "loss.focal_gamma": 0.0},
        "bce_pos_weight": {"loss.name": "bce"},
        "focal_alpha_0.9": {"loss.focal_alpha": 0.9},
        "focal_gamma_3": {"loss.focal_gamma": 3.0},
        "dice_term": {"loss.name": "focal", "loss.dice_weight": 1.0},
        "dice": {"loss.name": "dice"},
    },
    "training data": {
        "no_anomaly_labels": {"loss.name": "cross_entropy", "model.score": "energy"},
        "semantic_head": {"model.semantic_head": True, "loss.name": "focal"},
    },
    "temporal window": {BASE: {"data.num_sweeps": 1}, "window_2": {"data.num_sweeps": 2}},
    "augmentation": {BASE: {"train.augment": True}, "no_augmentation": {"train.augment": False}},
    "input": {
        BASE: {"model.image_input": "normalised"},
        "raw_pixels": {"model.image_input": "raw"},
    },
    "controls": {"random_labels": {"train.shuffle_labels": True, "health_checks.enabled": False}},
}
"""Axis -> row -> what the row sets."""
FLAGS = {
    "pretrained image backbone": "model.image_weights=imagenet",
    "pretrained image backbone, frozen": (
        "model.image_weights=imagenet model.freeze_image_backbone=true"
    ),
    "normal scenes only": "prepare.train_kinds=[normality]",
    "longer windows": "data.num_sweeps=5",
}
"""Legal on this base, but no rows: they need a download, other shards or longer scenes."""


@pytest.fixture(scope="module")
def base() -> Config:
    return load(CONFIGS / "ablation.yaml")


@pytest.fixture(scope="module")
def rows(base: Config) -> dict[str, Config]:
    return row_configs(base, base.ablate.variants)


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.name)
def test_every_row_of_every_config_is_legal_and_changes_something(path: Path):
    config = load(path)
    found = row_configs(config, config.ablate.variants)
    assert len({config_hash(row) for row in found.values()}) == len(config.ablate.variants) > 1


def test_the_configs_with_rows_are_found():
    names = {path.name for path in GRIDS}
    assert {"ablation.yaml", "held_out_special.yaml", "held_out_home_animal.yaml"} <= names


@pytest.mark.parametrize("axis", AXES)
def test_the_axis_has_its_rows(axis: str, rows: dict[str, Config]):
    for name, settings in AXES[axis].items():
        assert settings.items() <= flatten(rows[name]).items(), name


def test_there_is_no_row_that_belongs_to_no_axis(rows: dict[str, Config]):
    assert {name for axis in AXES.values() for name in axis} == set(rows)
    assert next(iter(rows)) == BASE


def test_a_row_changes_what_its_axis_says_and_no_more(rows: dict[str, Config]):
    """But for rows that stand for a whole recipe or need a setting to be legal or affordable."""
    recipes = {"simple", "cylinder3d", "no_anomaly_labels"}
    before = flatten(rows[BASE])
    for axis in AXES.values():
        for name, settings in axis.items():
            after = flatten(rows[name])
            changed = {key for key in after if after[key] != before[key]}
            if name not in recipes:
                assert changed <= set(settings), name


@pytest.mark.parametrize("what", FLAGS)
def test_what_is_no_row_is_a_flag(what: str, base: Config):
    changed = override(base, FLAGS[what].split())
    assert config_hash(changed) != config_hash(base)


def test_the_archive_and_the_frame_index_are_probes_beside_every_result():
    assert {"archive", "frame_index"} <= set(FACTS)


def test_the_study_uses_the_demos_scenes_and_shards(base: Config):
    demo = load(CONFIGS / "demo.yaml")
    for section in ("data", "synthetic", "prepare"):
        assert getattr(base, section) == getattr(demo, section)


def test_the_prior_systems_network_is_trained_as_it_was(rows: dict[str, Config]):
    control = load(CONFIGS / "prior_control.yaml")
    row = rows["simple"]
    assert row.loss == control.loss
    assert row.health_checks == control.health_checks
    assert (row.model.name, row.model.image_input) == ("simple", "raw")
    schedule = ("num_epochs", "log_every_n_steps", "validate_every_n_epochs")
    ours, theirs = flatten(row), flatten(control)
    recipe = [k for k in ours if k.startswith("train.") and not k.endswith(schedule)]
    assert {key: ours[key] for key in recipe} == {key: theirs[key] for key in recipe}


@pytest.mark.slow
def test_every_row_has_a_forward_pass_a_loss_and_gradients(base: Config, tiny_config: Config):
    """On the tiny world; trainings of single rows are tested elsewhere."""
    place = {"root": tiny_config.data.root, "blocks": tiny_config.data.blocks}
    timing = {"num_frames": 2, "batch_size": 2}
    prepare = to_dict(tiny_config)["prepare"]
    config = merge(base, {"data": place, "profile": timing, "prepare": prepare})
    worker = single_worker(print, use_gpu=False)
    for name, row in row_configs(config, config.ablate.variants).items():
        subject = make_subject(name, row, config.profile, device=torch.device("cpu"))
        batch = subject.reader.batch(subject.rows, augment_seed=None)
        score(subject, worker, batch)
        learn(subject, worker, batch)
        gradients = [p.grad for p in subject.model.parameters() if p.requires_grad]
        assert all(grad is not None and grad.isfinite().all() for grad in gradients), name
        assert any(grad is not None and grad.any() for grad in gradients), name
