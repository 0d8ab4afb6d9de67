"""What `jobs.prepare` will write, decided from names on disk and the config, before any array.

So every run of the same config on the same input plans the same shards under the same name, and a
killed job can be finished by another.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config.data import PrepareConfig
from pipeline.data.prepare.index import Index
from pipeline.data.prepare.rows import stored_rows
from pipeline.data.schema import SCHEMA_VERSION, SPLITS
from pipeline.data.splits import scene_key
from pipeline.datasets.protocol.dataset import SceneView
from pipeline.datasets.protocol.registry import FIRST_DATASET


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """What goes into one shard."""

    split: str
    name: str
    frames: tuple[tuple[str, int], ...]
    """`index.view_key` and frame id of each row, in order."""


def blocks_hash(config: PrepareConfig, index: Index) -> str:
    """Names the prepared folder of this config and input."""
    facts = [prepare_facts(config), index.inputs_hash, SCHEMA_VERSION]
    if index.dataset != FIRST_DATASET:
        # Shards of the first data set bear the names that they had when there was no other.
        facts.append(index.dataset)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def prepare_facts(config: PrepareConfig) -> dict[str, Any]:
    """The prepare section as manifests record it.

    Without `train_kinds` where it is off: that deal is the same as before there was such a key, and
    shards of whole archives need not be written again.
    """
    facts = dataclasses.asdict(config)
    if not config.train_kinds:
        del facts["train_kinds"]
    return facts


def stored_size(scenes: Iterable[SceneView], config: PrepareConfig) -> tuple[int, int]:
    """Height and width of all stored images; ValueError when scenes differ."""
    sizes = set()
    for height, width in {scene.image_size for scene in scenes}:
        _, top, bottom = stored_rows(height, width, config)
        sizes.add((bottom - top, config.image_width))
    if len(sizes) > 1:
        shown = ", ".join(f"{width}x{height}" for height, width in sorted(sizes))
        raise ValueError(
            f"images would be stored in the sizes {shown}, but a batch needs one; prepare archives "
            "of different image shape apart, each with its own data.root and data.blocks"
        )
    return sizes.pop()


def plan_shards(
    index: Index, splits: Mapping[str, str], config: PrepareConfig
) -> tuple[ShardPlan, ...]:
    """Frames of each split, shuffled over scenes with `prepare.seed`, in shards of equal size."""
    plans = []
    for number, split in enumerate(SPLITS):
        frames = [
            (key, frame_id)
            for key, scene in index.scenes.items()
            if splits[scene_key(scene.archive, scene.scene_id)] == split
            for frame_id in scene.frame_ids
        ]
        order = np.random.default_rng([config.seed, number]).permutation(len(frames))
        num_shards = -(-len(frames) // config.frames_per_shard)
        for shard, part in enumerate(np.array_split(order, max(1, num_shards))):
            name = f"shard-{shard:05d}.arrow"
            chosen = tuple(frames[place] for place in part)
            plans.append(ShardPlan(split=split, name=name, frames=chosen))
    return tuple(plans)
