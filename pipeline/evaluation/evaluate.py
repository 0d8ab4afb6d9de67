"""One evaluation on the locked test split: scores, controls, table, figures, all in the run.

The threshold comes from validation (stored in the checkpoint), never from test. What a constant
predictor and a boosted tree on plain features reach on the same points stands beside every number.
"""

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.config.load import recorded
from pipeline.config.schema import Config
from pipeline.data.block_reader import BlockReader
from pipeline.data.frames import Extra
from pipeline.data.manifest import Manifest
from pipeline.data.prepare.prepare import find_blocks
from pipeline.evaluation.baselines import best_of
from pipeline.evaluation.boosted_tree import baseline_name
from pipeline.evaluation.curves import draw_levels
from pipeline.evaluation.examples import choose_examples, draw_example
from pipeline.evaluation.results_table import TABLE_METRICS, model_name, result_rows
from pipeline.evaluation.split_scores import (
    drawing_device,
    open_splits,
    probe_tallies_of,
    score_splits,
)
from pipeline.metrics.tally import SplitCounts
from pipeline.models.detector import build_detector
from pipeline.runtime.progress import Watch
from pipeline.tracking import model_registry, runs
from pipeline.training import checkpoints
from pipeline.training.checkpoints import CheckpointMeta
from pipeline.training.report import data_note
from pipeline.training.trainer import last_run
from pipeline.visualization.tables import Row, results_markdown, write_results_csv

_FOLDER = "test"
TABLE_SLICES = (
    "point",
    "point_in_view",
    "small_object",
    "small_object_in_view",
    "voxel",
    "voxel_anomalies_only",
    "pixel",
    "frame",
    "frame_static",
    "frame_static_20in_view",
    "frame_dynamic",
    "point_held_out_in_view",
    "frame_held_out",
)
"""Slices of the printed table; the CSV holds all of them."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Counts, table and the facts for the job's JSON."""

    tally: SplitCounts
    tally_path: Path
    text: str
    facts: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A trained model with what its checkpoint says of itself."""

    model: nn.Module
    meta: CheckpointMeta
    num_sweeps: int
    """`data.num_sweeps` of the training."""
    extras: tuple[Extra, ...]
    """What batches must hold beside the rest for every level that the model scores."""
    folder: Path
    """Where results go: the run folder, or a checkpoint folder that lies outside of one."""


def evaluate(config: Config, *, watch: Watch) -> Evaluated:
    """Evaluate `evaluation.checkpoint`, or the run that finished last, on the test split.

    Raises ValueError when there is no checkpoint or the shards hold another split than the one it
    was trained on.
    """
    return evaluate_run(config, chosen_run(config), watch=watch)


def evaluate_run(config: Config, place: Path, *, watch: Watch) -> Evaluated:
    """`evaluate` for a given run folder or checkpoint folder."""
    loaded = open_run(config, place)
    blocks = find_blocks(config)
    splits = open_splits(
        config,
        split_hash=loaded.meta.split_hash,
        num_sweeps=loaded.num_sweeps,
        extras=loaded.extras,
    )
    tally, baseline, precision = score_splits(config, loaded.model, splits, blocks, watch=watch)
    windows = splits["test"].reader
    probes = best_of(probe_tallies_of(splits, tally).values())
    rows = result_rows(config, loaded.meta, tally, baseline, probes)
    folder = loaded.folder / _FOLDER
    figures = _draw(config, loaded, windows, tally, baseline, rows, folder)
    write_results_csv(rows, folder / "results.csv")
    tally.to_file(folder / "tally.npz")
    table = _table(rows, windows.manifest)
    text = f"{table}\n\nFigures\n" + "\n".join(f"  {path}" for path in figures)
    (folder / "results.md").write_text(text + "\n")
    controls = baseline.metrics("baseline") | {f"probe/{n}": m.value for n, m in probes.items()}
    _log(config, loaded.meta.run_id, tally, controls, folder)
    runs.set_description(config.tracking, loaded.meta.run_id, table)
    model = _log_model(config, loaded)
    shown = {name: value for name, value in tally.metrics("test").items() if name in _HEADLINES}
    facts = {
        "run_id": loaded.meta.run_id,
        "split_hash": loaded.meta.split_hash,
        "table": str(folder / "results.md"),
        "figures": [str(path) for path in figures],
        "logged_model": model,
        "precision": precision,
        **shown,
    }
    return Evaluated(tally=tally, tally_path=folder / "tally.npz", text=text, facts=facts)


def chosen_run(config: Config) -> Path:
    """`evaluation.checkpoint`, or the run that finished last; ValueError when there is none."""
    place = config.evaluation.checkpoint
    return Path(place) if place else last_run(config)


def open_run(config: Config, place: Path) -> Loaded:
    """A run or checkpoint folder, wherever it is stored; ValueError unless MLflow knows its run."""
    _fetch(config, place)
    loaded = load_run(place)
    runs.demand_run(config.tracking, loaded.meta.run_id)
    return loaded


def _fetch(config: Config, place: Path) -> None:
    """Bring a run, or the run that a checkpoint belongs to, here from a remote storage path."""
    if place.is_relative_to(config.storage_path):
        in_run = place.parent.name == checkpoints.FOLDER
        checkpoints.fetch(config, place.parent.parent if in_run else place)


_HEADLINES = (
    "test/point_ap",
    "test/point_fpr95",
    "test/point_prevalence",
    "test/point_in_view_ap",
    "test/small_object_ap",
    "test/voxel_ap",
    "test/pixel_ap",
    "test/frame_auroc",
    "test/frame_static_auroc",
    "test/semantic_miou",
)


def load_run(place: Path) -> Loaded:
    """The best model of a run folder, or the one of a checkpoint folder; nothing is unpickled."""
    checkpoint = checkpoints.find(place)
    meta = checkpoints.read_meta(checkpoint)
    trained = recorded(meta.config)
    model = build_detector(
        trained.model,
        prior=meta.prior,
        num_classes=len(meta.semantic_classes),
        num_sweeps=trained.data.num_sweeps,
        fetch_weights=False,
    )
    checkpoints.load_model(checkpoint, model)
    folder = checkpoint.parent
    in_run = folder.name == checkpoints.FOLDER
    return Loaded(
        model=model.eval(),
        meta=meta,
        num_sweeps=trained.data.num_sweeps,
        extras=_extras(trained),
        folder=folder.parent if in_run else checkpoint,
    )


def _extras(trained: Config) -> tuple[Extra, ...]:
    """Voxels always: the baseline that shares the batches is counted on them."""
    return ("voxels", "pixels") if trained.model.pixel_head else ("voxels",)


def _table(rows: list[Row], manifest: Manifest) -> str:
    shown = [
        row
        for row in rows
        if row.metric == "test/semantic_miou"
        or any(
            row.metric == f"test/{name}_{metric}"
            for name in TABLE_SLICES
            for metric in TABLE_METRICS
        )
    ]
    shown = [dataclasses.replace(row, metric=row.metric.removeprefix("test/")) for row in shown]
    head = ", ".join(part for part in ("Test split", data_note(manifest)) if part)
    return (
        f"{head}\n\n{results_markdown(shown)}\n\n"
        f"baseline: {baseline_name(manifest)} on plain point features. "
        "constant predictor: AP = prevalence. shortcut probe: the best of three that see only a "
        "frame's archive, its number, or both."
    )


def _draw(
    config: Config,
    loaded: Loaded,
    reader: BlockReader,
    tally: SplitCounts,
    baseline: SplitCounts,
    rows: list[Row],
    folder: Path,
) -> list[Path]:
    note = data_note(reader.manifest)
    paths = draw_levels(
        tally,
        baseline,
        rows,
        folder,
        name=model_name(loaded.meta),
        plain=baseline_name(reader.manifest),
        thresholds=loaded.meta.thresholds,
        note=note,
    )
    threshold = loaded.meta.thresholds.get("point")
    if threshold is not None:
        for example in choose_examples(tally.frames(), threshold=threshold):
            paths += draw_example(
                example,
                loaded.model,
                reader,
                folder,
                thresholds=loaded.meta.thresholds,
                device=drawing_device(config),
                note=note,
            )
    return paths


def _log(
    config: Config, run_id: str, tally: SplitCounts, controls: dict[str, float], folder: Path
) -> None:
    runs.log_metrics(config.tracking, run_id, tally.metrics("test") | controls)
    runs.log_artifacts(config.tracking, run_id, folder, subfolder=_FOLDER)


def _log_model(config: Config, loaded: Loaded) -> str:
    """The evaluated weights, without the optimizer's moments, as the run's MLflow model."""
    with tempfile.TemporaryDirectory() as place:
        slim = checkpoints.save_checkpoint(Path(place), loaded.model, None, loaded.meta)
        return model_registry.log_model(config.tracking, loaded.meta.run_id, checkpoint=slim)
