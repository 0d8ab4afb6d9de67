"""Space that a ray crossed before it returned: the gaps of hollow shapes, seen directly.

With 32 channels the rings lie 0.3 m apart at 15 m, so a gap between points may be a gap between
rings. A ray that went through is proof (visibility as a feature: arXiv 1912.04986).
"""

import math

import torch
from jaxtyping import Float32
from torch import Tensor

from pipeline.models.layers import constant
from pipeline.models.pillars import HEIGHT_BIN_M, PillarGrid, Pillars

NUM_FREE_BINS = 8
"""Bins of HEIGHT_BIN_M above the ground."""
_REACH_M = 6.0
"""How far rays are followed back: at 15 m a ray that passes 0.8 m above the ground lands 7 m on."""
_PILLARS_PER_CELL = 2
_STEPS_AT_ONCE = 3
"""Fewer operations than one by one; all together they leave a CPU's cache and take longer."""


def free_space(
    points: Float32[Tensor, "P columns"],
    height: Float32[Tensor, "P"],
    pillars: Pillars,
    *,
    grid: PillarGrid,
    num_frames: int,
) -> Float32[Tensor, "V N"]:
    """1 where a ray crossed that height bin in the 2 x 2 pillars around a pillar, else 0.

    `height` of points is above the ground; rays start at the LiDAR, the origin, and those that end
    outside the grid are not followed, nor those of past clouds, which started elsewhere. Pillars
    outside the grid get zeros.
    """
    cell_m = _PILLARS_PER_CELL * grid.size_m
    num_x, num_y = (-(-n // _PILLARS_PER_CELL) for n in (grid.num_x, grid.num_y))
    scale = constant((cell_m, cell_m, HEIGHT_BIN_M), points.device)
    corner = constant((grid.x_min_m, grid.y_min_m), points.device)
    place = torch.cat([points[:, :2] - corner, height[:, None]], dim=1) / scale
    range_m = points[:, :3].norm(dim=1)
    back = points[:, :3] / range_m[:, None] * cell_m / scale
    num_steps = math.ceil(_REACH_M / cell_m)
    lowest = torch.minimum(place[:, 2], place[:, 2] - num_steps * back[:, 2])
    inside = pillars.inside.index_select(0, pillars.of_point)
    inside &= (points[:, 4:] == 0).all(dim=1)
    rays = (inside & (lowest < NUM_FREE_BINS)).nonzero().squeeze(1)
    frame = pillars.frame.index_select(0, pillars.of_point.index_select(0, rays))
    x, y, z = place.index_select(0, rays).unbind(1)
    dx, dy, dz = back.index_select(0, rays).unbind(1)
    num_before_origin = range_m.index_select(0, rays) / cell_m

    crossed = points.new_zeros(num_frames * num_x * num_y * NUM_FREE_BINS + 1)
    nowhere = len(crossed) - 1
    every_step = torch.arange(1, num_steps + 1, device=points.device)[:, None]
    for step in every_step.split(_STEPS_AT_ONCE):
        i, j, k = x - step * dx, y - step * dy, z - step * dz
        known = (i >= 0) & (i < num_x) & (j >= 0) & (j < num_y)
        known &= (k >= 0) & (k < NUM_FREE_BINS) & (step < num_before_origin)
        cell = (frame * num_x + i.long()).mul_(num_y).add_(j.long())
        place = torch.where(known, cell.mul_(NUM_FREE_BINS).add_(k.long()), nowhere)
        crossed.index_fill_(0, place.flatten(), 1.0)
    i, j = pillars.i // _PILLARS_PER_CELL, pillars.j // _PILLARS_PER_CELL
    cell = torch.where(pillars.inside, (pillars.frame * num_x + i) * num_y + j, 0)
    found = crossed[:-1].view(-1, NUM_FREE_BINS).index_select(0, cell)
    return found * pillars.inside[:, None]
