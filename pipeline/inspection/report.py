"""The report of `jobs.inspect`: a table per archive, one JSON file, one figure per archive."""

import dataclasses
import hashlib
import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.datasets.anovox.scan import take_inventory
from pipeline.inspection.archive import ArchiveReport, choose_archives, inspect_archive
from pipeline.inspection.check import Check, worst
from pipeline.inspection.figure import draw_inspection
from pipeline.runtime.errors import RunFailed
from pipeline.runtime.progress import Say, Watch
from pipeline.synthetic.writer import is_synthetic
from pipeline.visualization.style import save_figure

REASON = "inspection_failed"
HEADINGS = ("status", "check", "found", "expected", "measured on")
_WIDTHS = (6, 17, 46, 46, 26)
"""Of the columns, in characters; longer cells go on in the next line."""


def inspect(config: Config, *, say: Say, watch: Watch) -> dict[str, Any]:
    """Inspect the archives under `data.root`; return paths and counts.

    `say` gets each archive's sentence, then its table; `watch` makes a progress callback for each.
    Raises RunFailed, with the same facts, if any check failed.
    """
    root, settings = Path(config.data.root), config.inspect
    archives = choose_archives(root, settings.archive)
    folder = Path(config.storage_path) / "inspect" / _folder_name(root, [a.name for a in archives])
    note = "synthetic data" if is_synthetic([root, *(a.path for a in archives)]) else ""
    reports: list[ArchiveReport] = []
    for archive in archives:
        inventory = take_inventory(archive)
        say(inventory.sentence())
        report = inspect_archive(
            inventory,
            num_scenes=settings.scenes,
            num_frames=settings.frames_per_scene,
            progress=watch(archive.name),
        )
        say(table(report.checks))
        save_figure(draw_inspection(report, note=note), folder / f"{archive.name}.png")
        reports.append(report)
    facts = _write(folder, root, reports, is_synthetic=bool(note))
    if facts["verdict"] == "FAIL":
        raise RunFailed(_failure(reports, folder), reason=REASON, facts=facts)
    return facts


def table(checks: Sequence[Check]) -> str:
    """Aligned columns; what is not passed has its meaning below it."""
    lines = [*_row(HEADINGS), "  ".join("-" * width for width in _WIDTHS)]
    for check in checks:
        lines += _row((check.status, check.name, check.found, check.expected, _measured_on(check)))
        if check.status != "pass":
            indent = " " * (_WIDTHS[0] + 2)
            width = sum(_WIDTHS) + 2 * len(_WIDTHS) - 2
            lines += textwrap.wrap(
                f"-> {check.meaning}", width, initial_indent=indent, subsequent_indent=indent
            )
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _row(cells: Sequence[str]) -> Iterator[str]:
    columns = [
        textwrap.wrap(cell, width) or [""] for cell, width in zip(cells, _WIDTHS, strict=True)
    ]
    for place in range(max(map(len, columns))):
        parts = [column[place] if place < len(column) else "" for column in columns]
        yield "  ".join(part.ljust(width) for part, width in zip(parts, _WIDTHS, strict=True))


def _measured_on(check: Check) -> str:
    return f"{check.num_frames} frames, {check.num_items:,} {check.unit}" if check.unit else "-"


def _folder_name(root: Path, names: Sequence[str]) -> str:
    """The archive's name; a hash of root and names where there are several."""
    if len(names) == 1:
        return names[0]
    return hashlib.sha256("\n".join([str(root), *names]).encode()).hexdigest()[:12]


def _write(
    folder: Path, root: Path, reports: Sequence[ArchiveReport], *, is_synthetic: bool
) -> dict[str, Any]:
    """Write report.json; return the facts for the job's last line."""
    counts = {
        status: sum(check.status == status for report in reports for check in report.checks)
        for status in ("pass", "warn", "FAIL")
    }
    tree = {
        "root": str(root),
        "is_synthetic": is_synthetic,
        "verdict": worst([report.status for report in reports]),
        "archives": [_tree(report) for report in reports],
    }
    path = folder / "report.json"
    path.write_text(json.dumps(tree, indent=1), encoding="utf-8")
    return {
        "verdict": tree["verdict"],
        "num_archives": len(reports),
        "num_scenes": sum(len(report.scenes) for report in reports),
        "checks": counts,
        "report": str(path),
        "figures": [str(folder / f"{report.name}.png") for report in reports],
    }


def _tree(report: ArchiveReport) -> dict[str, Any]:
    return {
        "name": report.name,
        "path": str(report.path),
        "sentence": report.sentence,
        "status": report.status,
        "checks": [dataclasses.asdict(check) for check in report.checks],
        "refused_scenes": dict(report.refused),
        "scenes": [dataclasses.asdict(scene) for scene in report.scenes],
    }


def _failure(reports: Sequence[ArchiveReport], folder: Path) -> str:
    failed = [(r.name, check.name) for r in reports for check in r.checks if check.status == "FAIL"]
    some = "; ".join(f"{name}: {check}" for name, check in failed[:3])
    more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    return (
        f"{len(failed)} checks failed ({some}{more}); the lines marked FAIL and {folder} say what "
        "each means: do not train on these archives before it is solved"
    )
