"""Names of settings: what they were called before, and what other libraries call them.

An unknown key is answered by its meaning first, then by its spelling.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

RENAMED = {
    "ablate.rows": "ablate.variants",
    "data.record": "data.zenodo_record",
    "data.record_url": "data.zenodo_url",
    "data.window": "data.num_sweeps",
    "data.window_shards": "data.shuffle_shards",
    "evaluation.interval_seed": "evaluation.bootstrap_seed",
    "evaluation.near_classes": "evaluation.lookalike_classes",
    "guards.collapse_steps": "health_checks.collapse_steps",
    "guards.enabled": "health_checks.enabled",
    "guards.no_signal_margin": "health_checks.no_signal_margin",
    "train.choose_by": "train.monitor",
    "train.restarts": "train.lr_restart_epochs",
    "train.schedule": "train.lr_schedule",
    "tune.grace_validations": "tune.grace_period",
}
"""Keys of before and their names now."""
REPLACED = {"compare.fusions": "ablate.variants", "compare.world_seeds": "ablate.worlds"}
"""Keys of before whose work other keys do, written in another way."""
RENAMED_VALUES = {("loss.name", "seed_self_supervised"): "prior_self_supervised"}

MEANINGS = {
    "accumulate_grad_batches": "train.frames_per_gpu",
    "architecture": "model.name",
    "backbone": "model.lidar_backbone",
    "batch": "train.batch_size",
    "check_val_every_n_epoch": "train.validate_every_n_epochs",
    "checkpoint": "evaluation.checkpoint",
    "ckpt_path": "evaluation.checkpoint",
    "clip_grad_norm": "train.grad_clip",
    "criterion": "loss.name",
    "data_dir": "data.root",
    "data_root": "data.root",
    "dataset_root": "data.root",
    "dataroot": "data.root",
    "devices": "scaling.num_workers",
    "early_stopping_patience": "train.patience",
    "epochs": "train.num_epochs",
    "eval_batch_size": "evaluation.batch_size",
    "experiment_name": "tracking.experiment",
    "fp16": "train.precision",
    "fusion_type": "model.fusion",
    "gpus": "scaling.use_gpu",
    "grad_norm": "train.grad_clip",
    "gradient_accumulation_steps": "train.frames_per_gpu",
    "gradient_clip_val": "train.grad_clip",
    "image_size": "prepare.image_width",
    "img_size": "prepare.image_width",
    "learning_rate": "train.lr",
    "load_from": "evaluation.checkpoint",
    "log_dir": "storage_path",
    "log_interval": "train.log_every_n_steps",
    "logdir": "storage_path",
    "lr_scheduler": "train.lr_schedule",
    "max_epochs": "train.num_epochs",
    "max_iters": "train.max_steps",
    "mlflow_uri": "tracking.uri",
    "n_epochs": "train.num_epochs",
    "n_trials": "tune.num_samples",
    "nproc_per_node": "scaling.num_workers",
    "num_gpus": "scaling.num_workers",
    "num_heads": "model.attention_heads",
    "num_trials": "tune.num_samples",
    "optim": "train.optimizer",
    "output_dir": "storage_path",
    "random_seed": "train.seed",
    "resume_from": "train.resume",
    "resume_from_checkpoint": "train.resume",
    "run_name": "tracking.run_name",
    "samples_per_gpu": "train.frames_per_gpu",
    "save_dir": "storage_path",
    "scheduler": "train.lr_schedule",
    "sweeps": "data.num_sweeps",
    "test_size": "prepare.test_fraction",
    "threads": "train.num_threads",
    "tracking_uri": "tracking.uri",
    "val_interval": "train.validate_every_n_epochs",
    "val_size": "prepare.val_fraction",
    "val_split": "prepare.val_fraction",
    "warmup": "train.warmup_steps",
    "wd": "train.weight_decay",
    "work_dir": "storage_path",
    "workers": "scaling.num_workers",
    "world_size": "scaling.num_workers",
}
"""Words of Lightning, torchtune, mmdetection, Hugging Face and sklearn, by their last part."""
FIRST = ("train", "model", "data", "evaluation", "scaling")
"""Sections in whose order a last part that several sections have is looked for."""


def demand_known(key: str, known: Sequence[str]) -> None:
    """ValueError with the key that was meant unless `key` is one of `known`."""
    if key in known:
        return
    if key in RENAMED:
        raise ValueError(f"{key} is now called {RENAMED[key]!r}; write that in its place")
    if key in REPLACED:
        raise ValueError(f"{key} is gone; see {REPLACED[key]!r} in docs/config.md")
    raise ValueError(f"unknown key {key!r}; did you mean {nearest(key, known)!r}?")


def nearest(key: str, known: Sequence[str]) -> str:
    """The key of `known` that means the same, or else the one that is spelled most alike."""
    name = key.lower().replace("-", "_")
    last = name.rpartition(".")[2]
    for word in (name, last):
        if word in MEANINGS:
            return MEANINGS[word]
    same = [one for one in known if one.rpartition(".")[2] == last]
    if same:
        return min(same, key=lambda one: (_place(one), known.index(one)))
    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def _place(key: str) -> int:
    section = key.partition(".")[0]
    return FIRST.index(section) if section in FIRST else len(FIRST)


def with_names_of_now(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A config that an older run has recorded, under today's names."""
    now = {name: dict(part) if isinstance(part, Mapping) else part for name, part in tree.items()}
    for old, new in RENAMED.items():
        section, _, name = old.partition(".")
        if name in now.get(section, {}):
            to_section, _, to_name = new.partition(".")
            now.setdefault(to_section, {})[to_name] = now[section].pop(name)
            if not now[section]:
                del now[section]
    for section in {key.partition(".")[0] for key in REPLACED}:
        now.pop(section, None)
    for (key, value), new in RENAMED_VALUES.items():
        section, _, name = key.partition(".")
        if now.get(section, {}).get(name) == value:
            now[section][name] = new
    return now
