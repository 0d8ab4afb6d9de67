"""The script that jobs.train is held against under torchrun does the same training."""

import re
from pathlib import Path

import pytest
import torch

from benchmarks import ddp, plain_ddp
from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.training import checkpoints
from pipeline.training.trainer import fit
from tests.helpers.tiny_world import SMALL_TRAINING


def test_the_script_ends_with_the_weights_of_jobs_train(small_training: Config):
    # Without dropout: jobs.train seeds it anew in each step, the script never does.
    short = {"train": {"max_steps": 3, "num_epochs": 2}, "model": {"dropout": 0.0}}
    config = merge(small_training, short)
    data = plain_ddp.ready(config, rank=0, world_size=1, num_steps=3)
    rates: list[float] = []
    model = plain_ddp.train(config, data, world_size=1, every=1, say=rates.append)
    trained = fit(config, say=lambda line: None)
    other = plain_ddp.build_detector(config.model, prior=data.prior)
    untrained = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    checkpoints.load_trained(trained.checkpoint, other)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(untrained[name], p) for name, p in model.state_dict().items())
    assert len(rates) == 3
    assert min(rates) > 0


def test_ranks_share_the_frames_of_a_step(small_training: Config):
    parts = [
        plain_ddp.ready(small_training, rank=rank, world_size=2, num_steps=9) for rank in (0, 1)
    ]
    whole = plain_ddp.ready(small_training, rank=0, world_size=1, num_steps=9)
    for step, batch in enumerate(whole.batches):
        rows = [row for part in parts for row in part.batches[step].row.tolist()]
        assert sorted(rows) == sorted(batch.row.tolist())
        assert len(rows) == whole.num_frames[step]


def test_the_first_window_is_warm_up():
    assert ddp.steady([1.0, 5.0, 7.0, 6.0]) == 6.0


@pytest.mark.long
def test_both_commands_are_timed(tiny_config: Config, tmp_path: Path):
    config = merge(tiny_config, SMALL_TRAINING)
    line = ddp.compare(config, tmp_path, num_workers=2, num_steps=6, every=2, rounds=1)
    found = re.search(r"jobs.train ([\d.]+) .*, torchrun ([\d.]+) .*; ratio ([\d.]+) ", line)
    assert found, line
    assert all(float(number) > 0 for number in found.groups())
