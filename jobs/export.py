"""Write a run's detector as a torch.export program that needs none of this code, and its card."""

import sys
from typing import Any

from jobs.command import run
from pipeline.config.schema import Config


def work(config: Config) -> dict[str, Any]:
    """Export the best checkpoint, check the file against it, log it; tell where it is."""
    from pipeline.export.export_run import export_run

    return export_run(config, say=lambda line: print(f"export: {line}", file=sys.stderr))


if __name__ == "__main__":
    run("export", work)
