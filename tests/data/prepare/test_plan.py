"""Shards are planned from names alone: complete, even, reproducible, mixed over scenes."""

import dataclasses
from pathlib import Path

import pytest

from pipeline.config.data import PrepareConfig
from pipeline.data.prepare.index import Index, scan
from pipeline.data.prepare.plan import blocks_hash, plan_shards, prepare_facts, stored_size
from pipeline.data.schema import SPLITS
from pipeline.data.splits import make_splits


@pytest.fixture(scope="module")
def index(tiny_root: Path) -> Index:
    return scan(tiny_root)


@pytest.mark.parametrize("size", [1, 5, 8, 48, 1000])
def test_a_plan_holds_every_frame_once_in_shards_of_equal_size(index, size):
    config = PrepareConfig(frames_per_shard=size)
    splits = make_splits(index.facts, config)
    plans = plan_shards(index, splits, config)
    frames = [frame for plan in plans for frame in plan.frames]
    assert len(frames) == len(set(frames)) == index.num_found
    dealt = {(key.rpartition("/")[0], plan.split) for plan in plans for key, _ in plan.frames}
    assert all(splits[key] == split for key, split in dealt)
    for split in SPLITS:
        sizes = [len(plan.frames) for plan in plans if plan.split == split]
        assert max(sizes) <= size
        assert max(sizes) - min(sizes) <= 1


def test_a_plan_is_reproducible_and_follows_its_seed(index):
    splits = make_splits(index.facts, PrepareConfig())
    plans = [plan_shards(index, splits, PrepareConfig(seed=seed)) for seed in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]


def test_frames_of_a_shard_come_from_many_scenes(index):
    config = PrepareConfig(frames_per_shard=8)
    plans = plan_shards(index, make_splits(index.facts, config), config)
    assert all(len({key for key, _ in plan.frames}) >= 3 for plan in plans if plan.split == "train")


def test_images_of_two_shapes_are_refused_before_anything_is_written(index):
    scenes = list(index.scenes.values())
    square = dataclasses.replace(scenes[0].setup, image_height=192)
    scenes[0] = dataclasses.replace(scenes[0], setup=square)
    with pytest.raises(ValueError, match="sizes 96x64, 96x96, but a batch needs one"):
        stored_size(scenes, PrepareConfig(image_width=96))


def test_the_folder_is_named_by_config_and_input(index):
    names = {
        blocks_hash(PrepareConfig(), index),
        blocks_hash(PrepareConfig(image_width=96), index),
        blocks_hash(PrepareConfig(), dataclasses.replace(index, inputs_hash="other")),
    }
    assert len(names) == 3
    assert blocks_hash(PrepareConfig(), index) in names


def test_train_kinds_name_another_folder_only_where_they_are_set(index):
    """Shards prepared without the key stay those of the same config."""
    facts = prepare_facts(PrepareConfig())
    assert "train_kinds" not in facts
    chosen = PrepareConfig(train_kinds=["normality"])
    assert prepare_facts(chosen) == facts | {"train_kinds": ["normality"]}
    assert blocks_hash(chosen, index) != blocks_hash(PrepareConfig(), index)
