"""What a metric is: one record each, which validation, table, search, settings and figures read.

A function and a call of `add_metric` below make a metric. Settings check their names here and are
read without numpy, so functions that need it are named by `function` or import it themselves.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LEVELS = ("point", "frame", "pixel", "voxel")
"""What anomaly scores are given to."""
SEMANTIC = "semantic"
"""The level of answered classes, which looks at points labelled normal alone."""


@dataclass(frozen=True, kw_only=True)
class MetricDefinition:
    """One metric; settings, MLflow, tables and figures call it `LEVEL_NAME`."""

    name: str
    values: Callable[..., Any]
    """Of anomaly scores: `values(neg, pos)` along the last axis of the counts of normal and
    anomalous items, highest score first; nan where either class is empty. At the level `semantic`:
    `values(counts)` of `SemanticCounts`."""
    constant: Callable[[Any], float]
    """Of a constant predictor, from the prevalence; at the level `semantic` from `counts`."""
    higher_is_better: bool
    levels: tuple[str, ...] = LEVELS
    """Levels that it is computed for."""
    chooses_checkpoint: tuple[str, ...] = ()
    """Levels at which `train.monitor` may name it."""
    ranks_search: tuple[str, ...] = ()
    """Levels at which `tune.metric` may name it."""
    drawn: tuple[str, ...] = ()
    """Levels at which the curves of a training show it."""
    bounds: Callable[..., tuple[float, float]] | None = None
    """What the values of unbinned scores lie between, from `neg` and `pos`; None = those of the
    best and the worst order of the items inside their bins."""


DEFINITIONS: dict[str, MetricDefinition] = {}
"""Every metric by name, in the order of tables."""


def add_metric(definition: MetricDefinition) -> None:
    """Make a metric known everywhere; ValueError where the name is taken."""
    if definition.name in DEFINITIONS:
        raise ValueError(f"metric {definition.name} is defined twice; give one another name")
    DEFINITIONS[definition.name] = definition


def metrics_of(level: str) -> list[MetricDefinition]:
    """Those computed at a level."""
    return [one for one in DEFINITIONS.values() if level in one.levels]


def level_of(name: str) -> str:
    """Level of a slice or metric: `frame` of `frame_static_auroc`, `point` of `small_object`."""
    first = name.partition("_")[0]
    return first if first in (*LEVELS, SEMANTIC) else "point"


def names_of(use: str) -> list[str]:
    """Full names at the levels of a use: `chooses_checkpoint`, `ranks_search` or `drawn`."""
    levels, metrics = (*LEVELS, SEMANTIC), DEFINITIONS.values()
    return [f"{at}_{one.name}" for at in levels for one in metrics if at in getattr(one, use)]


def definition_of(name: str) -> MetricDefinition:
    """The metric that a full name ends in: `fpr95` of `val/point_fpr95`."""
    found = [one for one in DEFINITIONS.values() if f"_{name}".endswith(f"_{one.name}")]
    if not found:
        raise ValueError(f"{name} ends in no metric; there are {', '.join(DEFINITIONS)}")
    return max(found, key=lambda one: len(one.name))


def is_better(name: str, value: float, other: float) -> bool:
    """Whether a metric's value is better than another of it; never where either is nan."""
    return value > other if definition_of(name).higher_is_better else value < other


def function(path: str) -> Callable[..., Any]:
    """The function at a dotted path, imported when it is called."""
    module, _, name = path.rpartition(".")
    return lambda *counts: getattr(importlib.import_module(module), name)(*counts)


add_metric(
    MetricDefinition(
        name="ap",
        values=function("pipeline.metrics.counts.average_precisions"),
        bounds=function("pipeline.metrics.counts.ap_bounds"),
        constant=lambda prevalence: prevalence,
        higher_is_better=True,
        chooses_checkpoint=("point", "frame"),
        ranks_search=("point", "frame", "pixel"),
        drawn=("point", "frame"),
    )
)
add_metric(
    MetricDefinition(
        name="auroc",
        values=function("pipeline.metrics.counts.aurocs"),
        constant=lambda prevalence: 0.5,
        higher_is_better=True,
        drawn=("point", "frame"),
    )
)
add_metric(
    MetricDefinition(
        name="fpr95",
        values=function("pipeline.metrics.counts.fpr95s"),
        constant=lambda prevalence: 1.0,
        higher_is_better=False,
    )
)
add_metric(
    MetricDefinition(
        name="miou",
        values=lambda counts: counts.miou(),
        constant=lambda counts: counts.constant_miou(),
        higher_is_better=True,
        levels=(SEMANTIC,),
        chooses_checkpoint=(SEMANTIC,),
        ranks_search=(SEMANTIC,),
        drawn=(SEMANTIC,),
    )
)
