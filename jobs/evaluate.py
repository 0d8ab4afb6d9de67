"""Evaluate a checkpoint once on the locked test split, with its controls beside it."""

from typing import Any

from jobs.command import run
from jobs.progress import ProgressLine
from pipeline.config.schema import Config


def work(config: Config) -> dict[str, Any]:
    """Score the test split, print the results table, log metrics and figures to the run."""
    from pipeline.evaluation.evaluate import evaluate

    evaluated = evaluate(config, watch=lambda phase: ProgressLine(f"evaluate: {phase}", "frames"))
    print(evaluated.text)
    return evaluated.facts


if __name__ == "__main__":
    run("evaluate", work)
