"""A run's detector as an MLflow model, and its versions in the registry."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from pipeline.config.schema import TrackingConfig
from pipeline.tracking import runs
from pipeline.tracking.store import address_of, client_of

PACKAGE = Path(__file__).parents[1]
MODEL = "detector"
"""Name of a run's logged model."""
MODEL_TAG, MODEL_OF_TAG = "logged_model", "logged_model_of"
"""Tags of a run: address of its logged model, and the checkpoint that it is."""
SERVED = (
    "mlflow",
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "pyarrow",
    "pillow",
    "omegaconf",
    "safetensors",
    "jaxtyping",
)
"""Packages that a logged model needs."""


def log_model(config: TrackingConfig, run_id: str, *, checkpoint: Path) -> str:
    """Log a checkpoint as the run's MLflow model `detector`; return its address (`models:/...`).

    The model is code (`pipeline/export/pyfunc_model.py`), weights in safetensors and this package;
    nothing in it is pickled. A checkpoint of a name that the run has logged is not logged again.
    The run's status stays what it was.
    """
    client = client_of(config.uri)
    run = client.get_run(run_id)
    if run.data.tags.get(MODEL_OF_TAG) == checkpoint.name:
        return run.data.tags[MODEL_TAG]
    mlflow.set_tracking_uri(address_of(config.uri))
    with mlflow.start_run(run_id=run_id, log_system_metrics=False), _no_advice_on_type_hints():
        logged = mlflow.pyfunc.log_model(
            name=MODEL,
            python_model=str(PACKAGE / "export" / "pyfunc_model.py"),
            artifacts={"checkpoint": str(checkpoint)},
            code_paths=[str(PACKAGE)],
            pip_requirements=served_requirements(),
        )
    client.update_run(run_id, status=run.info.status)
    runs.set_tags(config, run_id, {MODEL_OF_TAG: checkpoint.name, MODEL_TAG: logged.model_uri})
    return logged.model_uri


@contextmanager
def _no_advice_on_type_hints() -> Iterator[None]:
    """Frames are dicts of arrays, for which MLflow has no type hint of its own.

    Not a filter of warnings: what MLflow imports on its way may set all filters again.
    """
    show = warnings.showwarning

    def show_others(message: Warning | str, *place: Any, **more: Any) -> None:
        if "type hint" not in str(message).lower():
            show(message, *place, **more)

    with warnings.catch_warnings():
        warnings.showwarning = show_others
        yield


def register(config: TrackingConfig, run_id: str, *, model: str, name: str, alias: str) -> str:
    """Give a logged model (`models:/...`) a version of the registered model `name`; return it.

    The alias moves to that version. A model that has a version already gets no second one.
    """
    client = client_of(config.uri)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    found = [
        one
        for one in client.search_model_versions(f"name = '{name}'")
        if (one.source, one.run_id) == (model, run_id)
    ]
    version = found[0] if found else client.create_model_version(name, model, run_id=run_id)
    client.set_registered_model_alias(name, alias, version.version)
    return str(version.version)


def served_requirements() -> list[str]:
    """What the logged model needs, at the versions that run here."""
    return [f"{name}=={version(name)}" for name in SERVED]
