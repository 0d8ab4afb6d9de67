"""Variants x seeds over one split, or over several synthetic worlds, and one table of them."""

import sys
from typing import Any

from jobs.command import run
from pipeline.config.schema import Config


def work(config: Config) -> dict[str, Any]:
    """Train and evaluate `ablate.variants` for every seed (and every world); print the table."""
    from pipeline.experiments.ablation import ablate
    from pipeline.experiments.worlds import ablate_worlds

    do = ablate_worlds if config.ablate.worlds else ablate
    ablated = do(config, say=lambda line: print(f"ablate: {line}", file=sys.stderr))
    print(ablated.text)
    return ablated.facts


if __name__ == "__main__":
    run("ablate", work)
