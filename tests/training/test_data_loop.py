"""Augmentation is a switch of the steps: off, frames are as they are stored."""

import torch

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.readers import open_reader
from pipeline.training.data_loop import BlockSteps
from pipeline.training.worker import single_worker


def epochs_of(config: Config, blocks, *, augment: bool):
    steps = BlockSteps(
        merge(config, {"train": {"augment": augment}}), blocks, single_worker(print, use_gpu=False)
    )
    return [list(steps.epoch(epoch, first_step=0)) for epoch in (0, 1)]


def test_without_augmentation_every_epoch_brings_frames_as_they_are_stored(
    tiny_config, tiny_blocks
):
    stored = open_reader(tiny_config, tiny_blocks, "train", num_sweeps=1, say=print)
    for batches in epochs_of(tiny_config, tiny_blocks, augment=False):
        for batch in batches:
            plain = stored.batch(batch.row.numpy(), augment_seed=None)
            assert torch.equal(batch.image, plain.image)
            assert torch.equal(batch.points, plain.points)
            assert torch.equal(batch.camera_from_lidar, plain.camera_from_lidar)


def test_with_augmentation_frames_are_others_in_every_epoch_and_labels_the_same(
    tiny_config, tiny_blocks
):
    one, two = epochs_of(tiny_config, tiny_blocks, augment=True)
    images = [
        {int(row): batch.image[i] for batch in batches for i, row in enumerate(batch.row)}
        for batches in (one, two)
    ]
    assert images[0].keys() == images[1].keys()
    changed = [not torch.equal(images[0][row], images[1][row]) for row in images[0]]
    assert all(changed)
    labels = [sorted(torch.cat([b.point_label for b in each]).tolist()) for each in (one, two)]
    assert labels[0] == labels[1]
