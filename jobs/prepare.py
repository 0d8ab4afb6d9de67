"""Turn AnoVox archives into Arrow shards with splits, labels and quarantine.

Archives still packed (`data.archives`) or still at Zenodo (`data.record`) are brought in first.
"""

import dataclasses
from typing import Any

from jobs.command import run
from jobs.progress import Progress
from pipeline.archives.intake import take_in
from pipeline.config import Config
from pipeline.data.blocks import find_blocks, prepare


def work(config: Config) -> dict[str, Any]:
    """Prepare `data.root` into `data.blocks`; a second run finds it done."""
    unpacked = take_in(config.data, lambda what: Progress(what, "MB"))
    manifest = prepare(config, Progress("prepare", "frames"))
    return {
        "unpacked": [str(folder) for folder in unpacked],
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
