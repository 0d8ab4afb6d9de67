"""Fusion types side by side on several synthetic worlds, with what must stand beside them.

A world is one seed: its own scenes, split, shards and trainings. Every cell (world x detector)
leaves a tally of its test scores; a cell whose config and split did not change is not run again and
a training that was cut off goes on, so a stopped comparison goes on where it was. In MLflow it is a
run with the trainings under it. Differences are paired by scene.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.manifest import read_manifest
from pipeline.data.prepare.prepare import find_blocks, prepare
from pipeline.evaluation.evaluate import evaluate_run
from pipeline.evaluation.split_scores import baseline_of, open_splits
from pipeline.experiments.study import Study, open_study
from pipeline.experiments.variant_runs import NOTES, write_note
from pipeline.metrics.bootstrap import Interval, differences, intervals
from pipeline.metrics.tally import SplitCounts
from pipeline.runtime import remote_storage
from pipeline.runtime.progress import Say
from pipeline.runtime.revision import short_revision
from pipeline.synthetic.writer import write_archives
from pipeline.tracking import runs
from pipeline.training.trainer import ParentRun, config_hash, fit
from pipeline.visualization.plots import comparison as comparison_figure
from pipeline.visualization.style import save_figure
from pipeline.visualization.tables import aligned, sensible

BASELINE = "boosted_tree"
_NAME = "compare"
_METRICS = {
    "point_ap": "point",
    "point_in_view_ap": "point_in_view",
    "small_object_ap": "small_object",
    "frame_static_auroc": "frame_static",
    "frame_static_20in_view_auroc": "frame_static_20in_view",
}
"""Metrics of the tables, with the slice each is of."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The tables as text, and the facts for the job's JSON."""

    text: str
    facts: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class WorldRun:
    """One detector on one world."""

    world: int
    name: str
    run_id: str
    """Empty for the boosted tree, which is no training of ours."""
    tally: SplitCounts


def compare(config: Config, *, say: Say) -> Compared:
    """Synthesize, prepare, train and evaluate every world x fusion; then tables and a figure."""
    marks = {"worlds": str(config.compare.world_seeds)}
    study = open_study(config, name=_NAME, split_hash="one per world", marks=marks)
    with runs.failing(config.tracking, study.run_id):
        remote_storage.fetch_files(config, Path(config.storage_path) / NOTES)
        cells: list[WorldRun] = []
        for number, seed in enumerate(config.compare.world_seeds, start=1):
            say(f"compare: world {seed} ({number} of {len(config.compare.world_seeds)})")
            cells += _world(config, seed, study, say)
        compared = _told(config, cells)
        for path in (compared.facts["table"], compared.facts["figure"]):
            runs.log_artifact(config.tracking, study.run_id, Path(path))
        runs.finish(config.tracking, study.run_id)
    return Compared(text=compared.text, facts={"run_id": study.run_id} | compared.facts)


def _world(config: Config, seed: int, study: Study, say: Say) -> list[WorldRun]:
    """Every detector on one world, and the boosted tree."""
    world = world_config(config, seed)
    write_archives(world.synthetic, Path(world.data.root), _every_tenth(say, "synthesize"))
    prepare(world, _every_tenth(say, "prepare"))
    cells = [_cell(world, seed, fusion, study, say) for fusion in config.compare.fusions]
    return [*cells, _baseline_cell(world, seed, say)]


def world_config(config: Config, seed: int) -> Config:
    """The config of one world: the seed decides scenes, split, order and initialisation."""
    changes = {
        "synthetic": {"seed": seed},
        "prepare": {"split_seed": seed, "seed": seed},
        "train": {"seed": seed},
        "data": {
            "root": f"{config.data.root}/world-{seed}",
            "blocks": f"{config.data.blocks}/world-{seed}",
        },
    }
    return merge(config, changes)


def _cell(world: Config, seed: int, fusion: str, study: Study, say: Say) -> WorldRun:
    """Train and evaluate, unless a finished cell of the same config and split is there."""
    config = merge(world, {"model": {"fusion": fusion}})
    split_hash = read_manifest(find_blocks(config)).split_hash
    name = f"world-{seed}-{fusion}-{config_hash(config)}-{split_hash[:8]}"
    note = Path(config.storage_path) / NOTES / f"{name}.json"
    if note.is_file():
        say(f"compare: world {seed}, {fusion}: found in {note}")
    else:
        say(f"compare: world {seed}, {fusion}: training")
        child = ParentRun(study=study.run_id, name=name, folder=study.folder / name)
        trained = fit(config, say=say, child=child)
        evaluated = evaluate_run(
            config, trained.folder, watch=lambda phase: _every_tenth(say, phase)
        )
        remote_storage.push_results(config, trained.folder)
        place = str(evaluated.tally_path.relative_to(config.storage_path))
        write_note(config, note, {"run_id": trained.run_id, "tally": place})
    facts = json.loads(note.read_text())
    # Relative, as the local copy of a remote storage path may lie elsewhere on another node.
    tally = Path(config.storage_path) / facts["tally"]
    remote_storage.fetch_file(config, tally)
    return WorldRun(
        world=seed, name=fusion, run_id=facts["run_id"], tally=SplitCounts.from_file(tally)
    )


def _baseline_cell(world: Config, seed: int, say: Say) -> WorldRun:
    say(f"compare: world {seed}, boosted tree on plain features")
    blocks = find_blocks(world)
    splits = open_splits(world, split_hash=read_manifest(blocks).split_hash)
    return WorldRun(
        world=seed,
        name=BASELINE,
        run_id="",
        tally=baseline_of(world, splits, blocks, watch=lambda phase: _every_tenth(say, phase)),
    )


def _told(config: Config, cells: Sequence[WorldRun]) -> Compared:
    folder = Path(config.storage_path)
    values = _values_table(config, cells)
    gains = _gains_table(config, cells)
    text = (
        f"Synthetic worlds {config.compare.world_seeds}, test split of each; 95 % intervals over "
        f"scenes in brackets; table by revision {short_revision()}\n\n{values}\n\n"
        f"{config.compare.fusions[0]} minus the other, paired by scene\n\n{gains}"
    )
    (folder / "compare.md").write_text(text + "\n")
    figure = save_figure(_figure(config, cells), folder / "compare.png")
    return Compared(text=text, facts={"table": str(folder / "compare.md"), "figure": str(figure)})


def _values_table(config: Config, cells: Sequence[WorldRun]) -> str:
    """One line per cell, with what a constant predictor reaches on the same world before them."""
    lines = []
    for cell in cells:
        if cell.name == config.compare.fusions[0]:
            lines.append([str(cell.world), "constant", "", *_constants(cell.tally)])
        found = intervals(cell.tally, **_resampling(config))
        shown = [_interval_text(found[metric]) for metric in _METRICS]
        lines.append([str(cell.world), cell.name, cell.run_id[:8], *shown])
    return aligned(["world", "model", "run", *_METRICS], lines)


def _constants(tally: SplitCounts) -> list[str]:
    return [
        sensible(tally.counts(name).prevalence) if metric.endswith("_ap") else "0.500"
        for metric, name in _METRICS.items()
    ]


def _gains_table(config: Config, cells: Sequence[WorldRun]) -> str:
    first = config.compare.fusions[0]
    lines = []
    for world in config.compare.world_seeds:
        of_world = {cell.name: cell.tally for cell in cells if cell.world == world}
        for name, tally in of_world.items():
            if name != first:
                found = differences(of_world[first], tally, **_resampling(config))
                shown = [_interval_text(found[metric]) for metric in _METRICS]
                lines.append([str(world), name, *shown])
    return aligned(["world", "minus", *_METRICS], lines)


def _resampling(config: Config) -> dict[str, int]:
    evaluation = config.evaluation
    return {"num_resamples": evaluation.num_bootstraps, "seed": evaluation.bootstrap_seed}


def _interval_text(interval: Interval) -> str:
    if math.isnan(interval.value):
        return "undefined"
    if math.isnan(interval.low):
        return f"{interval.value:.3f} (too few scenes)"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _figure(config: Config, cells: Sequence[WorldRun]):
    """Means over worlds as bars; the whiskers span the worlds' own values."""
    names = [*config.compare.fusions, BASELINE]
    values = np.array(
        [
            [
                [c.tally.readings()[metric].value for metric in _METRICS]
                for c in cells
                if c.name == name
            ]
            for name in names
        ]
    )
    constants = [_constants(c.tally) for c in cells if c.name == names[0]]
    return comparison_figure(
        names,
        list(_METRICS),
        values.mean(axis=1),
        low=values.min(axis=1),
        high=values.max(axis=1),
        whiskers="lowest to highest world",
        constants=np.array(constants, dtype=float).mean(axis=0),
        title=f"Fusion against single modalities, mean of {values.shape[1]} synthetic worlds",
        note="synthetic data",
    )


def _every_tenth(say: Say, what: str) -> Callable[[int, int], None]:
    """A progress callback that says every tenth part."""
    said = {-1}

    def progress(done: int, total: int) -> None:
        part = 10 * done // max(total, 1)
        if part not in said:
            said.add(part)
            say(f"compare: {what} {done}/{total} frames")

    return progress
