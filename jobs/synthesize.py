"""Write synthetic AnoVox archives under data.root."""

from pathlib import Path
from typing import Any

from jobs.command import run
from jobs.progress import ProgressLine
from pipeline.config.schema import Config


def work(config: Config) -> dict[str, Any]:
    """Write the scenes that are missing; return counts and the root."""
    from pipeline.synthetic.writer import write_archives

    root = Path(config.data.root)
    counts = write_archives(config.synthetic, root, ProgressLine("synthesize", "frames"))
    return {"root": str(root), **counts}


if __name__ == "__main__":
    run("synthesize", work)
