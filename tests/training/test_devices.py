"""A checkpoint moves between CPU and GPU: the same tensors, the same scores."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.config.model import FUSIONS
from pipeline.export.program import largest_differences, outputs_of
from pipeline.models.detector import build_detector
from pipeline.training import checkpoints
from tests.helpers.small_model import SMALL
from tests.helpers.streets import street_batch
from tests.training.test_checkpoints import meta

CUDA = "cuda"
BACKBONES = ("pillars", "point_mlp", "cylinder3d")


@pytest.fixture(autouse=True)
def full_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN rounds the factors of convolutions to 10 bits otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def detector(fusion: str, backbone: str, *, seed: int, device: str) -> nn.Module:
    torch.manual_seed(seed)
    config = dataclasses.replace(SMALL, fusion=fusion, lidar_backbone=backbone)
    return build_detector(config, prior=1e-2).eval().to(device)


def stepped(model: nn.Module, device: str) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(street_batch().to(device)).point_score.sum().backward()
    optimizer.step()
    return optimizer


@pytest.mark.gpu
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(("source", "target"), [(CUDA, "cpu"), ("cpu", CUDA)])
def test_a_checkpoint_from_one_device_gives_its_scores_on_the_other(
    source: str, target: str, fusion: str, backbone: str, tmp_path: Path
):
    ours = detector(fusion, backbone, seed=0, device=source)
    optimizer = stepped(ours, source)
    path = checkpoints.save_checkpoint(tmp_path, ours, optimizer, meta(1))
    theirs = detector(fusion, backbone, seed=1, device=target)
    checkpoints.load_model(path, theirs)
    for one, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert other.device.type == target
        assert torch.equal(one.cpu(), other.cpu())
    moments = torch.optim.AdamW(theirs.parameters(), lr=1e-3)
    checkpoints.load_optimizer(path, theirs, moments)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        for key, value in optimizer.state[one].items():
            assert torch.equal(torch.as_tensor(value).cpu(), moments.state[other][key].cpu())
    batch = street_batch(num_points=(600, 0, 300))
    with torch.no_grad():
        here, there = outputs_of(ours(batch.to(source))), outputs_of(theirs(batch.to(target)))
    found = largest_differences(
        {name: scores.cpu() for name, scores in here.items()},
        {name: scores.cpu() for name, scores in there.items()},
    )
    assert max(found.values()) < 1e-4
