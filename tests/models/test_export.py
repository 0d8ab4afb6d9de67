"""The exported program says what the detector says, for any number of points, 0 and 1 included."""

import dataclasses
from typing import Any

import jaxtyping
import pytest
import torch
from torch import nn

from pipeline.model_config import FUSIONS, ModelConfig
from pipeline.models.detector import build_detector
from pipeline.models.export import differences, export_detector
from tests.streets import street_batch

SMALL = ModelConfig(
    image_channels=16,
    point_channels=16,
    image_stages=2,
    pillar_size_m=1.0,
    cylinder_grid=[24, 32, 8],
    cylinder_channels=2,
    frame_top_k=5,
)
IMAGE_SIZE = (32, 96)


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a program is traced numbers are symbols, which the checks of `int` refuse."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def detector(*, window: int = 1, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, **settings)
    return build_detector(config, prior=1e-2, window=window).eval()


def worst(model: nn.Module, num_points: list[int], *, num_columns: int = 4) -> dict[str, float]:
    program = export_detector(model, image_size=IMAGE_SIZE, num_columns=num_columns).module()
    found: dict[str, float] = {}
    for seed, count in enumerate(num_points):
        one = differences(model, program, street_batch(num_points=(count,), seed=seed))
        found = {name: max(value, found.get(name, 0.0)) for name, value in one.items()}
    return found


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_program_gives_the_detectors_scores_for_every_form(fusion: str):
    found = worst(detector(fusion=fusion), [0, 1, 2, 37, 600])
    assert found.keys() == {"point_score", "frame_score"}
    assert max(found.values()) < 1e-4
