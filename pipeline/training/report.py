"""What a finished training leaves behind: curves in the run folder and in MLflow, facts as JSON."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.schema import Config
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.data.prepare.prepare import find_blocks
from pipeline.losses.anomaly import constant_predictor_loss, main_term
from pipeline.metrics.metric import definition_of, level_of, names_of
from pipeline.tracking import runs
from pipeline.training import checkpoints
from pipeline.training.checkpoint_selection import checkpoint_metric
from pipeline.training.trainer import Trained
from pipeline.visualization.plots import loss_curve, validation_curves
from pipeline.visualization.style import save_figure

_FIGURES = "figures"


def report_training(config: Config, trained: Trained) -> dict[str, Any]:
    """Draw the curves, log them and the best checkpoint to the run, return the headline facts."""
    folder = trained.folder / _FIGURES
    _draw(config, trained, folder)
    runs.log_artifacts(config.tracking, trained.run_id, folder, subfolder=_FIGURES)
    runs.log_artifacts(config.tracking, trained.run_id, trained.checkpoint, subfolder="checkpoint")
    meta = checkpoints.read_meta(trained.checkpoint)
    return {
        "run_id": trained.run_id,
        "folder": str(trained.folder),
        "checkpoint": str(trained.checkpoint),
        "split_hash": meta.split_hash,
        "num_steps": trained.num_steps,
        **meta.metrics,
    }


def _draw(config: Config, trained: Trained, folder: Path) -> None:
    manifest = read_manifest(find_blocks(config))
    note = data_note(manifest)
    term, history = main_term(config.loss), trained.history
    losses = runs.read_history(config.tracking, trained.run_id, f"train/{term}_loss")
    steps = np.array([step for step, _ in losses])
    values = np.array([value for _, value in losses])
    name = f"val/{term}_loss"
    val_losses = [(row["step"], row[name]) for row in history if name in row]
    figure = loss_curve(
        steps,
        values,
        val_steps=np.array([step for step, _ in val_losses]),
        val_losses=np.array([value for _, value in val_losses]),
        constant_loss=_constant_loss(config, manifest, history),
        note=note,
    )
    save_figure(figure, folder / "loss.png")
    chosen = checkpoint_metric(config).removeprefix("val/")
    shown = dict.fromkeys([*names_of("drawn"), chosen])
    curves = {name: np.array([row.get(f"val/{name}", np.nan) for row in history]) for name in shown}
    constants = {
        name: definition_of(name).constant(history[-1][f"val/{level_of(name)}_prevalence"])
        for name in names_of("chooses_checkpoint")
        if name in shown and f"val/{level_of(name)}_prevalence" in history[-1]
    }
    figure = validation_curves(
        np.array([row["epoch"] for row in history]),
        curves,
        chosen_by=chosen,
        lower_is_better=not definition_of(chosen).higher_is_better,
        constants=constants,
        note=note,
    )
    save_figure(figure, folder / "validation.png")


def _constant_loss(config: Config, manifest: Manifest, history: list[dict[str, float]]) -> float:
    """What the best constant answer reaches in the term that is drawn."""
    if config.loss.name == "cross_entropy":
        return history[-1]["val/semantic_constant_loss"]
    balance = manifest.point_balance("train")
    return constant_predictor_loss(balance.prior, config=config.loss, pos_weight=balance.pos_weight)


def data_note(manifest: Manifest) -> str:
    """The stamp of every figure: whether the data were synthetic."""
    return "synthetic data" if manifest.is_synthetic else ""
