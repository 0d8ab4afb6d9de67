"""The table of `jobs.profile`: what each network costs, beside the first one, in Markdown and CSV.

Ratios are taken round by round, where both networks met the same disturbances of the machine, and
told with their smallest and largest value: a difference inside that span is none.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.visualization.tables import aligned, sensible


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One row; lists have one value per round, `latency_ms` one per frame and round."""

    name: str
    changes: str
    """What it changes, as overrides."""
    num_parameters: int
    num_trained: int
    forward_frames_per_s: list[float]
    training_frames_per_s: list[float]
    """Forward, loss and backward; nan where not timed."""
    latency_ms: list[float]
    peak_memory_gb: float
    """nan where it cannot be measured."""

    def figures(self) -> dict[str, float]:
        """The numbers of the row under the names of the CSV and of MLflow; unmeasured ones are nan.

        `p50` and `p95` are quantiles over all frames and rounds, frames/s medians over rounds.
        """
        return {
            "num_parameters": self.num_parameters,
            "num_trained": self.num_trained,
            "forward_frames_per_s": float(np.median(self.forward_frames_per_s)),
            "training_frames_per_s": float(np.median(self.training_frames_per_s)),
            "latency_p50_ms": float(np.quantile(self.latency_ms, 0.5)),
            "latency_p95_ms": float(np.quantile(self.latency_ms, 0.95)),
            "peak_memory_gb": self.peak_memory_gb,
        }


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Median, smallest and largest of a row's frames/s over the first row's, round by round."""

    value: float
    low: float
    high: float


def ratio(own: Sequence[float], first: Sequence[float]) -> Ratio:
    """Paired per round."""
    by_round = np.divide(own, first)
    low, high = float(by_round.min()), float(by_round.max())
    return Ratio(value=float(np.median(by_round)), low=low, high=high)


def timings_markdown(costs: Sequence[Cost]) -> str:
    """One line per row; columns of what was not measured are left out."""
    first = costs[0].name
    columns: dict[str, list[str]] = {
        "row": [cost.name for cost in costs],
        "parameters": [sensible(cost.num_parameters) for cost in costs],
        "trained": [sensible(cost.num_trained) for cost in costs],
        "forward, frames/s": [_figure(cost, "forward_frames_per_s") for cost in costs],
        f"forward over {first}": _ratios(costs, "forward_frames_per_s"),
        "training, frames/s": [_figure(cost, "training_frames_per_s") for cost in costs],
        f"training over {first}": _ratios(costs, "training_frames_per_s"),
        "latency p50, ms": [_figure(cost, "latency_p50_ms") for cost in costs],
        "p95, ms": [_figure(cost, "latency_p95_ms") for cost in costs],
        "peak memory, GB": [_figure(cost, "peak_memory_gb") for cost in costs],
        "changes": [cost.changes for cost in costs],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    return aligned(list(shown), list(zip(*shown.values(), strict=True)))


def write_timings_csv(costs: Sequence[Cost], path: Path, *, facts: dict[str, str | int]) -> Path:
    """One line per row at full precision, `facts` behind each; return the path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(_record(costs[0], costs[0]) | facts))
        writer.writeheader()
        writer.writerows(_record(cost, costs[0]) | facts for cost in costs)
    return path


def _record(cost: Cost, first: Cost) -> dict[str, str | float]:
    record: dict[str, str | float] = {"row": cost.name, "changes": cost.changes, **cost.figures()}
    for key in ("forward_frames_per_s", "training_frames_per_s"):
        found = ratio(getattr(cost, key), getattr(first, key))
        short = key.removesuffix("_frames_per_s")
        record[f"{short}_ratio"] = found.value
        record[f"{short}_ratio_low"], record[f"{short}_ratio_high"] = found.low, found.high
    return record | {"num_latencies": len(cost.latency_ms)}


def _figure(cost: Cost, key: str) -> str:
    """One decimal from 10 up, else two; nothing for nan."""
    value = cost.figures()[key]
    return "" if math.isnan(value) else f"{value:,.{1 if value >= 10 else 2}f}"


def _ratios(costs: Sequence[Cost], key: str) -> list[str]:
    """Of every row but the first; nothing where there is no number."""
    first = getattr(costs[0], key)
    found = [ratio(getattr(cost, key), first) for cost in costs[1:]]
    texts = [f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]" for one in found]
    return ["", *("" if "nan" in text else text for text in texts)]
