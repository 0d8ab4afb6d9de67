"""The miniature archive as fixtures."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.anovox_archive import SCENE_ID, write_archive


@pytest.fixture(name="write_archive")
def write_archive_fixture() -> Callable[..., Path]:
    """`write_archive(root, name=..., scene_ids=..., frame_ids=..., ...)` returns its folder."""
    return write_archive


@pytest.fixture
def archive_path(tmp_path: Path) -> Path:
    """One static archive with one scene of frames 998 to 1001."""
    return write_archive(tmp_path)


@pytest.fixture
def scene_path(archive_path: Path) -> Path:
    return archive_path / f"Scenario_{SCENE_ID}"
