"""Rules that fields of several config sections share; a ValueError names key, value and rule."""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any


def choices(key: str, values: Sequence[str], *, legal: Collection[str]) -> None:
    """Refuse an empty list and values that are not legal."""
    not_empty(key, values)
    for value in values:
        if value not in legal:
            raise ValueError(f"{key} holds {value!r}; legal values are {', '.join(legal)}")


def one_of(default: str, legal: Callable[[], Iterable[str]]) -> Any:
    """A field of names that a registry can be given more of; `legal` tells those of now."""
    return dataclasses.field(default=default, metadata={"legal": legal})


def registered(section: str, config: Any) -> None:
    """Refuse values of the fields made by `one_of` that their registries do not know."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if "legal" in field.metadata and value != field.default:
            legal = list(field.metadata["legal"]())
            if value not in legal:
                raise ValueError(
                    f"{section}.{field.name}: Invalid value {value!r}, expected one of {legal}"
                )


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
