import pytest
import torch

from pipeline.config.model import ModelConfig
from pipeline.models.free_space import NUM_FREE_BINS
from pipeline.models.hand_features import (
    NUM_HEIGHT_BINS,
    NUM_PILLAR_FEATURES,
    NUM_POINT_FEATURES,
    hand_features,
)
from pipeline.models.pillars import group, make_grid
from tests.helpers.streets import street_batch

GRID = make_grid(ModelConfig(pillar_size_m=0.5, pillar_range_m=[-10.0, 30.0, -10.0, 10.0]))


def cloud(*rows):
    return torch.tensor([[*row, 0.5] for row in rows])


def known(points):
    pillars = group(points, torch.zeros(len(points), dtype=torch.int64), grid=GRID)
    return pillars, hand_features(points, pillars, grid=GRID, num_frames=1)


def test_features_of_two_points_by_hand():
    points = cloud((0.1, 0.1, -1.0), (0.3, 0.1, 1.0))
    _, description = known(points)
    low, high = description.of_points
    assert description.of_points.shape == (2, NUM_POINT_FEATURES)
    assert low.tolist() == pytest.approx(
        [0.01, 0.01, -0.5, 0.100995, -0.3, -0.3, -0.2, 0, -1, 0, 0, 2, 1.098612], abs=1e-5
    )
    assert high[8:11].tolist() == pytest.approx([1, 2, 2])
    assert description.of_pillars.shape == (1, NUM_PILLAR_FEATURES)
    assert description.of_pillars[0, -3:].tolist() == pytest.approx([0, 2, 1.098612])


def test_the_ground_is_the_lowest_point_within_three_metres():
    """A table top 2 m from a ground return stands above it; one 8 m away is its own ground."""
    points = cloud((5.2, 0.2, -1.8), (7.2, 0.2, -0.8), (15.2, 0.2, -0.8))
    _, description = known(points)
    assert description.of_points[:, 10].tolist() == pytest.approx([0, 1, 0])


def test_outside_the_grid_the_ground_is_the_pillars_own_lowest_point():
    points = cloud((50.1, 0.1, 3.0), (50.2, 0.1, 5.0), (29.9, 0.1, -1.8))
    _, description = known(points)
    assert description.of_points[:, 10].tolist() == pytest.approx([0, 2, 0])


def test_occupancy_tells_a_table_from_a_box():
    def bins(heights):
        points = cloud((5.2, 2.2, -1.8), *((6.2, 0.2, -1.8 + h) for h in heights))
        pillars, description = known(points)
        return description.of_pillars[pillars.of_point[1], :NUM_HEIGHT_BINS].tolist()

    assert bins([0.8, 0.9]) == [0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert bins([0.1, 0.3, 0.6, 0.9]) == [1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert bins([1.9, 5.0]) == [0, 0, 0, 0, 0, 0, 0, 1, 1]


def test_intensity_is_not_read():
    points = street_batch().points
    dimmed = points.clone()
    dimmed[:, 3] = 0
    _, bright = known(points)
    _, dark = known(dimmed)
    assert torch.equal(bright.of_points, dark.of_points)


def test_no_points_give_no_pillars():
    pillars, description = known(torch.zeros(0, 4))
    assert len(pillars.count) == 0
    assert description.of_points.shape == (0, NUM_POINT_FEATURES)
    assert description.of_pillars.shape == (0, NUM_PILLAR_FEATURES)


def test_free_space_stands_between_occupancy_and_the_rest():
    """A ray to the ground 2 m behind a pillar crosses the bin under its only point."""
    points = cloud((9.2, 0.2, -1.0), (11.2, 0.2, -1.8))
    pillars, description = known(points)
    free = description.of_pillars[pillars.of_point[0], NUM_HEIGHT_BINS:-3]
    assert free.tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert len(free) == NUM_FREE_BINS


def test_features_are_of_order_one():
    _, description = known(street_batch(num_points=(5000,)).points)
    assert description.of_points.abs().max() < 20
    assert description.of_points.std(0).min() > 0.05
