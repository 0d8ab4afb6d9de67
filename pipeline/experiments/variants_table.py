"""The table of a grid of trainings: one line per row, in Markdown, CSV and LaTeX.

Beside every mean over seeds stand its 95 % interval over scenes, the spread over seeds, and the
paired difference to the first row; a row whose guard fired says so instead of a number.
"""

import csv
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.metrics.bootstrap import Interval
from pipeline.visualization.tables import aligned, sensible


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of the grid, over its seeds."""

    name: str
    changes: str
    """What it changes, as overrides."""
    status: str
    """`finished`, or which guard ended how many of its runs."""
    values: dict[str, Interval]
    """Mean over seeds of each metric; empty where a guard ended a run."""
    by_seed: dict[str, list[float]]
    differences: dict[str, Interval]
    """To the first row, paired by scene; empty for the first row itself."""
    num_parameters: int
    frames_per_s: float
    run_ids: list[str]


def variants_markdown(lines: Sequence[Line], metrics: Sequence[str], *, reference: str) -> str:
    """Three tables: values, differences to the first row, and what each row is made of."""
    values = [[one.name, *(_value(one, metric) for metric in metrics)] for one in lines]
    gains = [
        [one.name, *(_interval(one.differences.get(metric)) for metric in metrics)]
        for one in lines
        if one.differences
    ]
    made_of = [
        [
            one.name,
            one.changes,
            sensible(one.num_parameters),
            "" if math.isnan(one.frames_per_s) else f"{one.frames_per_s:.1f}",
            " ".join(run_id[:8] for run_id in one.run_ids),
        ]
        for one in lines
        if one.run_ids
    ]
    header = ["row", "changes", "parameters", "frames/s", "runs"]
    if not gains:
        gains = [["none", *("" for _ in metrics)]]
    parts = [
        "Mean over seeds [95 % interval over scenes] +- standard deviation over seeds",
        aligned(["row", *metrics], values),
        f"Row minus {reference}, paired by scene",
        aligned(["row", *metrics], gains),
        "What the rows are (frames/s while training beside others)",
        aligned(header, made_of),
    ]
    return "\n\n".join(parts)


def latex(lines: Sequence[Line], metrics: Sequence[str]) -> str:
    """A booktabs table of means with intervals."""
    head = " & ".join(["row", *metrics]).replace("_", r"\_")
    body = [
        " & ".join([one.name, *(_value(one, metric) for metric in metrics)]).replace("_", r"\_")
        for one in lines
    ]
    text = " \\\\\n".join([head + r" \\ \midrule" + "\n" + body[0], *body[1:]])
    text = text.replace("+-", r"$\pm$")
    columns = "l" * (1 + len(metrics))
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{text} \\\\\n\\bottomrule\n\\end{{tabular}}\n"
    )


def write_variants_csv(lines: Sequence[Line], path: Path, *, split_hash: str) -> Path:
    """Every metric of every row at full precision, one line each; return the path."""
    names = ("value", "low", "high")
    header = ["row", "changes", "status", "metric", *names, "spread", "by_seed"]
    header += [f"difference_{name}" for name in names]
    header += ["num_parameters", "frames_per_s", "run_ids", "split_hash"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for one in lines:
            what = [one.num_parameters, one.frames_per_s, " ".join(one.run_ids), split_hash]
            for metric in one.values or [""]:
                writer.writerow([*_cells(one, metric), *what])
    return path


def _cells(line: Line, metric: str) -> list[str | float]:
    seeds = line.by_seed.get(metric, [])
    return [
        line.name,
        line.changes,
        line.status,
        metric,
        *_numbers(line.values.get(metric)),
        standard_deviation(seeds),
        " ".join(map(str, seeds)),
        *_numbers(line.differences.get(metric)),
    ]


def standard_deviation(values: Sequence[float]) -> float:
    """Standard deviation of a sample; nan of fewer than two."""
    if len(values) < 2:
        return math.nan
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _value(line: Line, metric: str) -> str:
    if not line.values:
        return line.status
    text, deviation = (
        _interval(line.values.get(metric)),
        standard_deviation(line.by_seed.get(metric, [])),
    )
    return text if math.isnan(deviation) else f"{text} +- {deviation:.3f}"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "not scored"
    if math.isnan(interval.value):
        return "undefined"
    if math.isnan(interval.low):
        return f"{interval.value:.3f} (too few scenes)"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _numbers(interval: Interval | None) -> list[float]:
    if interval is None:
        return [math.nan] * 3
    return list(dataclasses.astuple(interval)[:3])
