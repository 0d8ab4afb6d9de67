"""One public name, one thing: whoever searches for a name finds the one place that defines it."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.repository import REPOSITORY

SHARED = {"logger", "work"}
"""Each module's own logger, and the work of each job's file."""


def public_names(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (one.id for one in node.targets if isinstance(one, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def test_no_public_name_is_defined_twice() -> None:
    places = defaultdict(list)
    for path in sorted([*REPOSITORY.glob("pipeline/**/*.py"), *REPOSITORY.glob("jobs/*.py")]):
        for name in public_names(path):
            if not name.startswith("_") and name not in SHARED:
                places[name].append(str(path.relative_to(REPOSITORY)))
    assert len(places) > 500
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
