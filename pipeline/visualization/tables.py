"""Results as an aligned Markdown table, readable as plain text too, and as CSV.

No number stands alone: its interval, what a constant predictor and a simple baseline reach, and
the split and run it is from stand beside it. Rows of different splits are refused, because their
numbers cannot be compared.
"""

import csv
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HASH_CHARACTERS = 8


@dataclass(frozen=True, kw_only=True)
class Row:
    """One metric of one model on one split; nan where a number does not exist."""

    model: str
    metric: str
    value: float
    low: float
    """95 % interval over scenes."""
    high: float
    constant: float
    """What a constant predictor reaches: the prevalence for AP, 0.5 for AUROC."""
    baseline: float
    """What the simple baseline on plain features reaches."""
    probe: float = math.nan
    """What the best shortcut probe reaches; frames only."""
    split_hash: str
    run_id: str
    remark: str = ""
    """Why the value or its interval is missing."""


def results_markdown(rows: Sequence[Row]) -> str:
    """One line per row under a header, then the split and the runs the numbers are from.

    Columns that would be empty are left out. Raises ValueError for rows of different splits.
    """
    _demand_one_split(rows)
    columns = {
        "model": [row.model for row in rows],
        "metric": [row.metric for row in rows],
        "value": [_number(row.value, like=row.value) or "undefined" for row in rows],
        "95 % interval": [_interval(row) for row in rows],
        "constant predictor": [_number(row.constant, like=row.constant) for row in rows],
        "baseline": [_number(row.baseline, like=row.value) for row in rows],
        "shortcut probe": [_number(row.probe, like=row.value) for row in rows],
        "remark": [row.remark for row in rows],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    table = aligned(list(shown), list(zip(*shown.values(), strict=True)))
    return f"{table}\n\n{_sources(rows)}"


def aligned(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are padded; columns of numbers are aligned to the right."""
    padded = []
    for column in zip(header, *lines, strict=True):
        name, *cells = [cell.replace("|", "\\|") for cell in column]
        width = max(3, *(len(cell) for cell in (name, *cells)))
        is_numeric = all(_starts_numeric(cell) for cell in cells if cell)
        rule = "-" * (width - 1) + (":" if is_numeric else "-")
        pad = str.rjust if is_numeric else str.ljust
        padded.append([pad(name, width), rule, *(pad(cell, width) for cell in cells)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in zip(*padded, strict=True))


def write_results_csv(rows: Sequence[Row], path: Path) -> Path:
    """Every field of every row at full precision; return the path.

    Same refusal as `results_markdown`.
    """
    _demand_one_split(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Row)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(row) for row in rows)
    return path


def sensible(value: float | int) -> str:
    """Three decimals, two significant digits below 0.1, thousands separated; nan is empty."""
    if isinstance(value, int):
        return f"{value:,}"
    return _number(value, like=value)


def _number(value: float, *, like: float) -> str:
    """`value` with as many decimals as suit a number of the size of `like`."""
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return str(value)
    return f"{value:,.{_decimals(like if math.isfinite(like) else value)}f}"


def _decimals(value: float) -> int:
    size = abs(value)
    if size >= 100:
        return 1
    if size >= 0.1 or size == 0:
        return 3
    return min(12, 1 - math.floor(math.log10(size)))


def _interval(row: Row) -> str:
    if math.isnan(row.low) or math.isnan(row.high):
        return ""
    return f"{_number(row.low, like=row.value)} to {_number(row.high, like=row.value)}"


def _starts_numeric(cell: str) -> bool:
    return cell == "undefined" or cell.removeprefix("-")[:1].isdigit()


def _demand_one_split(rows: Sequence[Row]) -> None:
    if not rows:
        raise ValueError("a results table needs at least one row; evaluate a model first")
    hashes = sorted({row.split_hash for row in rows})
    if len(hashes) > 1:
        raise ValueError(
            f"the rows are from {len(hashes)} splits ({', '.join(hashes)}), whose numbers cannot "
            "be compared; evaluate every model on the same prepared shards"
        )


def _sources(rows: Sequence[Row]) -> str:
    runs = {row.model: row.run_id[:HASH_CHARACTERS] for row in rows if row.run_id}
    sources = "".join(f", {model} is run {run_id}" for model, run_id in runs.items())
    return f"split {rows[0].split_hash[:HASH_CHARACTERS]}{sources}"
