"""Checkpoints are whole or refused; the best one is found."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.training import checkpoints
from pipeline.training.checkpoints import CheckpointMeta, Position


def meta(step: int, **changes) -> CheckpointMeta:
    facts = {
        "position": Position(epoch=1, step_in_epoch=2, step=step),
        "config": {"train": {"lr": 0.1}},
        "run_id": "r",
        "split_hash": "s",
        "revision": "v",
        "prior": 0.01,
        "metrics": {"val/point_ap": 0.5},
        "thresholds": {"point": 1.5},
        "best": {},
        "history": [{"step": 1.0}],
        "epoch_loss": [3.0, 4.0],
        "largest_grad_norm": 2.0,
        "precision": "bf16",
        "grad_scaler": {},
    }
    return CheckpointMeta(**facts | changes)


def trained_model(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()
    return model, optimizer


def test_a_checkpoint_gives_back_weights_moments_and_meta(tmp_path: Path):
    model, optimizer = trained_model()
    path = checkpoints.save_checkpoint(tmp_path, model, optimizer, meta(7))
    other, other_optimizer = trained_model(seed=1)
    checkpoints.load_model(path, other)
    checkpoints.load_optimizer(path, other, other_optimizer)
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        for key, value in optimizer.state[a].items():
            assert torch.equal(
                torch.as_tensor(value), torch.as_tensor(other_optimizer.state[b][key])
            )
    assert checkpoints.read_meta(path) == meta(7)


def test_an_optimizer_goes_on_from_a_checkpoint_exactly(tmp_path: Path):
    model, optimizer = trained_model()
    path = checkpoints.save_checkpoint(tmp_path, model, optimizer, meta(3))
    other, other_optimizer = trained_model(seed=1)
    checkpoints.load_model(path, other)
    checkpoints.load_optimizer(path, other, other_optimizer)
    x = torch.randn(5, 3)
    for network, stepper in ((model, optimizer), (other, other_optimizer)):
        stepper.zero_grad()
        network(x).sum().backward()
        stepper.step()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_damaged_tensors_are_refused_and_the_last_whole_checkpoint_is_found(
    tmp_path: Path, damage: str
):
    model, optimizer = trained_model()
    first = checkpoints.save_checkpoint(tmp_path, model, optimizer, meta(1))
    second = checkpoints.save_checkpoint(tmp_path, model, optimizer, meta(2))
    tensors = second / checkpoints.TENSORS
    content = tensors.read_bytes()
    if damage == "truncate":
        tensors.write_bytes(content[:-3])
    elif damage == "flip":
        tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        tensors.unlink()
    with pytest.raises(ValueError, match="damaged, use an earlier one"):
        checkpoints.read_meta(second)
    assert checkpoints.whole_checkpoints(tmp_path) == [first]


def test_a_half_written_folder_is_no_checkpoint(tmp_path: Path):
    model, optimizer = trained_model()
    whole = checkpoints.save_checkpoint(tmp_path, model, optimizer, meta(1))
    (tmp_path / ".step-00000002.99.tmp").mkdir()
    (tmp_path / "step-00000003").mkdir()
    (tmp_path / "step-00000003" / checkpoints.META).write_text("{")
    assert checkpoints.whole_checkpoints(tmp_path) == [whole]


def test_a_run_folder_means_its_best_checkpoint(tmp_path: Path):
    model, _ = trained_model()
    folder = tmp_path / "checkpoints"
    best = checkpoints.save_checkpoint(folder, model, None, meta(1))
    last = checkpoints.save_checkpoint(folder, model, None, meta(2, best={"value": 0.5, "step": 1}))
    assert checkpoints.find(tmp_path) == best
    assert checkpoints.find(last) == last


def test_a_folder_without_checkpoints_is_refused_with_the_way_out(tmp_path: Path):
    with pytest.raises(ValueError, match="train first"):
        checkpoints.find(tmp_path)


def test_only_wanted_checkpoints_are_kept(tmp_path: Path):
    model, _ = trained_model()
    for step in (1, 2, 3):
        checkpoints.save_checkpoint(tmp_path, model, None, meta(step))
    checkpoints.keep(tmp_path, {1, 3})
    assert [p.name for p in checkpoints.whole_checkpoints(tmp_path)] == [
        "step-00000001",
        "step-00000003",
    ]


def test_writing_a_step_again_replaces_it_and_keeping_clears_what_killed_writers_left(
    tmp_path: Path,
):
    model, _ = trained_model()
    checkpoints.save_checkpoint(tmp_path, model, None, meta(7))
    path = checkpoints.save_checkpoint(
        tmp_path, model, None, meta(7, metrics={"val/point_ap": 0.75})
    )
    (tmp_path / ".step-00000008.4711.tmp").mkdir()
    assert checkpoints.read_meta(path).metrics == {"val/point_ap": 0.75}
    checkpoints.keep(tmp_path, {7})
    assert list(tmp_path.iterdir()) == [path]


def test_meta_is_plain_json(tmp_path: Path):
    model, _ = trained_model()
    path = checkpoints.save_checkpoint(tmp_path, model, None, meta(5))
    assert json.loads((path / checkpoints.META).read_text())["position"]["step"] == 5


def test_a_checkpoint_from_before_auto_ran_in_what_its_config_says(tmp_path: Path):
    model, _ = trained_model()
    config = {"train": {"lr": 0.1, "precision": "bf16"}}
    path = checkpoints.save_checkpoint(
        tmp_path, model, None, meta(7, config=config, precision="fp32")
    )
    facts = json.loads((path / checkpoints.META).read_text())
    del facts["precision"], facts["grad_scaler"]
    (path / checkpoints.META).write_text(json.dumps(facts))
    assert checkpoints.read_meta(path) == meta(7, config=config, precision="bf16")
