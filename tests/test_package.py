"""pyproject.toml promises what the program imports, and requirements.txt pins what it promises."""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers.repository import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPENDENCIES = {
    canonicalize_name(one.name): one for one in map(Requirement, PROJECT["dependencies"])
}
OPTIONAL = {
    canonicalize_name(Requirement(text).name)
    for texts in PROJECT["optional-dependencies"].values()
    for text in texts
}
PROMISED = {*DEPENDENCIES, *OPTIONAL}
OF_OTHERS = {"cumm": "spconv"}
"""Imported only together with the package that brings them."""
USED_BY_OTHERS = {"psutil"}
"""Not imported: MLflow's system metrics (`tracking.system_metrics`) need it."""
PIN = re.compile(r"^([\w.-]+)(?:\[[\w,]+\])?==([\w.+]+)$", re.MULTILINE)
PINS: dict[str, str] = {
    canonicalize_name(name): version
    for name, version in PIN.findall((REPOSITORY / "requirements.txt").read_text())
}


def _imported() -> Iterator[tuple[str, str]]:
    """First parts of all modules that the program imports, each with a file that does."""
    for room in ("pipeline", "jobs"):
        for path in (REPOSITORY / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [str(node.module)]
                yield from ((name.split(".")[0], str(path)) for name in names)


@functools.cache
def _distributions() -> dict[str, str]:
    """A file that imports each package from outside, by the package's name at the registry."""
    own = {"pipeline", "jobs", *sys.stdlib_module_names}
    provided = packages_distributions()
    found = {}
    for module, path in _imported():
        if module not in own:
            names = [OF_OTHERS.get(module) or module, *provided.get(module, [])]
            promised = [one for one in map(canonicalize_name, names) if one in PROMISED]
            found[(promised or names)[0]] = path
    return found


def test_every_package_that_the_program_imports_is_a_dependency() -> None:
    found = _distributions()
    assert len(found) > 15
    missing = {name: at for name, at in found.items() if name not in PROMISED}
    assert missing == {}


def test_every_dependency_is_imported() -> None:
    assert PROMISED - _distributions().keys() == USED_BY_OTHERS


def test_every_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    for name, requirement in DEPENDENCIES.items():
        assert name in PINS, f"requirements.txt does not pin {name}"
        assert PINS[name] in requirement.specifier, f"{requirement} forbids the pinned version"


def test_every_dependency_has_a_lowest_version() -> None:
    for requirement in DEPENDENCIES.values():
        assert [one.version for one in requirement.specifier if one.operator == ">="], requirement


def test_the_installation_for_cpus_names_the_pinned_versions() -> None:
    page = (REPOSITORY / "docs" / "use.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"\b(torch|torchvision)==([\w.]+)", page))
    assert named == {name: PINS[name] for name in ("torch", "torchvision")}


def test_the_lowest_versions_are_those_that_are_promised() -> None:
    script = REPOSITORY / ".ci" / "lowest_versions.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    lines = [Requirement(line) for line in done.stdout.splitlines()]
    assert [canonicalize_name(one.name) for one in lines] == list(DEPENDENCIES)
    for one in lines:
        (exact,) = one.specifier
        allowed = DEPENDENCIES[canonicalize_name(one.name)]
        assert (exact.operator, one.extras) == ("==", allowed.extras)
        assert exact.version in {lowest.version for lowest in allowed.specifier}
