"""Turn AnoVox archives into Arrow shards with splits, labels and quarantine."""

import dataclasses
from typing import Any

from jobs.command import run
from jobs.progress import Progress
from pipeline.config import Config
from pipeline.data.blocks import find_blocks, prepare


def work(config: Config) -> dict[str, Any]:
    """Prepare `data.root` into `data.blocks`; a second run finds it done."""
    manifest = prepare(config, Progress("prepare", "frames"))
    return {
        "blocks": str(find_blocks(config)),
        "split_hash": manifest.split_hash,
        "found": manifest.num_found,
        "accepted": manifest.num_accepted,
        "quarantined": manifest.num_quarantined,
        "refused_scenes": manifest.num_refused_scenes,
        "refused_archives": manifest.num_refused_archives,
        "labels": {split: dataclasses.asdict(counts) for split, counts in manifest.labels.items()},
    }


if __name__ == "__main__":
    run("prepare", work)
