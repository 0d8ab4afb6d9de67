"""Train a detector on prepared shards and record the run in MLflow."""

import sys
from typing import Any

from jobs.command import run
from pipeline.config.schema import Config


def work(config: Config) -> dict[str, Any]:
    """Train, draw the curves, return the run's id, folder and best validation."""
    from pipeline.training.report import report_training
    from pipeline.training.trainer import fit

    trained = fit(config, say=lambda line: print(line, file=sys.stderr))
    return report_training(config, trained)


if __name__ == "__main__":
    run("train", work)
