"""Check whether AnoVox archives mean what the reader takes them to mean, before anything is built
on them."""

from typing import Any

from jobs.command import run
from jobs.progress import ProgressLine
from pipeline.config.schema import Config


def work(config: Config) -> dict[str, Any]:
    """Print a table per archive, write JSON and figures; a FAIL in any of them fails the job."""
    from pipeline.inspection.report import inspect

    return inspect(config, say=print, watch=lambda name: ProgressLine(f"inspect: {name}", "scenes"))


if __name__ == "__main__":
    run("inspect", work)
