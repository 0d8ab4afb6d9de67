"""The shape of the program: one direction of imports, Ray and MLflow at the edges only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.repository import REPOSITORY

ROOMS = (
    "pipeline.metrics.metric",
    "pipeline.config",
    "pipeline.runtime",
    "pipeline.datasets.download",
    "pipeline.datasets.protocol",
    "pipeline.datasets.anovox",
    "pipeline.visualization",
    "pipeline.synthetic",
    "pipeline.inspection",
    "pipeline.data",
    "pipeline.models",
    "pipeline.losses",
    "pipeline.metrics",
    "pipeline.tracking",
    "pipeline.training",
    "pipeline.evaluation",
    "pipeline.export",
    "pipeline.experiments",
    "pipeline.interface",
    "jobs",
)
"""A room imports from rooms above it and from itself."""
MAY_USE_RAY = (
    "pipeline.runtime.ray_cluster",
    "pipeline.data.prepare.prepare",
    "pipeline.data.prepare.scene_rules",
    "pipeline.data.stream",
    "pipeline.training",
    "pipeline.evaluation.parallel_inference",
    "pipeline.experiments",
    "jobs",
)
MAY_USE_MLFLOW = ("pipeline.tracking", "pipeline.export.pyfunc_model")
BELONGS_TO_RAY = ("ray", "pipeline.runtime.ray_cluster")
WITHOUT_RAY_AND_MLFLOW = (
    "pipeline.config",
    "pipeline.runtime.errors",
    "pipeline.datasets",
    "pipeline.visualization",
    "pipeline.data.batch",
    "pipeline.data.readers",
    "pipeline.models",
    "pipeline.losses",
    "pipeline.metrics",
    "pipeline.training.health_checks",
    "pipeline.evaluation.audit",
    "pipeline.evaluation.baselines",
)
WITHOUT_TORCH = (
    "pipeline.config",
    "pipeline.metrics.metric",
    "pipeline.runtime.errors",
    "pipeline.datasets",
)
PREPARE_WORKER = ("pipeline.data.prepare.prepare",)
KNOW_ANOVOX = ("pipeline.datasets.anovox", "pipeline.synthetic", "pipeline.inspection")
BLOCK = """
import importlib, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocker())
for module in {modules!r}:
    importlib.import_module(module)
"""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def modules(*prefixes: str) -> dict[str, Path]:
    paths = [*REPOSITORY.glob("pipeline/**/*.py"), *REPOSITORY.glob("jobs/**/*.py")]
    found = {module_name(path): path for path in sorted(paths)}
    return {name: path for name, path in found.items() if belongs(name, prefixes or ("",))}


def belongs(module: str, packages: tuple[str, ...]) -> bool:
    return any(p == "" or module == p or module.startswith(f"{p}.") for p in packages)


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> int:
    return next(i for i, room in enumerate(ROOMS) if belongs(module, (room,)))


def test_every_module_stands_in_a_room() -> None:
    loose = [m for m in modules() if not belongs(m, ROOMS)]
    assert loose == ["pipeline", "pipeline.datasets"]


@pytest.mark.parametrize("module", [m for m in modules() if belongs(m, ROOMS)])
def test_a_module_imports_only_from_rooms_above_its_own(module: str) -> None:
    for name in imports(modules()[module]):
        if belongs(name, ("pipeline", "jobs")):
            assert room_of(name) <= room_of(module), f"{module} imports {name}"


def test_only_the_edges_import_ray() -> None:
    for module, path in modules().items():
        if not belongs(module, MAY_USE_RAY):
            used = [name for name in imports(path) if belongs(name, BELONGS_TO_RAY)]
            assert not used, f"{module} imports {used}"


def test_only_tracking_and_the_logged_model_import_mlflow() -> None:
    for module, path in modules().items():
        if not belongs(module, MAY_USE_MLFLOW):
            assert not [name for name in imports(path) if belongs(name, ("mlflow",))], module


def test_only_the_writer_and_the_checks_of_anovox_import_its_reader() -> None:
    for module, path in modules().items():
        if not belongs(module, KNOW_ANOVOX):
            used = [name for name in imports(path) if belongs(name, KNOW_ANOVOX[:1])]
            assert not used, f"{module} imports {used}; ask for it in datasets.protocol"


def test_the_dataset_reader_imports_neither_torch_nor_ray() -> None:
    for module, path in modules("pipeline.datasets.anovox").items():
        used = [name for name in imports(path) if belongs(name, ("torch", "torchvision", "ray"))]
        assert not used, f"{module} imports {used}"


def test_tracking_knows_only_settings_and_runtime() -> None:
    known = ("pipeline.config", "pipeline.runtime", "pipeline.tracking")
    for module, path in modules("pipeline.tracking").items():
        used = [name for name in imports(path) if belongs(name, ("pipeline",))]
        assert all(belongs(name, known) for name in used), f"{module} imports {used}"


@pytest.mark.parametrize(
    ("packages", "blocked"),
    [
        (WITHOUT_RAY_AND_MLFLOW, {"ray", "mlflow"}),
        (WITHOUT_TORCH, {"ray", "mlflow", "torch", "torchvision", "pandas", "matplotlib"}),
        (PREPARE_WORKER, {"ray", "mlflow", "torch", "torchvision", "matplotlib"}),
    ],
    ids=["without ray and mlflow", "without torch", "workers of prepare"],
)
def test_packages_run_without_what_they_do_not_need(
    packages: tuple[str, ...], blocked: set[str]
) -> None:
    code = BLOCK.format(blocked=blocked, modules=list(modules(*packages)))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_blocker_really_blocks() -> None:
    code = BLOCK.format(blocked={"mlflow"}, modules=["pipeline.tracking.runs"])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert "mlflow is blocked" in done.stderr
