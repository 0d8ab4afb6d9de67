"""Parameters, frames/s, latency and memory of every row of a grid, timed against each other."""

from typing import Any

from jobs.command import run
from jobs.progress import ProgressLine
from pipeline.config.schema import Config


def work(config: Config) -> dict[str, Any]:
    """Time the networks of `ablate.variants` on frames of the val split; print the table."""
    from pipeline.experiments.profile import profile

    profiled = profile(config, ProgressLine("profile", "turns"))
    print(profiled.text)
    return profiled.facts


if __name__ == "__main__":
    run("profile", work)
