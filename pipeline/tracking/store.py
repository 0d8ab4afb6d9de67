"""The store that runs are in: a client of it, its experiment, and a fresh sqlite database.

MLflow makes the tables of an empty database in some fifty steps, without a transaction round them
and without a lock: a second job that starts meanwhile finds half of them and fails, and so does
every later one when the first is killed. So one process makes the database under another name, and
only then is it there.
"""

import os
from pathlib import Path
from urllib.parse import quote

# Both are read when mlflow is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from pipeline.config.schema import TrackingConfig
from pipeline.runtime.file_lock import file_lock

SQLITE = "sqlite:///"
ARTIFACTS = "mlartifacts"
"""Folder of artifacts beside a sqlite database."""


def client_of(uri: str) -> MlflowClient:
    """A client of `tracking.uri`; a fresh sqlite store is made first."""
    path = uri.removeprefix(SQLITE)
    if uri.startswith(SQLITE) and not Path(path).is_absolute():
        raise ValueError(
            f"tracking.uri={uri} is relative, so each process would open its own file; write "
            f"{SQLITE}/absolute/path.db"
        )
    if uri.startswith(SQLITE):
        _demand_database(Path(path))
    return MlflowClient(address_of(uri))


def address_of(uri: str) -> str:
    """What MLflow is given for `tracking.uri`.

    The name of a database's file is a path and may hold any character; in an address some of them
    mean something else, and SQLAlchemy decodes what is encoded. MLflow does not, and would make a
    folder of the encoded name beside it, but for addresses that name the driver.
    """
    path = quote(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or uri == SQLITE + path:
        return uri
    return f"sqlite+pysqlite:///{path}"


def _artifacts_of(database: Path) -> str:
    return (database.parent / ARTIFACTS).as_uri()


def demand_experiment(client: MlflowClient, config: TrackingConfig) -> str:
    """Id of the config's experiment, made where there is none yet; ValueError if it was deleted."""
    found = client.get_experiment_by_name(config.experiment)
    if found is None:
        _create_experiment(client, config)
        found = client.get_experiment_by_name(config.experiment)
    assert found is not None
    if found.lifecycle_stage != "active":
        raise ValueError(
            f"tracking.experiment={config.experiment} was deleted in {config.uri}; restore it "
            "there or choose another name"
        )
    return found.experiment_id


def _create_experiment(client: MlflowClient, config: TrackingConfig) -> None:
    location = None
    if config.uri.startswith(SQLITE):
        location = _artifacts_of(Path(config.uri.removeprefix(SQLITE)))
    try:
        client.create_experiment(config.experiment, artifact_location=location)
    except MlflowException as error:  # two jobs that start together may both find none
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def _demand_database(database: Path) -> None:
    """Make the database unless it is there; jobs that start at once wait for the first one."""
    if database.is_file():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(database.with_name(f".{database.name}.lock")):
        if database.is_file():
            return
        temporary = database.with_name(f".{database.name}.tmp")
        # What a killed process left, its journal too, which sqlite would roll back into ours.
        for leftover in database.parent.glob(f"{temporary.name}*"):
            leftover.unlink()
        # The second is where MLflow's own experiment, `Default`, would keep files.
        SqlAlchemyStore(
            address_of(f"{SQLITE}{temporary}"), _artifacts_of(database)
        ).engine.dispose()
        temporary.replace(database)
