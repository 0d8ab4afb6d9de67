"""Audit prepared shards: shortcut probes, and the boosted tree that a detector must beat."""

from typing import Any

from jobs.command import run
from jobs.progress import ProgressLine
from pipeline.config.schema import Config

_HEADLINES = ("point_ap", "point_prevalence", "small_object_ap", "small_object_prevalence")


def work(config: Config) -> dict[str, Any]:
    """Print the tables of probes and the baseline's metrics; return what a reader looks for."""
    from pipeline.data.prepare.prepare import find_blocks
    from pipeline.evaluation.audit import audit
    from pipeline.evaluation.parallel_inference import OpenSplit

    folder = find_blocks(config)
    train, test = (OpenSplit.open(config, folder, split) for split in ("train", "test"))
    found = audit(train, test, watch=lambda phase: ProgressLine(f"audit: {phase}", "frames"))
    metrics = found.baseline.metrics("baseline")
    print("Plain features, AUROC on test scenes: against ordinary small objects, all points\n")
    print(found.features.to_string(index=False, float_format="%.3f"))
    print("\nFacts about the recording, AUROC on test frames\n")
    print(found.shortcuts.to_string(index=False, float_format="%.3f"))
    print("\nBoosted tree on the plain features\n")
    for name, value in metrics.items():
        print(f"{name:45s} {value:.4f}")
    return {
        "blocks": str(folder),
        "split_hash": test.reader.manifest.split_hash,
        "shortcuts": [*_shortcuts(found.features), *_shortcuts(found.shortcuts)],
        **{f"baseline/{name}": metrics.get(f"baseline/{name}") for name in _HEADLINES},
    }


def _shortcuts(table: Any) -> list[str]:
    """Names (first column) of the probes judged a shortcut."""
    return table.loc[table["verdict"] == "shortcut"].iloc[:, 0].tolist()


if __name__ == "__main__":
    run("audit", work)
