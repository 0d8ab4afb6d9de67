"""Every setting with its type, default, choices and sentence, read from the dataclasses themselves.

`python -m pipeline.config.reference` prints docs/config.md.
"""

import ast
import dataclasses
import functools
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pipeline.config.schema import Config

_TRAIN = (
    *("train", "model", "loss", "data", "prepare", "augment", "outliers", "health_checks"),
    *("scaling", "tracking"),
)
JOBS = {
    "synthesize": ("synthetic", "data"),
    "inspect": ("data", "inspect"),
    "prepare": ("data", "synthetic", "prepare", "scaling"),
    "audit": ("data", "prepare", "evaluation", "scaling"),
    "train": _TRAIN,
    "evaluate": ("evaluation", "data", "prepare", "scaling", "tracking"),
    "export": ("evaluation", "data", "prepare", "tracking"),
    "profile": ("profile", "ablate", *_TRAIN),
    "ablate": ("ablate", *_TRAIN, "evaluation", "synthetic"),
    "tune": ("tune", *_TRAIN, "evaluation"),
}
"""Sections that each job reads, the most telling first."""
NOT_SET_BY_HAND = "storage_mirror"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One key."""

    key: str
    kind: str
    """Its type, or its choices."""
    default: str
    """As written on a command line."""
    sentence: str


def sections() -> dict[str, type]:
    """Dataclass of each section by its name; the keys without a section stand under ''."""
    hints = get_type_hints(Config)
    return {"": Config} | {name: kind for name, kind in hints.items() if kind is not str}


@functools.cache
def settings(section: str) -> tuple[Setting, ...]:
    """The keys of a section in their order."""
    kind = sections()[section]
    sentences, hints = dict(_docstrings(kind)), get_type_hints(kind)
    return tuple(
        Setting(
            key=f"{section}.{field.name}" if section else field.name,
            kind=_kind(hints[field.name], field.metadata.get("legal")),
            default=_written(_default(field)),
            sentence=sentences[field.name],
        )
        for field in dataclasses.fields(kind)
        if not dataclasses.is_dataclass(hints[field.name]) and field.name != NOT_SET_BY_HAND
    )


def _docstrings(kind: type) -> Iterator[tuple[str, str]]:
    """Each field's name and the text under it in the source."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    for line, below in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            text = ""
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                text = " ".join(str(below.value.value).split())
            yield line.target.id, text


def _kind(hint: Any, legal: Callable[[], Iterable[str]] | None = None) -> str:
    if legal:
        return "|".join(legal())
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) is list:
        return f"list of {_kind(get_args(hint)[0])}"
    return {bool: "true|false", int: "integer", float: "number", str: "text"}[hint]


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else "''"


def settings_page() -> str:
    """All settings as docs/config.md."""
    lines = [
        "# Settings",
        "",
        "Every key is a YAML path, a command-line override (`train.lr=1e-3`) and an MLflow param."
        " This page is printed by `python -m pipeline.config.reference > docs/config.md`; defaults"
        " and rules live in `pipeline/config/`.",
        "",
        "| job | sections that it reads |",
        "|---|---|",
        *(
            f"| `{job}` | {', '.join(f'`{name}`' for name in names)} |"
            for job, names in JOBS.items()
        ),
    ]
    for name, kind in sections().items():
        lines += ["", f"## {name or 'Without a section'}", ""]
        lines += [_summary(kind), ""] if name else []
        lines += ["| key | type or choices | default | |", "|---|---|---|---|", *_rows(name)]
    return "\n".join(lines) + "\n"


def _rows(section: str) -> Iterator[str]:
    for one in settings(section):
        cells = (f"`{one.key}`", one.kind, f"`{one.default}`", one.sentence)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _summary(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split())


def help_text(names: Sequence[str], *, width: int = 100) -> str:
    """The keys of these sections for a terminal; '' are those without a section."""
    lines: list[str] = []
    for name in names:
        title = f"{name}: {_summary(sections()[name])}" if name else "Of every job"
        lines += ["", *textwrap.wrap(title, width)]
        for one in settings(name):
            lines.append(f"  {one.key}={one.default}  ({one.kind})")
            lines += textwrap.wrap(
                one.sentence, width, initial_indent=" " * 6, subsequent_indent=" " * 6
            )
    return "\n".join(lines[1:]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(settings_page())
