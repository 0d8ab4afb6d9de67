"""Turn a data set into Arrow shards with splits, labels and quarantine.

Archives that are still packed (`data.archives`) or still at Zenodo (`data.zenodo_record`) are
brought in first.
"""

import dataclasses
from collections import Counter
from typing import Any

from jobs.command import run
from jobs.progress import ProgressLine
from pipeline.config.schema import Config
from pipeline.data.prepare.quarantine import ReasonCount, count_reasons


def work(config: Config) -> dict[str, Any]:
    """Prepare `data.root` into `data.blocks`; a second run finds it done."""
    from pipeline.data.prepare.prepare import find_blocks, prepare, read_quarantine
    from pipeline.datasets.download.fetch import take_in
    from pipeline.datasets.protocol.registry import open_dataset

    unpacked = take_in(config.data, lambda what: ProgressLine(what, "MB"))
    manifest = prepare(config, ProgressLine("prepare", "frames"))
    folder = find_blocks(config)
    sources = open_dataset(config.data.dataset).file_sources
    reasons = count_reasons(read_quarantine(folder), file_sources=sources)
    for reason in reasons:
        print(_line(reason))
    return {
        "unpacked": [str(folder) for folder in unpacked],
        "blocks": str(folder),
        "split_hash": manifest.split_hash,
        "found": manifest.num_found,
        "accepted": manifest.num_accepted,
        "quarantined": manifest.num_quarantined,
        "refused_scenes": manifest.num_refused_scenes,
        "refused_archives": manifest.num_refused_archives,
        "quarantine": {reason.kind: reason.num_frames + reason.num_whole for reason in reasons},
        "label_rules": dict(Counter(scene.label_rule for scene in manifest.scenes)),
        "labels": {split: dataclasses.asdict(counts) for split, counts in manifest.labels.items()},
    }


def _line(reason: ReasonCount) -> str:
    whole = f" and {reason.num_whole} whole scenes or archives" if reason.num_whole else ""
    return f"left out: {reason.num_frames} frames{whole}: {reason.kind}\n  e.g. {reason.example}"


if __name__ == "__main__":
    run("prepare", work)
