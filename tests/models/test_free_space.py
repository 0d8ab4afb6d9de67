import torch

from pipeline.config.model import ModelConfig
from pipeline.models.free_space import free_space
from pipeline.models.pillars import group, make_grid
from tests.helpers.streets import street_batch

GRID = make_grid(ModelConfig(pillar_size_m=0.5, pillar_range_m=[-10.0, 30.0, -10.0, 10.0]))
GROUND_M = -1.8


def bins_at(probe, *others, grid=GRID):
    """Free bins of the pillar of the point `probe`, over flat ground at -1.8 m."""
    points = torch.tensor([[*row, 0.5] for row in (probe, *others)])
    pillars = group(points, torch.zeros(len(points), dtype=torch.int64), grid=grid)
    found = free_space(points, points[:, 2] - GROUND_M, pillars, grid=grid, num_frames=1)
    return found[pillars.of_point[0]].tolist()


def test_a_ray_to_the_ground_crosses_the_bins_on_its_way():
    """It ends at x = 12 and stands 0.15 m above the ground per metre before: at x = 8 in bin 2."""
    assert bins_at((8.2, 0.2, 0.0), (12.0, 0.1, GROUND_M)) == [0, 0, 1, 0, 0, 0, 0, 0]
    assert bins_at((11.2, 0.2, 0.0), (12.0, 0.1, GROUND_M)) == [1, 0, 0, 0, 0, 0, 0, 0]


def test_space_behind_a_return_is_unknown_not_free():
    assert bins_at((14.2, 0.2, 0.0), (12.0, 0.1, GROUND_M)) == [0] * 8


def test_the_gap_under_a_table_is_free_and_a_box_is_not():
    """Rays below the table's top reach the ground behind it; the box stops them at its front."""
    top = (10.2, 0.2, -0.8)
    under = [(x, 0.1, GROUND_M) for x in (11.5, 12.5, 13.5)]
    front = [(10.0, 0.1, z) for z in (-1.7, -1.4, -1.1)]
    assert bins_at(top, *under)[:3] == [1, 1, 0]
    assert bins_at(top, *front) == [0] * 8


def test_rays_are_not_followed_beyond_their_reach_nor_past_the_lidar():
    assert bins_at((5.2, 0.2, 0.0), (12.5, 0.1, GROUND_M)) == [0] * 8
    assert bins_at((-2.2, -0.2, 0.0), (2.0, 0.1, -1.8)) == [0] * 8


def test_rays_that_end_outside_the_grid_and_pillars_there_are_left_out():
    assert bins_at((28.2, 0.2, 0.0), (31.0, 0.1, GROUND_M)) == [0] * 8
    assert bins_at((31.0, 0.1, 0.0), (29.9, 0.1, GROUND_M)) == [0] * 8


def test_walls_higher_than_two_metres_leave_no_free_bins():
    assert bins_at((11.2, 0.2, 2.0), (12.0, 0.1, 4.0)) == [0] * 8


def test_rays_of_one_frame_do_not_cross_another():
    batch = street_batch(num_points=(400, 300))
    frame = batch.point_frame()
    pillars = group(batch.points, frame, grid=GRID)
    height = batch.points[:, 2] - GROUND_M
    both = free_space(batch.points, height, pillars, grid=GRID, num_frames=2)
    alone = group(batch.points[:400], frame[:400], grid=GRID)
    one = free_space(batch.points[:400], height[:400], alone, grid=GRID, num_frames=1)
    assert torch.equal(both[pillars.of_point[:400]], one[alone.of_point])
    assert 0 < one.mean() < 0.5
