"""The shape of the program: one direction of imports, Ray and MLflow at the edges only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.repository import REPOSITORY

ORDER = (
    (
        "pipeline.config.validators",
        "pipeline.runtime.file_lock",
        "pipeline.runtime.progress",
        "pipeline.runtime.revision",
        "pipeline.runtime.signals",
    ),
    ("pipeline.config.data", "pipeline.config.model", "pipeline.config.run"),
    ("pipeline.config.experiments",),
    ("pipeline.config.schema", "pipeline.runtime.errors"),
    ("pipeline.config.load", "pipeline.runtime.remote_storage"),
    ("pipeline.datasets.download", "pipeline.datasets.anovox"),
    ("pipeline.synthetic",),
    ("pipeline.runtime.ray_cluster",),
    ("pipeline.data",),
    ("pipeline.models",),
    ("pipeline.losses.reduction",),
    ("pipeline.losses.semantic",),
    ("pipeline.losses.anomaly", "pipeline.training.health_checks"),
    ("pipeline.evaluation",),
    ("pipeline.tracking.store",),
    ("pipeline.tracking.metric_logger",),
    ("pipeline.tracking.runs",),
    ("pipeline.tracking.model_registry",),
    ("pipeline.training",),
    ("pipeline.export.pyfunc_model",),
    ("pipeline.report",),
    ("pipeline.export",),
    ("pipeline.studies",),
    ("pipeline.tuning",),
    ("jobs",),
)
"""A package imports from packages above it and from itself."""
MAY_USE_RAY = (
    "pipeline.data.prepare.prepare",
    "pipeline.data.prepare.scene_rules",
    "pipeline.data.stream",
    "pipeline.evaluation.parallel_inference",
    "pipeline.runtime.ray_cluster",
    "pipeline.training",
    "pipeline.studies",
    "pipeline.tuning",
    "jobs",
)
MAY_USE_MLFLOW = (
    "pipeline.tracking.store",
    "pipeline.tracking.metric_logger",
    "pipeline.tracking.runs",
    "pipeline.tracking.model_registry",
    "pipeline.export.pyfunc_model",
)
BELONGS_TO_RAY = ("ray", "pipeline.runtime.ray_cluster")
WITHOUT_RAY_AND_MLFLOW = (
    "pipeline.config.schema",
    "pipeline.runtime.errors",
    "pipeline.datasets.download",
    "pipeline.datasets.anovox",
    "pipeline.data.batch",
    "pipeline.data.readers",
    "pipeline.models",
    "pipeline.losses.reduction",
    "pipeline.losses.semantic",
    "pipeline.losses.anomaly",
    "pipeline.training.health_checks",
    "pipeline.evaluation",
)
PREPARE_WORKER = ("pipeline.data.prepare.prepare",)
WITHOUT_TORCH = (
    "pipeline.config.schema",
    "pipeline.runtime.errors",
    "pipeline.datasets.download",
    "pipeline.datasets.anovox",
)
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


def rank(module: str) -> int:
    return next(i for i, packages in enumerate(ORDER) if belongs(module, packages))


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_from_packages_above_its_own(module: str) -> None:
    if not list(imports(modules()[module])):
        return
    own = next(p for p in ORDER[rank(module)] if belongs(module, (p,)))
    for name in imports(modules()[module]):
        if belongs(name, ("pipeline", "jobs")) and not belongs(name, (own,)):
            assert rank(name) < rank(module), f"{module} imports {name}"


def test_only_the_edges_import_ray() -> None:
    for module, path in modules().items():
        if not belongs(module, MAY_USE_RAY):
            used = [name for name in imports(path) if belongs(name, BELONGS_TO_RAY)]
            assert not used, f"{module} imports {used}"


def test_only_tracking_and_the_logged_model_import_mlflow() -> None:
    for module, path in modules().items():
        if not belongs(module, MAY_USE_MLFLOW):
            assert not [name for name in imports(path) if belongs(name, ("mlflow",))], module


def test_the_dataset_reader_imports_neither_torch_nor_ray() -> None:
    for module, path in modules("pipeline.datasets.anovox").items():
        used = [name for name in imports(path) if belongs(name, ("torch", "torchvision", "ray"))]
        assert not used, f"{module} imports {used}"


def test_tracking_knows_the_config_only() -> None:
    own = [
        name
        for name in imports(REPOSITORY / "pipeline/tracking/runs.py")
        if belongs(name, ("pipeline",))
    ]
    known = (
        "pipeline.config.schema",
        "pipeline.runtime.errors",
        "pipeline.tracking.store",
        "pipeline.tracking.metric_logger",
        "pipeline.runtime.signals",
    )
    assert all(belongs(name, known) for name in own)


@pytest.mark.parametrize(
    ("packages", "blocked"),
    [
        (WITHOUT_RAY_AND_MLFLOW, {"ray", "mlflow"}),
        (WITHOUT_TORCH, {"ray", "mlflow", "torch", "torchvision", "pandas", "matplotlib"}),
        (
            ("pipeline.data.prepare.prepare",),
            {"ray", "mlflow", "torch", "torchvision", "matplotlib"},
        ),
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
