"""Rows x seeds over one split, side by side, and one table of what each row changes."""

import sys
from typing import Any

from jobs.command import run
from pipeline.config.schema import Config


def work(config: Config) -> dict[str, Any]:
    """Train and evaluate every row of `ablate.variants` for every seed; print the table."""
    from pipeline.experiments.ablation import ablate

    ablated = ablate(config, say=lambda line: print(f"ablate: {line}", file=sys.stderr))
    print(ablated.text)
    return ablated.facts


if __name__ == "__main__":
    run("ablate", work)
