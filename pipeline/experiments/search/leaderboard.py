"""The trials of a study in order of their validation metric, and what became of the others."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.experiments.search.space import words
from pipeline.experiments.search.trial_store import FINISHED, PRUNED, SKIPPED, UNFINISHED, Record
from pipeline.visualization.tables import aligned, sensible

REASON_CHARACTERS = 160


def ranked(records: Sequence[Record]) -> list[Record]:
    """Finished trials with the best first, then pruned ones in the same way."""
    ended = [one for one in records if one.value is not None]
    finished = [one for one in ended if one.status == FINISHED]
    pruned = [one for one in ended if one.status == PRUNED]
    return [
        one
        for group in (finished, pruned)
        for one in sorted(group, key=lambda one: (-(one.merit or 0.0), one.number))
    ]


def counts(records: Sequence[Record]) -> dict[str, int]:
    """Trials by how they ended, and what they cost together."""
    found = Counter(one.status for one in records)
    known = found[FINISHED] + found[PRUNED] + found[SKIPPED]
    return {
        "num_finished": found[FINISHED],
        "num_pruned": found[PRUNED],
        "num_skipped": found[SKIPPED],
        "num_failed": len(records) - known,
        "num_epochs_trained": sum(one.num_epochs for one in records),
    }


def board(records: Sequence[Record], *, metric: str) -> str:
    """A table of the ranked trials, then one line for each other one with its reason."""
    lines = [
        [
            str(rank),
            one.name,
            sensible(one.value or 0.0),
            one.status,
            str(one.num_epochs),
            " ".join(words(one.settings)),
            one.run_id[:8],
        ]
        for rank, one in enumerate(ranked(records), start=1)
    ]
    header = ["rank", "trial", f"val {metric}", "status", "epochs", "settings", "run"]
    return "\n".join([aligned(header, lines), *_others(records)])


def write_leaderboard_csv(
    records: Sequence[Record], path: Path, *, metric: str, split_hash: str
) -> Path:
    """Every record with every setting in a column of its own; return the path."""
    keys = list(dict.fromkeys(key for one in records for key in one.settings))
    header = ["trial", "status", f"val/{metric}", "epochs", "run_id", "split_hash", *keys, "reason"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for one in records:
            value = "" if one.value is None else one.value
            settings = [one.settings.get(key, "") for key in keys]
            facts = [one.name, one.status, value, one.num_epochs, one.run_id, split_hash]
            writer.writerow([*facts, *settings, one.message])
    return path


def _others(records: Sequence[Record]) -> list[str]:
    """Skipped trials and failed ones."""
    shown = [one for one in records if one.status not in (FINISHED, PRUNED)]
    if not shown:
        return []
    return ["", *(f"{one.name} {_state(one)}: {_reason(one)}" for one in shown)]


def _state(record: Record) -> str:
    return "failed" if record.status in UNFINISHED else record.status


def _reason(record: Record) -> str:
    text = f"{' '.join(words(record.settings))}: {record.message}"
    return text if len(text) <= REASON_CHARACTERS else f"{text[: REASON_CHARACTERS - 3]}..."
