"""A search space: one string per dimension, in the words of the command line.

A dimension draws texts, so a drawn setting is an override like any other: what a search tried can
be typed again, digit for digit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config.load import flatten
from pipeline.config.schema import Config

RANGES, LISTS = ("uniform", "loguniform"), ("choice", "grid")
DIGITS = 4
"""Significant digits of a drawn number; more where a range is narrow beside its place."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """`if KEY=VALUE,VALUE`: the dimension counts only where an earlier one has such a value."""

    key: str
    values: tuple[str, ...]

    def __call__(self, settings: Mapping[str, str]) -> bool:
        """Whether it holds for the settings so far."""
        return settings.get(self.key) in self.values


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """What a search may do with one key."""

    text: str
    key: str
    kind: str
    """`uniform`, `loguniform`, `choice` or `grid`."""
    low: float = math.nan
    high: float = math.nan
    """Ends of a range; nan for a list."""
    whole: bool = False
    """Whether the key holds whole numbers; both ends of the range are drawn then."""
    values: tuple[str, ...] = ()
    """Of a list."""
    condition: Condition | None = None

    def draw(self, rng: np.random.Generator) -> str:
        """A value; of a grid, any."""
        if self.kind in LISTS:
            return self.values[int(rng.integers(len(self.values)))]
        if self.whole and self.kind == "uniform":
            return str(rng.integers(int(self.low), int(self.high) + 1))
        if self.kind == "uniform":
            return self.number(float(rng.uniform(self.low, self.high)))
        return self.number(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))

    def number(self, value: float) -> str:
        """The text of a number, rounded and kept inside the range."""
        rounded = round(value) if self.whole else float(f"{value:.{self._num_digits}g}")
        inside = min(max(rounded, self.low), self.high)
        return str(int(inside)) if self.whole else repr(float(inside))

    @property
    def _num_digits(self) -> int:
        place = max(abs(self.low), abs(self.high)) / (self.high - self.low)
        return DIGITS + max(0, int(math.log10(place)))

    def probes(self) -> list[str]:
        """Every value of a list; both ends and the middle of a range."""
        if self.kind in LISTS:
            return list(self.values)
        middle = (self.low + self.high) / 2
        if self.kind == "loguniform":
            middle = math.sqrt(self.low * self.high)
        return list(dict.fromkeys(self.number(value) for value in (self.low, middle, self.high)))


def parse_space(config: Config, texts: Sequence[str]) -> list[Dimension]:
    """The dimensions in order.

    Raises ValueError with the dimension and what is wrong with its words. Whether the config takes
    its values is for `pipeline.experiments.search.space_check`.
    """
    found: list[Dimension] = []
    for text in texts:
        dimension = _dimension(config, text)
        earlier = {one.key: one for one in found}
        if dimension.key in earlier:
            raise ValueError(f"tune.space has two dimensions of {dimension.key}; leave one out")
        condition = dimension.condition
        if condition and condition.key not in earlier:
            raise ValueError(
                f"tune.space {text!r} depends on {condition.key}, which is no dimension before it; "
                "write that one first"
            )
        if condition:
            _check_condition(text, condition, earlier[condition.key])
        found.append(dimension)
    return found


def active(dimensions: Sequence[Dimension], drawn: Mapping[str, str]) -> dict[str, str]:
    """The drawn values that count: those whose condition holds."""
    settings: dict[str, str] = {}
    for dimension in dimensions:
        if dimension.condition is None or dimension.condition(settings):
            settings[dimension.key] = drawn[dimension.key]
    return settings


def words(settings: Mapping[str, str]) -> list[str]:
    """Settings as `key=value` words of a command line."""
    return [f"{key}={value}" for key, value in settings.items()]


def _dimension(config: Config, text: str) -> Dimension:
    body, mark, condition = text.partition(" if ")
    parts = body.split()
    if len(parts) < 3 or parts[1] not in (*RANGES, *LISTS):
        raise ValueError(
            f"tune.space {text!r} is no dimension; write KEY uniform LOW HIGH, KEY loguniform LOW "
            "HIGH, KEY choice VALUE VALUE or KEY grid VALUE VALUE"
        )
    key, kind, *values = parts
    given: dict[str, Any] = {"text": text, "key": key, "kind": kind}
    given["condition"] = _condition(text, condition) if mark else None
    if kind in RANGES:
        return Dimension(**given, **_range(config, text, key, kind, values))
    if len(set(values)) < len(values):
        raise ValueError(f"tune.space {text!r} names a value twice; leave one out")
    return Dimension(**given, values=tuple(values))


def _range(config: Config, text: str, key: str, kind: str, values: list[str]) -> dict[str, Any]:
    try:
        low, high = map(float, values)
    except ValueError:
        raise ValueError(
            f"tune.space {text!r} is a range without its two ends; write {key} {kind} LOW HIGH"
        ) from None
    if not -math.inf < low < high < math.inf or (kind == "loguniform" and low <= 0):
        least = "0 < LOW < HIGH" if kind == "loguniform" else "LOW < HIGH"
        raise ValueError(f"tune.space {text!r} needs finite numbers with {least}")
    before = flatten(config).get(key)
    whole = isinstance(before, int) and not isinstance(before, bool)
    if whole and not (low.is_integer() and high.is_integer()):
        raise ValueError(f"tune.space {text!r} needs whole ends, as {key} holds whole numbers")
    return {"low": low, "high": high, "whole": whole}


def _check_condition(text: str, condition: Condition, other: Dimension) -> None:
    if other.kind in RANGES:
        raise ValueError(
            f"tune.space {text!r} waits for single values of {other.key}, which is a range; make "
            f"it {other.key} choice VALUE VALUE"
        )
    for value in condition.values:
        if value not in other.values:
            raise ValueError(
                f"tune.space {text!r} waits for {other.key}={value}, which is never drawn; write "
                f"one of {', '.join(other.values)}"
            )


def _condition(text: str, condition: str) -> Condition:
    key, mark, values = condition.strip().partition("=")
    if not (key and mark and values) or " " in condition.strip():
        raise ValueError(f"tune.space {text!r} has no condition after 'if'; write if KEY=VALUE")
    return Condition(key=key, values=tuple(values.split(",")))
