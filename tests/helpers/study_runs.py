"""Jobs on the tiny world as users start them, and what MLflow has of a study."""

import os
import sys
from collections import Counter
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.config.schema import Config

PREPARED = ("image_width", "frames_per_shard", "val_fraction", "test_fraction", "split_seed")
SMALL = (
    *("model.image_channels=8", "model.point_channels=8", "model.image_stages=2"),
    *("train.warmup_steps=2", "train.log_every_n_steps=1", "scaling.num_workers=0"),
    *("health_checks.enabled=false", "evaluation.num_bootstraps=100"),
)


def job(name: str, config: Config, *overrides: str) -> list[str]:
    """The command of a job on the tiny world with a small model; later overrides win."""
    return [sys.executable, "-m", f"jobs.{name}", *words(config), *overrides]


def words(config: Config) -> list[str]:
    """Overrides that make the default config one of a small model on the tiny world."""
    prepared = (f"prepare.{key}={getattr(config.prepare, key)}" for key in PREPARED)
    places = (f"data.root={config.data.root}", f"data.blocks={config.data.blocks}")
    return [*SMALL, *prepared, *places]


def environment(folder: Path) -> dict[str, str]:
    """With a folder of its own for Ray, whose killed sessions stay where they were."""
    return os.environ | {"RAY_TMPDIR": str(folder)}


def every_run(uri: str) -> list[Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("anovox")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def children(uri: str, study: str) -> dict[str, Run]:
    """Runs of a study by name; each name once, and no run in the store beside them."""
    found = [run for run in every_run(uri) if run.info.run_id != study]
    assert {run.data.tags["mlflow.parentRunId"] for run in found} <= {study}
    names = Counter(run.info.run_name for run in found)
    assert set(names.values()) <= {1}, names
    return {str(run.info.run_name): run for run in found}


def histories(uri: str, run: Run) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every metric that does not tell of time or of this machine."""
    client = MlflowClient(uri)
    keys = [key for key in run.data.metrics if not key.startswith(("perf/", "system/"))]
    points = {key: client.get_metric_history(run.info.run_id, key) for key in keys}
    return {key: sorted((p.step, p.value) for p in points[key]) for key in keys}


def steps(uri: str, run: Run, prefix: str) -> dict[str, list[int]]:
    """Steps of the metrics whose names begin so."""
    client = MlflowClient(uri)
    keys = [key for key in run.data.metrics if key.startswith(prefix)]
    return {
        key: sorted(p.step for p in client.get_metric_history(run.info.run_id, key)) for key in keys
    }
