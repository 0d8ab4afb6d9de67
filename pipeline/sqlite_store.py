"""A fresh sqlite tracking store, made whole or not at all.

MLflow makes the tables of an empty database in some fifty steps, without a transaction round them
and without a lock: a second job that starts meanwhile finds half of them and fails, and so does
every later one when the first is killed. So one process makes the database under another name, and
only then is it there.
"""

from pathlib import Path

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from pipeline.locks import alone

SQLITE = "sqlite:///"


def demand_store(database: Path, *, artifacts: Path) -> None:
    """Make the database unless it is there; jobs that start at once wait for the first one.

    `artifacts` is where MLflow's own experiment, `Default`, would keep files.
    """
    if database.is_file():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with alone(database.with_name(f".{database.name}.lock")):
        if database.is_file():
            return
        temporary = database.with_name(f".{database.name}.tmp")
        # What a killed process left, its journal too, which sqlite would roll back into ours.
        for leftover in database.parent.glob(f"{temporary.name}*"):
            leftover.unlink()
        SqlAlchemyStore(f"{SQLITE}{temporary}", str(artifacts)).engine.dispose()
        temporary.replace(database)
