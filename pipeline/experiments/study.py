"""A study: the run in MLflow and the folder that many trainings share."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.load import flatten
from pipeline.config.schema import Config
from pipeline.runtime.revision import git_revision
from pipeline.tracking import runs
from pipeline.training.trainer import config_hash


@dataclass(frozen=True, kw_only=True)
class Study:
    """Where the trainings' runs and folders are."""

    run_id: str
    """Parent run in MLflow."""
    folder: Path


def open_study(
    config: Config,
    *,
    name: str,
    split_hash: str,
    marks: Mapping[str, str] | None = None,
    varied: Collection[str] = (),
) -> Study:
    """The study of this name, base config, split and `marks`: found again, or begun.

    Marks are further tags that tell one study from another. `varied` keys are no params of the
    study: their base value would stand beside the results of other values.
    """
    params = {key: value for key, value in flatten(config).items() if key not in varied}
    tags = {
        "study": name,
        "config_hash": config_hash(config),
        "split_hash": split_hash,
        **(marks or {}),
    }
    run_id = runs.find_run(config.tracking, tags)
    if run_id:
        runs.reopen(config.tracking, run_id, params=params)
    else:
        run_id = runs.start_run(
            config.tracking,
            name=name,
            params=params,
            tags=tags | {"revision": git_revision()},
        )
    folder = Path(config.storage_path) / f"{name}-{run_id[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    return Study(run_id=run_id, folder=folder)
