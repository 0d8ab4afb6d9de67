"""Exceptions for runs that completed but are invalid."""

from typing import Any


class Pruned(SystemExit):
    """Raised inside a trial that its scheduler has stopped; whoever stopped it ends its run."""


class RunFailed(RuntimeError):
    """A run that ended badly for a known reason (`collapsed`, `no_signal`, `no_resources`, ...).

    `reason` becomes the MLflow tag `failure` and the job's JSON; `facts` are added to that JSON.
    """

    def __init__(self, sentence: str, *, reason: str, facts: dict[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.facts = facts or {}
