"""One evaluation on the locked test split: scores, controls, table, figures, all in the run.

The threshold comes from validation (stored in the checkpoint), never from test. What a constant
predictor and a boosted tree on plain features reach on the same points stands beside every number.
"""

import dataclasses
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline import tracking
from pipeline.config import Config
from pipeline.data.batches import BlockReader
from pipeline.data.blocks import find_blocks
from pipeline.data.readers import open_reader
from pipeline.evaluation.audit import sample_split, tally_baseline
from pipeline.evaluation.baseline import baseline_name
from pipeline.evaluation.intervals import intervals
from pipeline.evaluation.levels import Tally
from pipeline.evaluation.metrics import MAX_LOGIT
from pipeline.evaluation.scoring import Watch, score_split
from pipeline.merging import merge
from pipeline.models.detector import build_detector
from pipeline.report.examples import choose_examples, draw_example
from pipeline.report.figures import save
from pipeline.report.plots import RankingCurve, precision_recall, roc, score_histogram
from pipeline.report.tables import Row, markdown, write_csv
from pipeline.report.training_report import data_note
from pipeline.training import checkpoints
from pipeline.training.checkpoints import Meta
from pipeline.training.trainer import last_run

logger = logging.getLogger(__name__)

FOLDER = "test"
TABLE_METRICS = ("ap", "auroc", "fpr95")
TABLE_SLICES = (
    "point",
    "point_in_view",
    "small_object",
    "small_object_in_view",
    "frame",
    "frame_static",
    "frame_static_20in_view",
)
"""Slices of the printed table; the CSV holds all of them."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Counts, table and the facts for the job's JSON."""

    tally: Tally
    tally_path: Path
    text: str
    facts: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A trained model with what its checkpoint says of itself."""

    model: nn.Module
    meta: Meta
    window: int
    """`data.window` of the training."""
    folder: Path
    """Where results go: the run folder, or a checkpoint folder that lies outside of one."""


def evaluate(config: Config, *, watch: Watch) -> Evaluated:
    """Evaluate `evaluation.checkpoint`, or the run that finished last, on the test split.

    Raises ValueError when there is no checkpoint or the shards hold another split than the one it
    was trained on.
    """
    place = config.evaluation.checkpoint
    return evaluate_run(config, Path(place) if place else last_run(config), watch=watch)


def evaluate_run(config: Config, place: Path, *, watch: Watch) -> Evaluated:
    """`evaluate` for a given run folder or checkpoint folder."""
    loaded = load_run(place)
    tracking.demand_run(config.tracking, loaded.meta.run_id)
    blocks = find_blocks(config)
    readers = test_readers(config, split_hash=loaded.meta.split_hash)
    # The boosted tree and its features look at single clouds, the model at what it was trained on.
    windows = open_reader(config, blocks, "test", window=loaded.window, say=logger.info)
    tally = score_split(
        loaded.model,
        windows,
        batch_size=config.evaluation.batch_size,
        near_classes=config.evaluation.near_classes,
        device=device_of(config),
        progress=watch("test"),
    )
    baseline = baseline_of(config, readers, blocks, watch=watch)
    rows = result_rows(config, loaded.meta, tally, baseline)
    folder = loaded.folder / FOLDER
    figures = _draw(config, loaded, windows, tally, baseline, rows, folder)
    write_csv(rows, folder / "results.csv")
    tally.to_file(folder / "tally.npz")
    text = _text(rows, figures, baseline=baseline_name(windows.manifest))
    (folder / "results.md").write_text(text + "\n")
    _log(config, loaded.meta.run_id, tally, baseline, folder)
    shown = {name: value for name, value in tally.metrics("test").items() if name in HEADLINES}
    facts = {
        "run_id": loaded.meta.run_id,
        "split_hash": loaded.meta.split_hash,
        "table": str(folder / "results.md"),
        "figures": [str(path) for path in figures],
        **shown,
    }
    return Evaluated(tally=tally, tally_path=folder / "tally.npz", text=text, facts=facts)


HEADLINES = (
    "test/point_ap",
    "test/point_fpr95",
    "test/point_prevalence",
    "test/point_in_view_ap",
    "test/small_object_ap",
    "test/frame_auroc",
    "test/frame_static_auroc",
    "test/semantic_miou",
)


def load_run(place: Path) -> Loaded:
    """The best model of a run folder, or the one of a checkpoint folder; nothing is unpickled."""
    checkpoint = checkpoints.find(place)
    meta = checkpoints.read_meta(checkpoint)
    trained = merge(Config(), meta.config)
    model = build_detector(
        trained.model, prior=meta.prior, window=trained.data.window, fetch_weights=False
    )
    checkpoints.load_model(checkpoint, model)
    folder = checkpoint.parent
    in_run = folder.name == checkpoints.FOLDER
    return Loaded(
        model=model.eval(),
        meta=meta,
        window=trained.data.window,
        folder=folder.parent if in_run else checkpoint,
    )


def device_of(config: Config) -> torch.device:
    """Where to evaluate: CUDA when `scaling.use_gpu`, which must then be there."""
    if config.scaling.use_gpu and not torch.cuda.is_available():
        raise ValueError(
            "scaling.use_gpu=true but torch sees no CUDA device; set "
            "scaling.use_gpu=false to evaluate on the CPU"
        )
    return torch.device("cuda" if config.scaling.use_gpu else "cpu")


def test_readers(config: Config, *, split_hash: str) -> dict[str, BlockReader]:
    """Readers of train (for the baseline) and test; ValueError when they hold another split."""
    blocks = find_blocks(config)
    readers = {
        split: open_reader(config, blocks, split, window=1, say=logger.info)
        for split in ("train", "test")
    }
    found = readers["test"].manifest.split_hash
    if found != split_hash:
        raise ValueError(
            f"{blocks} holds split {found} but the model was trained on split {split_hash}, so its "
            "test scenes may be among those it was trained on; point data.blocks at the shards of "
            "the training"
        )
    return readers


def baseline_of(
    config: Config, readers: dict[str, BlockReader], blocks: Path, *, watch: Watch
) -> Tally:
    """The boosted tree's counts on test; kept beside the shards, under what it depends on."""
    near = "-".join(map(str, config.evaluation.near_classes))
    ego = "x".join(map(str, config.data.ego_box_m))
    path = blocks / f"baseline-near-{near}-ego-{ego}-seed-{config.evaluation.interval_seed}.npz"
    if not path.is_file():
        sample = sample_split(
            readers["train"], config=config.evaluation, progress=watch("features of train")
        )
        tally = tally_baseline(
            sample,
            readers["test"],
            config=config.evaluation,
            progress=watch("boosted tree"),
        )
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        tally.to_file(temporary)
        temporary.replace(path)
    return Tally.from_file(path)


def result_rows(config: Config, meta: Meta, tally: Tally, baseline: Tally) -> list[Row]:
    """Every metric of every slice with interval, constant predictor and baseline."""
    found = intervals(
        tally,
        num_resamples=config.evaluation.num_bootstraps,
        seed=config.evaluation.interval_seed,
    )
    readings = baseline.readings()
    rows = []
    for name in tally.slices:
        constants = {"ap": tally.counts(name).prevalence, "auroc": 0.5, "fpr95": 1.0}
        for metric in TABLE_METRICS:
            interval = found[f"{name}_{metric}"]
            other = readings.get(f"{name}_{metric}")
            rows.append(
                Row(
                    model=_model_name(meta),
                    metric=f"test/{name}_{metric}",
                    value=interval.value,
                    low=interval.low,
                    high=interval.high,
                    constant=constants[metric],
                    baseline=other.value if other else math.nan,
                    split_hash=meta.split_hash,
                    run_id=meta.run_id,
                    remark=interval.reason,
                )
            )
    return rows + semantic_rows(meta, tally)


def semantic_rows(meta: Meta, tally: Tally) -> list[Row]:
    """mIoU and the IoU of each class; the constant answers the commonest class everywhere."""
    constants = {"semantic_miou": tally.semantic.constant_miou()}
    return [
        Row(
            model=_model_name(meta),
            metric=f"test/{name}",
            value=value,
            low=math.nan,
            high=math.nan,
            constant=constants.get(name, math.nan),
            baseline=math.nan,
            split_hash=meta.split_hash,
            run_id=meta.run_id,
            remark="over all points; no interval",
        )
        for name, value in tally.semantic.readings().items()
    ]


def _model_name(meta: Meta) -> str:
    model = meta.config["model"]
    return model["fusion"] if model["name"] == "detector" else model["name"]


def _text(rows: list[Row], figures: list[Path], *, baseline: str) -> str:
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
    listed = "\n".join(f"  {path}" for path in figures)
    return (
        f"Test split, {markdown(shown)}\n\nbaseline: {baseline} on plain point features. "
        f"constant predictor: AP = prevalence.\n\nFigures\n{listed}"
    )


def _draw(
    config: Config,
    loaded: Loaded,
    reader: BlockReader,
    tally: Tally,
    baseline: Tally,
    rows: list[Row],
    folder: Path,
) -> list[Path]:
    note, plain, paths = data_note(reader.manifest), baseline_name(reader.manifest), []
    values = {row.metric: row for row in rows}
    for level in ("point", "frame"):
        if level not in tally.slices or tally.counts(level).undefined:
            continue
        counts, other = tally.counts(level), baseline.counts(level)
        name = _model_name(loaded.meta)
        pr = [
            _curve(name, counts.precision_recall(), values[f"test/{level}_ap"]),
            _bare_curve(plain, other.precision_recall(), other.average_precision().value),
        ]
        figure = precision_recall(
            pr,
            split="test",
            level=level,
            num_positive=counts.num_pos,
            prevalence=counts.prevalence,
            note=note,
        )
        paths.append(save(figure, folder / f"{level}_precision_recall.png"))
        rates = [
            _curve(name, counts.roc(), values[f"test/{level}_auroc"]),
            _bare_curve(plain, other.roc(), other.auroc().value),
        ]
        figure = roc(
            rates,
            split="test",
            level=level,
            num_positive=counts.num_pos,
            num_negative=counts.num_neg,
            note=note,
        )
        paths.append(save(figure, folder / f"{level}_roc.png"))
        figure = score_histogram(
            counts.to_array(),
            low=-MAX_LOGIT,
            high=MAX_LOGIT,
            split="test",
            level=level,
            threshold=loaded.meta.thresholds.get(level),
            note=note,
        )
        paths.append(save(figure, folder / f"{level}_scores.png"))
    threshold = loaded.meta.thresholds.get("point")
    if threshold is not None:
        for example in choose_examples(tally.frames(), threshold=threshold):
            paths += draw_example(
                example,
                loaded.model,
                reader,
                folder,
                threshold=threshold,
                device=device_of(config),
                note=note,
            )
    return paths


def _curve(name: str, xy: tuple, row: Row) -> RankingCurve:
    return RankingCurve(name=name, x=xy[0], y=xy[1], area=row.value, low=row.low, high=row.high)


def _bare_curve(name: str, xy: tuple, area: float) -> RankingCurve:
    return RankingCurve(name=name, x=xy[0], y=xy[1], area=area, low=math.nan, high=math.nan)


def _log(config: Config, run_id: str, tally: Tally, baseline: Tally, folder: Path) -> None:
    tracking.log_metrics(
        config.tracking, run_id, tally.metrics("test") | baseline.metrics("baseline")
    )
    tracking.log_artifacts(config.tracking, run_id, folder, subfolder=FOLDER)
