"""Checkpoints that are whole or not there.

A checkpoint is a folder: `tensors.safetensors` (model and optimizer) and `meta.json` (position,
resolved config, split hash, metrics, SHA-256 of the tensors). Where a training averages its
weights, the model is the average and the weights that it goes on from lie beside it. It is written
under a temporary name and renamed, so a torn one never has a checkpoint's name; loading verifies
the hash and never unpickles.
"""

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.config.load import recorded
from pipeline.config.schema import Config
from pipeline.data.manifest import file_hash, flush_file
from pipeline.datasets.protocol.registry import recorded_facts
from pipeline.models.detector import build_detector
from pipeline.runtime import remote_storage

TENSORS, META = "tensors.safetensors", "meta.json"
PREFIX = "step-"
MODEL, TRAINED = "model.", "trained."
"""Of tensors' names."""
FOLDER = "checkpoints"
"""Of a run folder."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a training stands: the next step to do."""

    epoch: int
    """Epoch of the next step."""
    step_in_epoch: int
    """Steps of that epoch that are done."""
    step: int
    """Optimizer steps done since the start."""


@dataclass(frozen=True, kw_only=True)
class CheckpointMeta:
    """What a checkpoint says of itself."""

    position: Position
    config: dict[str, Any]
    run_id: str
    split_hash: str
    revision: str
    prior: float
    """Share of anomalous points in the train split, the detector's initial score."""
    metrics: dict[str, float]
    """Validation metrics at this position; empty inside an epoch."""
    thresholds: dict[str, float]
    """Score thresholds picked on validation, by level."""
    best: dict[str, Any]
    """`{"metric": .., "value": .., "step": .., "sees": ..}` of the best validation so far, empty
    before the first; `sees` says what model choice knows of the validation split."""
    history: list[dict[str, float]]
    """Metrics of every validation so far, oldest first."""
    epoch_loss: list[float]
    """Total and count of the main loss term since the epoch began and the points of each class, for
    the verdict at the end."""
    largest_grad_norm: float
    """What the collapse guard measures gradients against."""
    precision: str
    """What convolutions were computed in: fp32, bf16 or fp16."""
    grad_scaler: dict[str, float]
    """State of the gradient scaler; empty unless the precision is fp16."""
    semantic_classes: list[str] = field(default_factory=list)
    """Classes of the semantic head, in the order of its columns; empty without one."""


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    meta: CheckpointMeta,
    *,
    average: nn.Module | None = None,
) -> Path:
    """Write `folder/step-00000123` atomically and return it.

    `average` is what `load_model` finds then, and `model` what `load_trained` does.
    """
    final = folder / f"{PREFIX}{meta.position.step:08d}"
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    tensors = _model_tensors(model if average is None else average, MODEL)
    if average is not None:
        tensors |= _model_tensors(model, TRAINED)
    if optimizer is not None:
        tensors |= _optimizer_tensors(model, optimizer)
    save_file(tensors, temporary / TENSORS)
    facts = dataclasses.asdict(meta) | {"sha256": file_hash(temporary / TENSORS)}
    (temporary / META).write_text(json.dumps(facts, indent=1))
    for name in (TENSORS, META):
        flush_file(temporary / name)
    if final.exists():
        # Aside, not away: deleting takes long enough to be killed in, and then there is neither.
        old = temporary.with_suffix(".old")
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    temporary.rename(final)
    return final


def read_meta(checkpoint: Path) -> CheckpointMeta:
    """The facts of one checkpoint; ValueError when the folder is none or its tensors are torn."""
    path = checkpoint / META
    if not path.is_file():
        raise ValueError(
            f"{checkpoint} is no checkpoint: it has no {META}; give a run folder or a "
            f"folder named {PREFIX}<number>"
        )
    facts = json.loads(path.read_text())
    digest = facts.pop("sha256")
    if not (checkpoint / TENSORS).is_file() or file_hash(checkpoint / TENSORS) != digest:
        raise ValueError(
            f"{checkpoint / TENSORS} does not have the hash that {META} records; the "
            "checkpoint is damaged, use an earlier one"
        )
    facts = _completed(facts)
    facts["position"] = Position(**facts["position"])
    return CheckpointMeta(**facts)


def _completed(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts, with those that earlier versions left to the config or to the one data set."""
    config = facts["config"]
    if "precision" not in facts:
        facts |= {"precision": config["train"]["precision"], "grad_scaler": {}}
    if "semantic_classes" not in facts and config["model"].get("semantic_head"):
        facts["semantic_classes"] = list(recorded_facts(None).classes.semantic_names)
    return facts


def load_model(checkpoint: Path, model: nn.Module) -> None:
    """Load weights into `model`, which must have exactly the same tensors."""
    model.load_state_dict(_of(load_file(checkpoint / TENSORS), MODEL), strict=True)


def rebuild(checkpoint: Path) -> tuple[nn.Module, CheckpointMeta, Config]:
    """The model of a checkpoint folder, for evaluation, and what was recorded with it."""
    meta = read_meta(checkpoint)
    config = recorded(meta.config)
    model = build_detector(
        config.model,
        prior=meta.prior,
        num_classes=len(meta.semantic_classes),
        num_sweeps=config.data.num_sweeps,
        fetch_weights=False,
    )
    load_model(checkpoint, model)
    return model.eval(), meta, config


def load_trained(checkpoint: Path, model: nn.Module) -> None:
    """Load the weights that a training goes on from, which its average is not."""
    tensors = load_file(checkpoint / TENSORS)
    model.load_state_dict(_of(tensors, TRAINED) or _of(tensors, MODEL), strict=True)


def load_optimizer(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load the optimizer's moments, matched by parameter name."""
    tensors = load_file(checkpoint / TENSORS)
    for name, parameter in model.named_parameters():
        if moments := _of(tensors, f"optimizer.{name}."):
            # In the parameter's order in memory: fused kernels walk through both side by side.
            optimizer.state[parameter] = {
                k: v.to(parameter.device) if k == "step" else torch.empty_like(parameter).copy_(v)
                for k, v in moments.items()
            }


def whole_checkpoints(folder: Path) -> list[Path]:
    """Undamaged checkpoints in `folder`, oldest first; damaged ones are left out."""
    found = []
    for path in sorted(folder.glob(f"{PREFIX}*")):
        try:
            read_meta(path)
        except (ValueError, KeyError, TypeError):
            continue
        found.append(path)
    return found


def keep(folder: Path, steps: set[int]) -> None:
    """Delete every checkpoint whose step is not in `steps`, and what killed writers left."""
    for path in folder.glob(f".{PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f"{PREFIX}*"):
        if int(path.name.removeprefix(PREFIX)) not in steps:
            shutil.rmtree(path, ignore_errors=True)


def publish(config: Config, run_folder: Path) -> None:
    """Make the checkpoints at a remote storage path those of this run folder."""
    remote_storage.push_folders(config, run_folder / FOLDER, last=META)


def fetch(config: Config, run_folder: Path) -> None:
    """Make the checkpoints of this run folder those at a remote storage path."""
    remote_storage.fetch_folders(config, run_folder / FOLDER, last=META)


def find(place: Path) -> Path:
    """The checkpoint that `place` means: itself, or a run folder's best one.

    Raises ValueError when there is none.
    """
    if (place / META).is_file():
        return place
    whole = whole_checkpoints(place / FOLDER)
    if not whole:
        raise ValueError(
            f"{place} holds no whole checkpoint; train first (jobs.train) or set "
            "evaluation.checkpoint to a run folder"
        )
    best = read_meta(whole[-1]).best
    if best:
        path = place / FOLDER / f"{PREFIX}{best['step']:08d}"
        if path in whole:
            return path
    return whole[-1]


def _of(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _model_tensors(model: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}


def _optimizer_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    return {
        f"optimizer.{name}.{key}": torch.as_tensor(value).detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
