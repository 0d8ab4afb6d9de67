"""The one place where a split is opened as the config says: local shards, or a node's own copy."""

from pathlib import Path

from pipeline.config import Config
from pipeline.data.batches import BlockReader
from pipeline.data.cache import Say, fetch_split, is_remote


def open_reader(config: Config, folder: Path, split: str, *, window: int, say: Say) -> BlockReader:
    """Reader of a split of the prepared `folder` (what `find_blocks` gave).

    `window` is `data.window`, or 1 for what looks at single clouds. Where `data.blocks` is remote,
    this node's copy is made first, and `say` tells of it.
    """
    if is_remote(config.data.blocks):
        folder = fetch_split(config, split, say=say)
    return BlockReader(
        folder,
        split,
        ego_box_m=config.data.ego_box_m,
        window=window,
        augmentation=config.augment,
        outliers=config.outliers,
    )
