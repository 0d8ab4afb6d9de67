"""The control whose labels say nothing: shares kept, frames' own labels forgotten, repeatable."""

import torch

from pipeline.config.schema import Config
from pipeline.data.manifest import read_manifest
from pipeline.data.readers import open_reader
from pipeline.training.random_labels import RandomLabels


def reader_of(config: Config, blocks):
    return open_reader(config, blocks, "train", num_sweeps=1, say=print)


def test_the_same_frame_has_the_same_labels_in_any_batch_and_epoch(tiny_config, tiny_blocks):
    reader = reader_of(tiny_config, tiny_blocks)
    draw = RandomLabels(reader.manifest, seed=3)
    both = draw(reader.batch([4, 1], augment_seed=(0, 0)))
    alone = draw(reader.batch([1], augment_seed=(0, 7)))
    assert torch.equal(both.point_label[both.point_offset[0] :], alone.point_label)
    assert torch.equal(both.frame_label[1:], alone.frame_label)
    other = RandomLabels(reader.manifest, seed=4)(reader.batch([1], augment_seed=(0, 7)))
    assert not torch.equal(other.point_label, alone.point_label)


def test_shares_are_those_of_the_split_and_do_not_follow_the_truth(tiny_config, tiny_blocks):
    reader = reader_of(tiny_config, tiny_blocks)
    rows = list(range(reader.num_rows))
    true = reader.batch(rows, augment_seed=None)
    drawn = RandomLabels(reader.manifest, seed=0)(true)
    known = true.point_label != 255
    share = reader.manifest.point_balance("train").prior
    found = drawn.point_label[known].double().mean().item()
    assert abs(found - share) < 5 * (share / int(known.sum())) ** 0.5
    anomalous = true.point_label == 1
    assert drawn.point_label[anomalous].double().mean().item() < 0.2


def test_what_is_ignored_stays_ignored(tiny_config, tiny_blocks):
    reader = reader_of(tiny_config, tiny_blocks)
    true = reader.batch(list(range(reader.num_rows)), augment_seed=None)
    drawn = RandomLabels(reader.manifest, seed=0)(true)
    assert torch.equal(drawn.point_label == 255, true.point_label == 255)
    assert torch.equal(drawn.frame_label == 255, true.frame_label == 255)


def test_a_batch_without_frames_passes(tiny_config, tiny_blocks):
    reader = reader_of(tiny_config, tiny_blocks)
    manifest = read_manifest(tiny_blocks)
    empty = RandomLabels(manifest, seed=0)(reader.batch([], augment_seed=None))
    assert (empty.num_frames, len(empty.point_label)) == (0, 0)
