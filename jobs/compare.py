"""Fused detector against each modality alone on several synthetic worlds."""

import sys
from typing import Any

from jobs.command import run
from pipeline.config.schema import Config


def work(config: Config) -> dict[str, Any]:
    """Train and evaluate every fusion type on every world; finished cells are not run again."""
    from pipeline.experiments.comparison import compare

    compared = compare(config, say=lambda line: print(line, file=sys.stderr))
    print(compared.text)
    return compared.facts


if __name__ == "__main__":
    run("compare", work)
