"""Rules that fields of several config sections share; a ValueError names key, value and rule."""

import math
from collections.abc import Sequence
from typing import Any


def choices(key: str, values: Sequence[str], *, legal: Sequence[str]) -> None:
    """Refuse an empty list and values that are not legal."""
    not_empty(key, values)
    for value in values:
        if value not in legal:
            raise ValueError(f"{key} holds {value!r}; legal values are {', '.join(legal)}")


def not_empty(key: str, values: Sequence[Any]) -> None:
    """Refuse an empty list."""
    if not values:
        raise ValueError(f"{key} is empty; give it at least one value")


def at_least(section: str, config: Any, key: str, least: float | int) -> None:
    """Refuse a number below `least`, nan and infinity."""
    value = getattr(config, key)
    if not least <= value < math.inf:
        raise ValueError(f"{section}.{key} is {value}; it must be a finite number >= {least}")


def positive(section: str, config: Any, key: str) -> None:
    """Refuse a number that is not above 0, nan and infinity."""
    value = getattr(config, key)
    if not 0 < value < math.inf:
        raise ValueError(f"{section}.{key} is {value}; it must be a finite number > 0")
