"""What every LiDAR backbone promises, and what its poolings change."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from pipeline.config.model import ModelConfig
from pipeline.models.cylinder import STRIDES, Cylinder3D, to_cylinder
from pipeline.models.cylinder_blocks import geometry_of
from pipeline.models.detector import build_detector
from pipeline.models.lidar import BACKBONES, make_point_encoder
from pipeline.models.pooling import Pooling
from tests.helpers.occupied import random_voxels
from tests.helpers.small_model import SMALL
from tests.helpers.streets import only_frame, street_batch, with_values

NAMES = tuple(BACKBONES)
POOLINGS = ("max", "mean", "attention")


def encoder(name: str, *, has_time: bool = False, **settings) -> Any:
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, lidar_backbone=name, **settings)
    return make_point_encoder(config, has_time=has_time).eval()


def num_parameters(model) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", NAMES)
def test_every_point_gets_features_and_a_permutation_permutes_them(name: str, pooling: str):
    model, batch = encoder(name, point_pooling=pooling), street_batch()
    features = model(batch)
    assert features.shape == (1100, 16)
    assert features.isfinite().all()
    order = torch.cat([torch.randperm(600), 600 + torch.randperm(500)])
    shuffled = model(with_values(batch, points=batch.points[order]))
    torch.testing.assert_close(shuffled, features[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_frames_features_do_not_depend_on_its_companion(name: str):
    """To the last bit where matrix products have a row per point.

    Those of cylinder3d have a row per pair of cells, of which the other companion has another
    number, and a CPU's library adds up in another order for another number of rows.
    """
    model, batch = encoder(name), street_batch()
    points = batch.points.clone()
    points[600:, :3] = points[600:, [1, 0, 2]]
    ours, theirs = model(batch), model(with_values(batch, points=points))
    limit = 1e-6 if name == "cylinder3d" else 0.0
    torch.testing.assert_close(ours[:600], theirs[:600], rtol=0, atol=limit)
    torch.testing.assert_close(model(only_frame(batch, 1)), ours[600:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_frame_between_others_changes_nothing_for_them(name: str):
    model, batch = encoder(name), street_batch(num_points=(300, 0, 200))
    features = model(batch)
    torch.testing.assert_close(model(only_frame(batch, 2)), features[300:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_no_backbone_reads_intensity(name: str):
    model, batch = encoder(name), street_batch()
    points = batch.points.clone()
    points[:, 3] = 0
    assert torch.equal(model(batch), model(with_values(batch, points=points)))


@pytest.mark.parametrize("name", NAMES)
def test_time_is_read_where_points_have_it(name: str):
    model, batch = encoder(name, has_time=True), street_batch()
    time = torch.zeros(1100, 1)
    now = with_values(batch, points=torch.cat([batch.points, time], 1))
    past = with_values(batch, points=torch.cat([batch.points, time - 0.1], 1))
    assert not torch.equal(model(now), model(past))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name: str, pooling: str):
    model, batch = encoder(name, point_pooling=pooling).train(), street_batch()
    (model(batch) * torch.randn(1100, 16)).sum().backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing


@pytest.mark.parametrize("name", NAMES)
def test_the_detector_owns_the_backbone_it_names_and_no_other(name: str):
    config = dataclasses.replace(SMALL, lidar_backbone=name)
    model: Any = build_detector(config, prior=0.01)
    assert type(model.lidar) is BACKBONES[name]
    scores = model(street_batch())
    assert scores.point_score.shape == (1100,)


@pytest.mark.parametrize("name", NAMES)
def test_half_the_width_has_about_a_quarter_of_the_parameters(name: str):
    half = encoder(name, point_channels=32, cylinder_channels=8)
    whole = encoder(name, point_channels=64, cylinder_channels=16)
    share = num_parameters(half) / num_parameters(whole)
    assert 0.23 < share < 0.32


# ---- pooling


@pytest.mark.parametrize("name", NAMES)
def test_the_pooling_changes_features_and_attention_alone_owns_a_weight(name: str):
    batch, models = street_batch(), {kind: encoder(name, point_pooling=kind) for kind in POOLINGS}
    shared = models["max"].state_dict()
    for model in models.values():
        model.load_state_dict(shared, strict=False)
    top, mean, learned = (models[kind](batch) for kind in POOLINGS)
    assert not torch.allclose(top, mean, atol=1e-4)
    assert not torch.allclose(mean, learned, atol=1e-4)
    assert models["mean"].state_dict().keys() == shared.keys()
    (own,) = models["attention"].state_dict().keys() - shared.keys()
    assert own.endswith("pooling.score.weight")


def test_a_point_twice_counts_twice_in_a_mean_and_once_in_a_maximum():
    values, group = torch.tensor([[1.0], [4.0], [7.0]]), torch.tensor([0, 0, 1])
    twice, groups = torch.cat([values, values[:1]]), torch.cat([group, group[:1]])
    mean, top = Pooling(1, kind="mean"), Pooling(1, kind="max")
    assert mean(values, group, 2).tolist() == [[2.5], [7.0]]
    assert mean(twice, groups, 2).tolist() == [[2.0], [7.0]]
    assert top(values, group, 2).tolist() == top(twice, groups, 2).tolist() == [[4.0], [7.0]]


def test_attention_pooling_is_a_softmax_of_its_scores_per_group():
    torch.manual_seed(0)
    model, values = Pooling(3, kind="attention"), torch.randn(5, 3) * 30
    group = torch.tensor([0, 1, 0, 1, 1])
    assert model.score is not None
    expected = [
        (model.score(own).softmax(0) * own).sum(0)
        for own in (values[group == 0], values[group == 1])
    ]
    torch.testing.assert_close(model(values, group, 2), torch.stack(expected))


# ---- the cylinder


def test_a_hand_computed_point_lies_in_its_cell():
    """Default grid: 100 m / 480 in range, 360 degrees / 360, 22 m / 32 in height from -4 m."""
    model = Cylinder3D(ModelConfig(lidar_backbone="cylinder3d"), has_time=False)
    points = torch.tensor([[3.0, 4.0, -1.8, 0.0], [-200.0, -1e-3, 40.0, 0.0]])
    place = to_cylinder(points)
    assert place[0].tolist() == pytest.approx([5.0, math.atan2(4, 3), -1.8])
    cells = model.cells_of(place)
    assert cells[0].tolist() == [int(5 / (100 / 480)), 180 + 53, int(2.2 / (22 / 32))]
    assert cells[1].tolist() == [479, 0, 31]


def test_levels_halve_the_grid_and_the_upper_two_keep_their_height():
    geometry = geometry_of(random_voxels((48, 64, 16), 2, 0.02, 0), STRIDES)
    shapes = [level.voxels.shape for level in geometry.levels]
    assert shapes == [(48, 64, 16), (24, 32, 8), (12, 16, 4), (6, 8, 4), (3, 4, 4)]
    for level in geometry.levels:
        assert sum(level.frame_sizes) == len(level.voxels.keys)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"cylinder_grid": [480, 360]}, "it takes three numbers of cells"),
        ({"cylinder_range_m": [0.0, 100.0, 4.0, -4.0]}, "it takes 0 <= range min < max"),
    ],
)
def test_a_grid_that_is_none_is_refused(settings, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        ModelConfig(**settings)
