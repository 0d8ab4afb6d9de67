"""What the driver of a training hands to every worker."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.config.schema import Config


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """One training: its settings, run, folder and data."""

    config: Config
    run_id: str
    """MLflow run, created by the driver."""
    folder: Path
    """Run folder, reachable by every worker."""
    blocks: Path
    """Prepared shards."""
    revision: str
    """Git revision of the program."""
