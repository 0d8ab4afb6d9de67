"""What benchmarks run on with --toy: a small world, its shards, a small and short training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.reader_training import TOY
from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.prepare.prepare import prepare
from pipeline.synthetic.writer import write_archives

SMALL = {
    "model": {"image_channels": 8, "point_channels": 8, "image_stages": 2},
    "train": {"precision": "fp32"},
    "scaling": {"num_workers": 0},
    "health_checks": {"enabled": False},
    "evaluation": {"num_bootstraps": 100},
}


def toy_config(place: Path, *changes: Mapping[str, Any]) -> Config:
    """The config of a small world under `place`, which is made and prepared there."""
    own = {
        "data": {"root": str(place / "anovox"), "blocks": str(place / "blocks")},
        "storage_path": str(place / "runs"),
        "tracking": {"uri": f"sqlite:///{place}/mlflow.db", "system_metrics": False},
    }
    config = merge(Config(), TOY, SMALL, own, *changes)
    write_archives(config.synthetic, Path(config.data.root), None)
    prepare(config, lambda done, total: None)
    return config
