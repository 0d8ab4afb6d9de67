"""Search over config keys: trials side by side, hopeless ones pruned, the best one evaluated."""

import sys
from typing import Any

from jobs.command import run
from pipeline.config.schema import Config


def work(config: Config) -> dict[str, Any]:
    """Run the trials of `tune.space` that are not done; print the leaderboard and the best one."""
    from pipeline.experiments.search.tune import tune

    tuned = tune(
        config,
        command=sys.argv[1:],
        say=lambda line: print(f"tune: {line}", file=sys.stderr, flush=True),
    )
    print(tuned.text)
    return tuned.facts


if __name__ == "__main__":
    run("tune", work)
