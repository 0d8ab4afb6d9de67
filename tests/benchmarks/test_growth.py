"""A prepared folder of many times the scenes is one, and what opening it costs is told."""

from pathlib import Path

import pytest

from benchmarks import growth
from pipeline.data.block_reader import BlockReader, read_index
from pipeline.data.manifest import read_manifest
from pipeline.data.schema import SPLITS


def test_a_grown_folder_holds_every_scene_as_often_under_other_names(
    tiny_blocks: Path, tmp_path: Path
):
    num_scenes = len(read_manifest(tiny_blocks).scenes)
    assert growth.grow(tiny_blocks, tmp_path, factor=3) == 3 * num_scenes
    grown = read_manifest(tmp_path)
    assert len({scene.scene_id for scene in grown.scenes}) == 3 * num_scenes
    for split in SPLITS:
        before, after = read_index(tiny_blocks, split), read_index(tmp_path, split)
        assert len(set(after["scene_id"])) == 3 * len(set(before["scene_id"]))
        reader = BlockReader(tmp_path, split, ego_box_m=(2.6, 1.1))
        assert reader.num_rows == len(after) == 3 * len(before)
        last = reader.batch([reader.num_rows - 1], augment_seed=None)
        small = BlockReader(tiny_blocks, split, ego_box_m=(2.6, 1.1))
        same = small.batch([len(before) - 1], augment_seed=None)
        assert last.points.equal(same.points)


def test_what_a_folder_costs_is_told(tiny_blocks: Path, tmp_path: Path):
    growth.grow(tiny_blocks, tmp_path, factor=2)
    costs = growth.costs_of(tmp_path)
    assert costs["num_scenes"] == len(read_manifest(tmp_path).scenes)
    assert costs["num_rows"] == len(read_index(tmp_path, "train"))
    times = [value for name, value in costs.items() if name.endswith("_s")]
    assert len(times) == 5
    assert min(times) > 0


@pytest.mark.slow
def test_a_fresh_process_measures_each_size(tiny_blocks: Path):
    found = growth.measure(tiny_blocks, factor=4, rounds=1)
    assert found["factor"] == 4
    assert found["num_scenes"] == 4 * len(read_manifest(tiny_blocks).scenes)
    assert not list(tiny_blocks.parents[1].glob("growth-*"))
