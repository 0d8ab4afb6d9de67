"""A study: the run in MLflow and the folder that many trainings share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline import tracking
from pipeline.config import Config
from pipeline.merging import flatten
from pipeline.training.trainer import config_hash, git_revision


@dataclass(frozen=True, kw_only=True)
class Study:
    """Where the trainings' runs and folders are."""

    run_id: str
    """Parent run in MLflow."""
    folder: Path


def open_study(
    config: Config, *, name: str, split_hash: str, marks: Mapping[str, str] | None = None
) -> Study:
    """The study of this name, base config, split and `marks`: found again, or begun.

    Marks are further tags that tell one study from another.
    """
    tags = {
        "study": name,
        "config_hash": config_hash(config),
        "split_hash": split_hash,
        **(marks or {}),
    }
    run_id = tracking.find_run(config.tracking, tags)
    if run_id:
        tracking.reopen(config.tracking, run_id, params=flatten(config))
    else:
        run_id = tracking.start_run(
            config.tracking,
            name=name,
            params=flatten(config),
            tags=tags | {"revision": git_revision()},
        )
    folder = Path(config.storage_path) / f"{name}-{run_id[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    return Study(run_id=run_id, folder=folder)
