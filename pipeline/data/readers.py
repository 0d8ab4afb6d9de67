"""The one place where a split is opened as the config says: local shards, or a node's own copy."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.data.block_reader import BlockReader
from pipeline.data.cache import fetch_split, is_remote
from pipeline.data.frames import Extra
from pipeline.runtime.progress import Say


def training_extras(config: Config) -> tuple[Extra, ...]:
    """What the loss needs beside what every batch holds."""
    return ("pixels",) if config.model.pixel_head else ()


def open_reader(
    config: Config,
    folder: Path,
    split: str,
    *,
    num_sweeps: int,
    say: Say,
    extras: Sequence[Extra] = (),
) -> BlockReader:
    """Reader of a split of the prepared `folder` (what `find_blocks` gave).

    `num_sweeps` is `data.num_sweeps`, or 1 for what looks at single clouds; `extras` names what
    batches hold beside the rest: `pixels`, `voxels`. Where `data.blocks` is remote, this
    node's copy is made first, and `say` tells of it.
    """
    if is_remote(config.data.blocks):
        folder = fetch_split(config, split, say=say)
    return BlockReader(
        folder,
        split,
        ego_box_m=config.data.ego_box_m,
        num_sweeps=num_sweeps,
        augmentation=config.augment,
        extras=extras,
        outliers=config.outliers,
        pinned=config.scaling.use_gpu,
    )
