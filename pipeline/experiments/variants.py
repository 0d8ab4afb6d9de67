"""Rows of a grid: a name and what it changes, written as one string.

One string per row keeps a grid readable in YAML and makes each row's changes the same words as on
the command line.
"""

import re
from collections.abc import Sequence

from pipeline.config.load import override
from pipeline.config.schema import Config

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def parse_row(text: str) -> tuple[str, list[str]]:
    """Name and `key=value` overrides of a row "NAME key=value key=value ...".

    No overrides at all is the config itself. Values hold no spaces: a list is `[a,b]`. Raises
    ValueError for a row without a name that can be one of a folder, a run and a metric, or with a
    word that is no override.
    """
    name, *overrides = text.split() or [""]
    if not name or "=" in name:
        raise ValueError(
            f"row {text!r} has no name; write it as NAME key=value key=value, e.g. "
            "late model.fusion=late"
        )
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"row {text!r} is named {name!r}, which also names a folder and metrics in MLflow; use "
            "letters, digits, _, . and -"
        )
    for word in overrides:
        if "=" not in word:
            raise ValueError(
                f"row {text!r} holds {word!r}, which has no '='; write it as NAME key=value "
                "key=value, lists without spaces"
            )
    return name, overrides


def row_configs(config: Config, rows: Sequence[str]) -> dict[str, Config]:
    """The config of every row by its name, in order; ValueError names the row that is wrong.

    All rows are checked before the first is run. Names are unique.
    """
    found: dict[str, Config] = {}
    for text in rows:
        name, overrides = parse_row(text)
        if name in found:
            raise ValueError(f"two rows are named {name}; give each row its own name")
        try:
            found[name] = override(config, overrides)
        except ValueError as error:
            raise ValueError(f"row {name}: {error}") from error
    return found
