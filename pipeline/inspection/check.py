"""The record that every check yields, and the worst of many.

A check is one line of the report: what was found, what was to be expected of this scene's own
sensors, on how much it was measured, and what it means for the reader.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CheckStatus = Literal["pass", "warn", "FAIL"]
_RANK: dict[CheckStatus, int] = {"pass": 0, "warn": 1, "FAIL": 2}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the report."""

    name: str
    status: CheckStatus
    found: str
    expected: str
    num_frames: int
    """Frames it was measured on."""
    num_items: int
    """Files, points, pixels or cells it was measured on."""
    unit: str
    """What `num_items` counts."""
    meaning: str
    """One sentence: what it means, or the way out where the status is not pass."""


def not_measured(name: str, expected: str, why: str) -> Check:
    """A check that had nothing to measure; it is never passed in silence."""
    return Check(
        name=name,
        status="warn",
        found="not measured",
        expected=expected,
        num_frames=0,
        num_items=0,
        unit="",
        meaning=why,
    )


def worst(statuses: Sequence[CheckStatus]) -> CheckStatus:
    """FAIL before warn before pass; pass of nothing."""
    none: CheckStatus = "pass"
    return max([none, *statuses], key=_rank)


def worst_check(checks: Sequence[Check]) -> Check:
    """The first of those with the worst status."""
    return max(checks, key=lambda check: _rank(check.status))


def _rank(status: CheckStatus) -> int:
    return _RANK[status]
