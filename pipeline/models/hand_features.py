"""What is known of points and pillars before anything is learned: places, heights, occupancy.

Occupancy by height above the ground around a pillar shows hollow shapes (a table, an arch, an
animal's legs) that a maximum over points hides, and free space proves them. No gradients here.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional as F

from pipeline.models.free_space import NUM_FREE_BINS, free_space
from pipeline.models.layers import constant
from pipeline.models.pillars import HEIGHT_BIN_M, PillarGrid, Pillars, place_in

NUM_HEIGHT_BINS = 9
"""Eight bins of HEIGHT_BIN_M above the ground and one for all that is higher."""
GROUND_CELL_M = 1.0
GROUND_REACH_CELLS = 3
"""The ground at a pillar is the lowest point within 3 cells of 1 m: a LiDAR of 32 channels leaves
metres between its rings, so the pillar itself often holds no ground."""
NUM_POINT_FEATURES = 13
NUM_PILLAR_FEATURES = NUM_HEIGHT_BINS + NUM_FREE_BINS + 3


@dataclass(frozen=True, kw_only=True)
class Description:
    """Features of points and pillars, all of order 1."""

    of_points: Float32[Tensor, "P F"]
    of_pillars: Float32[Tensor, "V G"]


def hand_features(
    points: Float32[Tensor, "P columns"], pillars: Pillars, *, grid: PillarGrid, num_frames: int
) -> Description:
    """Features of points (NUM_POINT_FEATURES) and of pillars (NUM_PILLAR_FEATURES).

    Intensity is not read: CARLA makes it from range alone. Relative time, where points have it, is
    one more feature of points, in tenths of a second.
    """
    xyz = points[:, :3]
    lowest = _extreme(xyz[:, 2], pillars, "amin")
    extent = _extreme(xyz[:, 2], pillars, "amax") - lowest
    ground = _ground(lowest, pillars, grid=grid, num_frames=num_frames)
    log_count = pillars.count.float().log1p()
    mean = xyz.new_zeros(lowest.shape[0], 3).index_add_(0, pillars.of_point, xyz)
    mean = mean / pillars.count[:, None]

    per_pillar = torch.cat([mean, torch.stack([lowest, ground, extent, log_count], 1)], 1)
    per_point = per_pillar.index_select(0, pillars.of_point)
    to_mean = xyz - per_point[:, :3]
    height = xyz[:, 2] - per_point[:, 4]
    place = place_in(points, grid)
    size, range_m = grid.size_m, xyz.norm(dim=1)
    of_points = [
        *(xyz / constant((10.0, 10.0, 2.0), xyz.device)).unbind(1),
        range_m / 10,
        *(place - place.floor() - 0.5).unbind(1),
        *(to_mean / constant((size, size, 1.0), xyz.device)).unbind(1),
        xyz[:, 2] - per_point[:, 3],
        height,
        *per_point[:, 5:].unbind(1),
        *(10 * points[:, column] for column in range(4, points.shape[1])),
    ]
    of_pillars = [
        _occupancy(height, pillars),
        free_space(points, height, pillars, grid=grid, num_frames=num_frames),
        torch.stack([lowest - ground, extent, log_count], 1),
    ]
    return Description(of_points=torch.stack(of_points, 1), of_pillars=torch.cat(of_pillars, 1))


def _extreme(values: Tensor, pillars: Pillars, which: Literal["amin", "amax"]) -> Tensor:
    """Lowest or highest value of each pillar."""
    start = values.new_zeros(pillars.count.shape[0])
    return start.scatter_reduce(0, pillars.of_point, values, which, include_self=False)


def _ground(lowest: Tensor, pillars: Pillars, *, grid: PillarGrid, num_frames: int) -> Tensor:
    """Height of the ground at each pillar; outside the grid the pillar's own lowest point."""
    per_cell = max(1, round(GROUND_CELL_M / grid.size_m))
    num_x, num_y = -(-grid.num_x // per_cell), -(-grid.num_y // per_cell)
    num_cells = num_frames * num_x * num_y
    cell = (pillars.frame * num_x + pillars.i // per_cell) * num_y + pillars.j // per_cell
    # Pillars outside the grid go to one more cell, which nothing reads.
    cell = torch.where(pillars.inside, cell, num_cells)
    deepest = lowest.new_full((num_cells + 1,), -torch.inf)
    deepest.scatter_reduce_(0, cell, -lowest, "amax")
    window = 2 * GROUND_REACH_CELLS + 1
    around = F.max_pool2d(
        deepest[:-1].view(num_frames, 1, num_x, num_y),
        window,
        stride=1,
        padding=GROUND_REACH_CELLS,
    ).flatten()
    around = around.index_select(0, cell.clamp(max=num_cells - 1))
    return torch.where(pillars.inside, -around, lowest)


def _occupancy(height: Tensor, pillars: Pillars) -> Float32[Tensor, "V N"]:
    """1 where a pillar has a point in that bin of height above the ground, else 0."""
    bins = (height / HEIGHT_BIN_M).floor().clamp(0, NUM_HEIGHT_BINS - 1).long()
    full = height.new_zeros(pillars.count.shape[0] * NUM_HEIGHT_BINS)
    full.index_fill_(0, pillars.of_point * NUM_HEIGHT_BINS + bins, 1.0)
    return full.view(-1, NUM_HEIGHT_BINS)
