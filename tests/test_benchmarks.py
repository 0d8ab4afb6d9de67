"""Benchmarks run, at toy size, and what they compare is equal."""

import re
from pathlib import Path

from benchmarks import reader_training, train
from pipeline.config import Config
from pipeline.merging import merge
from pipeline.training.steps import BlockSteps


def test_the_reader_in_training_is_held_against_equal_batches(tiny_config: Config, tmp_path: Path):
    line = reader_training.measure(tiny_config, tmp_path, rounds=2)
    assert re.search(r"ours \d+, before \d+, dataloader \d+, ego box \d+, memcpy \d+; ", line), line
    assert "ours / before" in line


def test_a_training_that_sleeps_is_timed_with_both_readers(
    tiny_config: Config, tiny_blocks: Path, tmp_path: Path
):
    config = merge(tiny_config, train.changes(tmp_path, num_steps=5))
    for side in (BlockSteps, train.MockSteps):
        rate = train.rate(config, tiny_blocks, 0.02, side)
        assert 5 < rate < 50
