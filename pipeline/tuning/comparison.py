"""Fusion types side by side on several synthetic worlds, with what must stand beside them.

A world is one seed: its own scenes, split, shards and trainings. Every cell (world x detector)
leaves a tally of its test scores; a cell whose config and split did not change is not run again, so
a stopped comparison goes on where it was. Differences are paired by scene.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import tracking
from pipeline.anovox.synthetic.writer import write_archives
from pipeline.config import Config, merge
from pipeline.data.blocks import find_blocks, prepare
from pipeline.data.manifest import read_manifest
from pipeline.evaluation.intervals import Interval, differences, intervals
from pipeline.evaluation.levels import Tally
from pipeline.report.evaluation_report import baseline_tally, evaluate_run
from pipeline.report.tables import Row, markdown
from pipeline.training.trainer import config_hash, fit

Say = Callable[[str], None]
BASELINE = "boosted_tree"
FUSED = "concat"
SHOWN = (
    "point_ap",
    "point_in_view_ap",
    "small_object_ap",
    "frame_static_auroc",
    "frame_static_20in_view_auroc",
)
"""Metrics of the table, in its order."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The table as text, and the facts for the job's JSON."""

    text: str
    facts: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One detector on one world."""

    world: int
    name: str
    run_id: str
    tally: Tally


def compare(config: Config, *, say: Say) -> Compared:
    """Synthesize, prepare, train and evaluate every world x fusion; then tables and intervals."""
    cells: list[Cell] = []
    for number, seed in enumerate(config.compare.world_seeds, start=1):
        say(f"compare: world {seed} ({number}/{len(config.compare.world_seeds)})")
        world = world_config(config, seed)
        write_archives(world.synthetic, Path(world.data.root), _every_tenth(say, "synthesize"))
        prepare(world, _every_tenth(say, "prepare"))
        cells.append(_baseline_cell(world, seed, say))
        cells += [_cell(world, seed, fusion, say) for fusion in config.compare.fusions]
    return _told(config, cells)


def world_config(config: Config, seed: int) -> Config:
    """The config of one world: the seed decides scenes, split, order and initialisation."""
    return merge(config, {
        "synthetic": {"seed": seed},
        "prepare": {"split_seed": seed, "seed": seed},
        "train": {"seed": seed},
        "data": {"root": f"{config.data.root}/world-{seed}",
                 "blocks": f"{config.data.blocks}/world-{seed}"},
    })


def _cell(world: Config, seed: int, fusion: str, say: Say) -> Cell:
    """Train and evaluate, unless a finished cell of the same config and split is there."""
    config = merge(world, {"model": {"fusion": fusion}})
    folder = _cell_folder(config, seed, fusion)
    done = folder / "cell.json"
    if not done.is_file():
        say(f"compare: world {seed}, {fusion}")
        trained = fit(config, say=say)
        evaluated = evaluate_run(config, trained.folder, progress=_every_tenth(say, "evaluate"))
        folder.mkdir(parents=True, exist_ok=True)
        evaluated.tally.to_file(folder / "tally.npz")
        done.write_text(json.dumps({"run_id": trained.run_id, "folder": str(trained.folder)}))
    else:
        say(f"compare: world {seed}, {fusion}: found in {folder}")
    run_id = json.loads(done.read_text())["run_id"]
    return Cell(world=seed, name=fusion, run_id=run_id, tally=Tally.from_file(folder / "tally.npz"))


def _baseline_cell(world: Config, seed: int, say: Say) -> Cell:
    folder = _cell_folder(world, seed, BASELINE)
    path = folder / "tally.npz"
    if not path.is_file():
        say(f"compare: world {seed}, boosted tree on plain features")
        folder.mkdir(parents=True, exist_ok=True)
        baseline_tally(world, find_blocks(world)).to_file(path)
    return Cell(world=seed, name=BASELINE, run_id="", tally=Tally.from_file(path))


def _cell_folder(config: Config, seed: int, name: str) -> Path:
    split = read_manifest(find_blocks(config)).split_hash
    return (Path(config.storage_path) / "cells"
            / f"world-{seed}-{name}-{config_hash(config)}-{split[:8]}")


def _told(config: Config, cells: list[Cell]) -> Compared:
    rows = [row for cell in cells for row in _rows(config, cell)]
    gains = [line for world in config.compare.world_seeds
             for line in _gains(config, [c for c in cells if c.world == world])]
    folder = Path(config.storage_path)
    table, paired = pd.DataFrame(rows), pd.DataFrame(gains)
    table.to_csv(folder / "compare.csv", index=False)
    paired.to_csv(folder / "compare_differences.csv", index=False)
    text = f"{_matrix(cells, config)}\n\nPaired differences (95 % interval over scenes)\n\n"
    text += markdown_frame(paired)
    (folder / "compare.md").write_text(text)
    return Compared(text=text, facts={"table": str(folder / "compare.md"),
                                      "csv": str(folder / "compare.csv")})
