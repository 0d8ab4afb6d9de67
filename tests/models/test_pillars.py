import torch

from pipeline.config.model import ModelConfig
from pipeline.models.pillars import group, make_grid

GRID = make_grid(ModelConfig(pillar_size_m=0.5, pillar_range_m=[-10.0, 30.0, -10.0, 10.0]))


def cloud(*rows):
    return torch.tensor([[*row, 0.5] for row in rows])


def frames(points):
    return torch.zeros(len(points), dtype=torch.int64)


def test_the_grid_covers_its_range_even_where_the_size_does_not_divide():
    grid = make_grid(ModelConfig())
    assert (grid.num_x, grid.num_y) == (205, 103)
    assert grid.x_min_m + grid.num_x * grid.size_m >= 38.4


def test_points_of_a_cell_share_a_pillar_and_frames_do_not():
    points = cloud((0.1, 0.1, 0), (0.4, 0.4, 1), (0.6, 0.1, 0), (0.2, 0.2, 0))
    pillars = group(points, torch.tensor([0, 0, 0, 1]), grid=GRID)
    a, b, c, d = pillars.of_point.tolist()
    assert a == b
    assert len({a, c, d}) == 3
    assert pillars.count.tolist() == [2, 1, 1]
    assert (pillars.frame[d], pillars.i[a], pillars.j[a], pillars.i[c]) == (1, 20, 20, 21)


def test_points_beyond_the_grid_have_pillars_too_that_are_marked():
    points = cloud((29.9, 9.9, 0), (30.1, 0, 0), (0, -10.1, 0), (1e6, 0, 0))
    pillars = group(points, frames(points), grid=GRID)
    assert pillars.inside[pillars.of_point].tolist() == [True, False, False, False]
    assert pillars.i[pillars.of_point][0] == 79


def test_no_points_give_no_pillars():
    pillars = group(torch.zeros(0, 4), frames([]), grid=GRID)
    assert len(pillars.count) == len(pillars.of_point) == 0
