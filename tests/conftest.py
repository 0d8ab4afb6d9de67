"""One small synthetic world, its shards and a fresh MLflow store for the whole session.

pytest-xdist's workers share them; each has a Ray of its own.
"""

import gc
import os

# Before the program is imported, whose functions it puts the checks on.
from tests.helpers import typechecking  # noqa: F401

# Read when ray, mlflow and torch are imported, so they are set before anything else.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.runtime.file_lock import file_lock
from pipeline.runtime.revision import git_revision
from tests.helpers.long_tier import Record
from tests.helpers.tiny_world import SMALL_TRAINING, TINY_PREPARE, TINY_WORLD

# Until all is imported: garbage would be looked for in the whole of it again and again.
gc.disable()

Shared = Callable[[str], AbstractContextManager[Path]]


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "leave out what passed by this file at this revision, and note in it what runs"
    parser.addoption("--resume", type=Path, metavar="FILE", help=told)
    golden = "keep what the golden trainings measure now as what they must measure"
    parser.addoption("--write-golden", action="store_true", help=golden)


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("resume")
    if path:
        writes = not hasattr(config, "workerinput")
        config.pluginmanager.register(Record(path, git_revision(), writes=writes))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is imported now stays; no test waits until it has been searched for garbage."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """`with shared(name) as folder:` a folder of all workers, each of them alone inside the block.

    What is made there must be found whole by the next one, as jobs find what earlier ones made.
    """
    own = tmp_path_factory.getbasetemp()
    place = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    @contextmanager
    def share(name: str) -> Iterator[Path]:
        folder = place / f"shared-{name}"
        folder.mkdir(exist_ok=True)
        with file_lock(folder.with_suffix(".lock")):
            yield folder

    return share


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray with four logical CPUs; with two, workers and data tasks starve each other."""
    from pipeline.runtime.ray_cluster import ensure_ray

    ensure_ray(4)
    yield
    import ray

    ray.shutdown()


@pytest.fixture(scope="session")
def tiny_root(shared: Shared) -> Path:
    """Archives of 16 scenes of 3 frames: both kinds, one town, small images and clouds."""
    from pipeline.synthetic.writer import write_archives

    with shared("world") as folder:
        write_archives(TINY_WORLD, folder / "anovox", None)
    return folder / "anovox"


@pytest.fixture(scope="session")
def tiny_config(tiny_root: Path, shared: Shared, ray_session: None) -> Config:
    """The config of the tiny world, prepared: images at half size, several shards.

    In fp32 on every machine, as tests compare results to the last digits.
    """
    from pipeline.data.prepare.prepare import prepare

    place = {"root": str(tiny_root), "blocks": str(tiny_root.parent / "blocks")}
    exact = {"train": {"precision": "fp32"}}
    config = merge(Config(), {"data": place, "prepare": TINY_PREPARE}, exact)
    with shared("blocks"):
        prepare(config, lambda done, total: None)
    return config


@pytest.fixture(scope="session")
def tiny_blocks(tiny_config: Config) -> Path:
    """The prepared folder of the tiny world."""
    from pipeline.data.prepare.prepare import find_blocks

    return find_blocks(tiny_config)


@pytest.fixture(scope="session")
def new_store(shared: Shared) -> Callable[[Path], str]:
    """`new_store(folder)`: the URI of an empty MLflow store in it, `mlflow.db`.

    A copy, as MLflow needs seconds to make the tables.
    """
    from pipeline.tracking.store import SQLITE, client_of

    with shared("store") as made:
        client_of(f"{SQLITE}{made}/mlflow.db")

    def copy(folder: Path) -> str:
        shutil.copyfile(made / "mlflow.db", folder / "mlflow.db")
        return f"{SQLITE}{folder}/mlflow.db"

    return copy


@pytest.fixture
def small_training(tiny_config: Config, new_store: Callable[[Path], str], tmp_path: Path) -> Config:
    """Trainings of a small model on the tiny world, with folder and MLflow store of their own."""
    place = {
        "storage_path": str(tmp_path / "runs"),
        "tracking": {"uri": new_store(tmp_path), "system_metrics": False},
    }
    return merge(tiny_config, SMALL_TRAINING, place)
