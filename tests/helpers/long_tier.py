"""A tier that takes hours may be stopped: `--resume FILE` keeps what passed and leaves it out.

Results count for one revision of the program; of a program with changes they are told, and never
believed.
"""

import csv
from datetime import date
from pathlib import Path

import pytest

from pipeline.runtime.revision import CHANGES

COLUMNS = ("revision", "test", "outcome", "seconds", "date")


class Record:
    """pytest's hooks; of xdist's processes the one that hands out the tests writes."""

    def __init__(self, path: Path, revision: str, *, writes: bool) -> None:
        self.path, self.revision, self.writes = path, revision, writes

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]):
        """Leave out what has passed."""
        passed = self.passed()
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in passed])
        items[:] = [item for item in items if item.nodeid not in passed]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.writes and (report.when == "call" or report.failed):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not self.path.exists()
            with self.path.open("a", newline="") as file:
                writer = csv.writer(file)
                writer.writerows([COLUMNS] if is_new else [])
                facts = (report.nodeid, report.outcome, f"{report.duration:.0f}", date.today())
                writer.writerow((self.revision, *facts))

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """That nothing is left to run is no failure."""
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self.passed():
            session.exitstatus = pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table for docs/benchmarks.md, earlier starts included."""
        terminalreporter.write_line(f"\n{self.path} of {self.revision}:\n")
        terminalreporter.write_line("| test | outcome | seconds | date |\n|---|---|---:|---|")
        for row in self.rows():
            cells = (row[name] for name in COLUMNS[1:])
            terminalreporter.write_line(f"| {' | '.join(cells)} |")

    def rows(self) -> list[dict[str, str]]:
        """What was noted of this revision."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if row["revision"] == self.revision]

    def passed(self) -> set[str]:
        """The newest outcome of a test counts."""
        if self.revision.endswith(CHANGES):
            return set()
        newest = {row["test"]: row["outcome"] for row in self.rows()}
        return {test for test, outcome in newest.items() if outcome == "passed"}
