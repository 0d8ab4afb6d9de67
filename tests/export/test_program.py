"""The exported program says what the detector says, for any number of points, 0 and 1 included."""

import dataclasses
import itertools
import math
import random
from collections.abc import Iterable
from typing import Any

import jaxtyping
import pytest
import torch
from torch import nn

from pipeline.config.model import FUSIONS
from pipeline.data.batch import Batch
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.export.program import (
    export_detector,
    inputs_of,
    largest_differences,
    outputs_of,
)
from pipeline.models.detector import build_detector
from tests.helpers import small_model
from tests.helpers.streets import street_batch, with_values

SMALL = dataclasses.replace(
    small_model.SMALL, image_channels=8, point_channels=8, cylinder_channels=2, frame_top_k=5
)
IMAGE_SIZE = (32, 96)
BACKBONES = ("pillars", "point_mlp", "cylinder3d")
FEW_COUNTS = (0, 1, 2, 37, 600)
OTHER_FORMS: list[dict[str, Any]] = [
    {"lidar_backbone": "point_mlp", "point_pooling": "attention", "alignment": "none"},
    {"fusion": "cross_attention", "positional_encoding": "hybrid", "pixel_head": True},
    {"fusion": "late", "semantic_head": True, "score": "energy", "point_pooling": "mean"},
]


def pairs_of_forms() -> list[Any]:
    """Every fusion with every backbone; the slow tier takes each at least once.

    And cylinder3d once only: its program has by far the most operations to trace and to run.
    """
    pairs = [(fusion, backbone) for fusion in FUSIONS for backbone in BACKBONES]
    quick = itertools.cycle(("pillars", "point_mlp"))
    chosen = [
        (fusion, "cylinder3d" if fusion == "cross_attention" else next(quick)) for fusion in FUSIONS
    ]
    return [
        pytest.param(*pair, marks=pytest.mark.slow if pair in chosen else pytest.mark.long)
        for pair in pairs
    ]


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a program is traced numbers are symbols, which the checks of `int` refuse."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def detector(*, num_sweeps: int = 1, **settings: Any) -> nn.Module:
    """With weights that none of its parts starts from: some parameters start at 0."""
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, **settings)
    num_classes = len(ANOVOX_CLASSES.semantic_names)
    model = build_detector(
        config, prior=1e-2, num_classes=num_classes, num_sweeps=num_sweeps
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def frames(counts: Iterable[int]) -> list[Batch]:
    """Streets of so many points, then one far away: out of view and beyond every grid."""
    found = [street_batch(num_points=(count,), seed=at) for at, count in enumerate(counts)]
    far = street_batch(num_points=(50,)).points
    far[:, 0] -= 300.0
    return [*found, with_values(street_batch(num_points=(50,)), points=far)]


def worst(model: nn.Module, over: Iterable[Batch], *, num_columns: int = 4) -> dict[str, float]:
    program = export_detector(model, image_size=IMAGE_SIZE, num_columns=num_columns).module()
    found: dict[str, float] = {}
    for frame in over:
        with torch.no_grad():
            ours, theirs = outputs_of(model(frame)), program(**inputs_of(frame))
        assert theirs["point_score"].shape == (int((frame.points[:, 4:] == 0).all(1).sum()),)
        for name, value in largest_differences(ours, theirs).items():
            found[name] = max(value, found.get(name, 0.0))
    return found


def forms() -> list[Any]:
    """Every fusion; those with other forms in the slow tier are there themselves too."""
    slow = ("concat", "late", "cross_attention")
    return [
        pytest.param(fusion, marks=[pytest.mark.slow] if fusion in slow else [])
        for fusion in FUSIONS
    ]


@pytest.mark.parametrize("fusion", forms())
def test_a_program_gives_the_detectors_scores_for_every_form(fusion: str):
    found = worst(detector(fusion=fusion), frames(FEW_COUNTS))
    assert found.keys() == {"point_score", "frame_score"}
    assert max(found.values()) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("settings", OTHER_FORMS, ids=str)
def test_other_heads_encodings_and_poolings_are_exported_too(settings: dict[str, Any]):
    found = worst(detector(**settings), frames(FEW_COUNTS))
    assert ("semantic" in found) == settings.get("semantic_head", False)
    assert ("pixel_score" in found) == settings.get("pixel_head", False)
    assert max(found.values()) < 1e-4


@pytest.mark.slow
def test_a_program_of_a_window_scores_the_current_cloud_only():
    def windowed(frame: Batch) -> Batch:
        time = torch.where(torch.arange(len(frame.points)) % 3 == 0, 0.0, -0.1)
        return with_values(frame, points=torch.cat([frame.points, time[:, None]], dim=1))

    past = windowed(street_batch(num_points=(40,)))
    past = with_values(past, points=past.points.index_fill(1, torch.tensor([4]), -0.1))
    over = [*(windowed(frame) for frame in frames(FEW_COUNTS)), past]
    assert max(worst(detector(num_sweeps=2), over, num_columns=5).values()) < 1e-4


@pytest.mark.parametrize(("fusion", "backbone"), pairs_of_forms())
def test_fifty_ragged_frames_get_the_detectors_scores(fusion: str, backbone: str):
    draw = random.Random(fusion)
    counts = [0, 1, 2, *(draw.randrange(3, 3000) for _ in range(46))]
    found = worst(detector(fusion=fusion, lidar_backbone=backbone), frames(counts))
    assert max(found.values()) < 1e-4


def test_points_are_read_and_a_difference_is_seen():
    model = detector(fusion="lidar_only", lidar_backbone="point_mlp")
    program = export_detector(model, image_size=IMAGE_SIZE, num_columns=4).module()
    one, other = street_batch(num_points=(9,)), street_batch(num_points=(9,), seed=1)
    with torch.no_grad():
        found = largest_differences(outputs_of(model(one)), program(**inputs_of(other)))
    assert min(found.values()) > 1e-3


def test_a_number_against_none_is_an_infinite_difference():
    nan = torch.tensor([1.0, math.nan])
    assert largest_differences({"a": nan}, {"a": torch.ones(2)}) == {"a": math.inf}
    assert largest_differences({"a": torch.zeros(0)}, {"a": torch.zeros(0)}) == {"a": 0.0}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "simple"}, r"model\.name=simple cannot be exported"),
        ({"alignment": "scrambled"}, r"model\.alignment=scrambled cannot be exported"),
    ],
)
def test_a_control_is_refused_in_one_sentence(settings: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        export_detector(detector(**settings), image_size=IMAGE_SIZE, num_columns=4)
