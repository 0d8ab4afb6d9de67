"""A short drive in the synthetic world, and its checks."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.scene import Scene, read_scenes
from pipeline.inspection.check import Check
from pipeline.inspection.scene import inspect_scene
from pipeline.synthetic.writer import write_archives
from tests.helpers import wrong_archives as wrong
from tests.helpers.archive_fixtures import archive_path, scene_path, write_archive_fixture
from tests.helpers.legible_figures import check, legends, title

__all__ = ["archive_path", "check", "legends", "scene_path", "title", "write_archive_fixture"]

NUM_FRAMES = 4
DRIVE = SyntheticConfig(
    seed=19,  # the anomaly is in sight, and the ego moves 17 m within AWAY frames
    num_scenes=2,
    num_frames=2 * wrong.AWAY + 1,
    towns=["Town03"],
    image_width=192,
    image_height=128,
    num_channels=16,
    points_per_second=40_000,
    num_processes=1,
)


@pytest.fixture(scope="session")
def drive_config() -> SyntheticConfig:
    """Of `drive`; tests write smaller or larger worlds with `dataclasses.replace`."""
    return DRIVE


@pytest.fixture(scope="session")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A normality and a static scene long enough for files of a frame far away; not to change."""
    root = tmp_path_factory.mktemp("drive") / "anovox"
    write_archives(DRIVE, root)
    return root


@pytest.fixture
def scene(drive: Path, tmp_path: Path) -> Scene:
    """A copy of the normality scene, to be changed."""
    return copied(drive, tmp_path, "Normality")


@pytest.fixture
def static_scene(drive: Path, tmp_path: Path) -> Scene:
    """A copy of the static scene, to be changed."""
    return copied(drive, tmp_path, "Static")


@pytest.fixture(name="scenes")
def scenes_fixture() -> Callable[[Path], list[Scene]]:
    """All scenes under a root."""
    return scenes


@pytest.fixture(name="checks")
def checks_fixture() -> Callable[[Scene], dict[str, Check]]:
    """The checks of a scene by name, on `NUM_FRAMES` frames."""
    return checks


@pytest.fixture
def failed() -> Callable[[Scene], set[str]]:
    """Names of the failed checks of a scene."""
    return lambda scene: {n for n, check in checks(scene).items() if check.status == "FAIL"}


def copied(drive: Path, place: Path, kind: str) -> Scene:
    name = f"AnoVox_{kind}_Mono_Town03"
    shutil.copytree(drive / name, place / "anovox" / name)
    [scene] = scenes(place / "anovox")
    return scene


def scenes(root: Path) -> list[Scene]:
    return [read_scenes(path, a)[0] for a in find_archives(root) for path in a.scenes]


def checks(scene: Scene) -> dict[str, Check]:
    return {check.name: check for check in inspect_scene(scene, num_frames=NUM_FRAMES).checks}
