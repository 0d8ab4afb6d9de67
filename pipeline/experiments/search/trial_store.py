"""What became of every proposal of a study: one small file each, written whole or not at all.

Ray Tune's own snapshot is seconds old when a driver is killed, and the scheduler's rungs are not in
it. A study therefore goes on from these files and from the trials' checkpoints. Only the driver
writes them; with `storage_path` on object storage each one goes there at once.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.runtime import remote_storage

_FOLDER = "trials"
OPEN, FINISHED, PRUNED, SKIPPED, ERROR = "open", "finished", "pruned", "skipped", "error"
UNFINISHED = (OPEN, ERROR)
"""States in which the next start of the study tries a trial again."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """One validation of a trial."""

    epoch: int
    """Epochs trained, from 1."""
    step: int
    value: float
    """Of `tune.metric`."""
    time_s: float = 0.0
    """When the driver heard of it, since 1970."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One proposal, and the trial made of it."""

    number: int
    """Place in the order of proposals, from 0."""
    name: str
    """Of the child run and its folder; unique in the study."""
    drawn: dict[str, str]
    """Value of every dimension."""
    settings: dict[str, str]
    """Those of them that count, as overrides."""
    status: str = OPEN
    """`open`, `finished`, `pruned`, `skipped` (no trial was made of it), `error`, or the reason why
    a guard ended the training."""
    message: str = ""
    """Why it was skipped or failed."""
    run_id: str = ""
    best_step: int = 0
    """Step of the checkpoint that the training chose; 0 = the best of the history."""
    history: list[Validation] = field(default_factory=list)
    lower_is_better: bool = False
    """Of `tune.metric`."""

    @property
    def value(self) -> float | None:
        """The metric at the chosen checkpoint; None before the first validation."""
        chosen = [one.value for one in self.history if one.step == self.best_step]
        best = min if self.lower_is_better else max
        return best(chosen or [one.value for one in self.history], default=None)

    @property
    def merit(self) -> float | None:
        """The value with the sign that makes a better trial's the greater one."""
        return -self.value if self.lower_is_better and self.value is not None else self.value

    @property
    def num_epochs(self) -> int:
        """Epochs trained, as far as they were validated."""
        return self.history[-1].epoch if self.history else 0


class Ledger:
    """The records of a study by name, in memory and on disk."""

    def __init__(self, config: Config, study_folder: Path) -> None:
        self._config, self._folder = config, study_folder / _FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        remote_storage.fetch_files(config, self._folder)
        found = [_read(path) for path in self._folder.glob("*.json")]
        self._records = {one.name: one for one in sorted(found, key=lambda one: one.number)}

    def __getitem__(self, name: str) -> Record:
        return self._records[name]

    def records(self, *states: str) -> list[Record]:
        """All records, or those in one of the states, in the order of proposals."""
        return [one for one in self._records.values() if not states or one.status in states]

    def write(self, record: Record) -> Record:
        """Keep a new or changed record."""
        self._records[record.name] = record
        path = self._folder / f"{record.name}.json"
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(json.dumps(dataclasses.asdict(record)))
        temporary.replace(path)
        remote_storage.push_file(self._config, path)
        return record


def _read(path: Path) -> Record:
    facts = json.loads(path.read_text())
    return Record(**facts | {"history": [Validation(**one) for one in facts["history"]]})
