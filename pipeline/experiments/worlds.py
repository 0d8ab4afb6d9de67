"""An ablation on several synthetic worlds: each seed has scenes, split, shards and a study.

The overall study holds one table: what each variant reaches in the mean of the worlds, and in the
lowest and the highest of them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.prepare.prepare import prepare
from pipeline.evaluation.baselines import CONSTANT
from pipeline.experiments.ablation import Ablated, ablate
from pipeline.experiments.study import open_study
from pipeline.experiments.variants_table import Line
from pipeline.runtime.progress import Say
from pipeline.runtime.revision import short_revision
from pipeline.synthetic.writer import write_archives
from pipeline.tracking import runs
from pipeline.visualization.plots import comparison
from pipeline.visualization.style import save_figure
from pipeline.visualization.tables import aligned


def ablate_worlds(config: Config, *, say: Say) -> Ablated:
    """Synthesize, prepare and ablate every world of `ablate.worlds`; then their means.

    What is done already is not done again.
    """
    name, seeds = config.ablate.name, config.ablate.worlds
    study = open_study(config, name=name, split_hash="one per world", marks={"worlds": str(seeds)})
    with runs.failing(config.tracking, study.run_id):
        worlds = {seed: _ablate_world(world_config(config, seed), seed, say) for seed in seeds}
        text = "\n\n".join([_means(config, worlds), *(world.text for world in worlds.values())])
        table, figure = study.folder / "table.md", study.folder / "worlds.png"
        table.write_text(text + "\n")
        _draw(config, worlds, figure)
        for path in (table, figure):
            runs.log_artifact(config.tracking, study.run_id, path)
        runs.set_description(config.tracking, study.run_id, text)
        runs.finish(config.tracking, study.run_id)
    facts = {
        "run_id": study.run_id,
        "table": str(table),
        "figure": str(figure),
        "worlds": {str(seed): world.facts for seed, world in worlds.items()},
    }
    return Ablated(text=text, facts=facts, lines=[])


def world_config(config: Config, seed: int) -> Config:
    """The config of one world: the seed decides scenes, split and order of the shards."""
    changes = {
        "synthetic": {"seed": seed},
        "prepare": {"split_seed": seed, "seed": seed},
        "data": {
            "root": f"{config.data.root}/world-{seed}",
            "blocks": f"{config.data.blocks}/world-{seed}",
        },
        "ablate": {"name": f"{config.ablate.name}-world-{seed}", "worlds": []},
    }
    return merge(config, changes)


def _ablate_world(world: Config, seed: int, say: Say) -> Ablated:
    say(f"world {seed}")
    write_archives(world.synthetic, Path(world.data.root), _every_tenth(say, "synthesize"))
    prepare(world, _every_tenth(say, "prepare"))
    return ablate(world, say=say)


def _every_tenth(say: Say, what: str) -> Callable[[int, int], None]:
    """A progress callback that says every tenth part."""
    said: set[int] = set()

    def progress(done: int, total: int) -> None:
        part = 10 * done // max(total, 1)
        if part not in said:
            said.add(part)
            say(f"{what} {done}/{total} frames")

    return progress


def _means(config: Config, worlds: Mapping[int, Ablated]) -> str:
    """A table of means with the worlds' extremes in brackets."""
    rows = []
    for name in _names(worlds):
        values = [_values(worlds, name, metric) for metric in config.ablate.metrics]
        rows.append([name, *(_mean_and_range(of_worlds) for of_worlds in values)])
    return (
        f"{config.ablate.name}: synthetic worlds {list(worlds)}, test split of each; mean of the "
        f"worlds [lowest, highest]; table by revision {short_revision()}\n\n"
        f"{aligned(['variant', *config.ablate.metrics], rows)}"
    )


def _names(worlds: Mapping[int, Ablated]) -> list[str]:
    return list(dict.fromkeys(line.name for world in worlds.values() for line in world.lines))


def _values(worlds: Mapping[int, Ablated], name: str, metric: str) -> list[float]:
    """One value per world; nan where a variant has none."""
    found = []
    for world in worlds.values():
        lines: Sequence[Line] = [line for line in world.lines if line.name == name]
        known = [line.values[metric].value for line in lines if metric in line.values]
        found.append(known[0] if known else math.nan)
    return found


def _mean_and_range(values: Sequence[float]) -> str:
    if any(math.isnan(value) for value in values):
        return "undefined"
    mean = sum(values) / len(values)
    return f"{mean:.3f} [{min(values):.3f}, {max(values):.3f}]"


def _draw(config: Config, worlds: Mapping[int, Ablated], path: Path) -> None:
    """Means over worlds as bars; the whiskers span the worlds' own values."""
    metrics = config.ablate.metrics
    controls = {line.name for world in worlds.values() for line in world.lines if not line.run_ids}
    names = [name for name in _names(worlds) if name not in controls]
    values = np.array([[_values(worlds, name, metric) for metric in metrics] for name in names])
    constants = np.array([_values(worlds, CONSTANT, metric) for metric in metrics])
    figure = comparison(
        names,
        metrics,
        values.mean(axis=2),
        low=values.min(axis=2),
        high=values.max(axis=2),
        whiskers="lowest to highest world",
        constants=constants.mean(axis=1),
        title=f"{config.ablate.name}, mean of {len(worlds)} synthetic worlds",
        note="synthetic data",
    )
    save_figure(figure, path)
