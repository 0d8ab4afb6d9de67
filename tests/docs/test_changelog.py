"""CHANGELOG.md tells every rename, and of every version that there is."""

import tomllib

import pytest

from pipeline.config.keys import RENAMED, RENAMED_VALUES
from tests.helpers.repository import REPOSITORY

TEXT = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_renamed_setting_is_told(old: str, new: str) -> None:
    assert f"| `{old}` | `{new}` |" in TEXT


def test_renamed_values_are_told() -> None:
    for (key, old), new in RENAMED_VALUES.items():
        assert f"| `{key}={old}` | `{key}={new}` |" in TEXT


def test_the_version_of_the_package_has_its_section() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert f"\n## [{project['version']}] - " in TEXT
    assert "\n## [Unreleased]\n" in TEXT
