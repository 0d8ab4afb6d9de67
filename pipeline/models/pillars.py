"""Points grouped into upright pillars, and what their heights tell without any learning.

A pillar is a square of ground that holds at least one point. Occupancy by height above the ground
around it shows hollow shapes (a table, an arch, an animal's legs) that a maximum over points hides.
Nothing here has parameters or gradients.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import ModelConfig

HEIGHT_BIN_M = 0.25
NUM_HEIGHT_BINS = 9
"""Eight bins of HEIGHT_BIN_M above the ground and one for all that is higher."""
GROUND_CELL_M = 1.0
GROUND_REACH_CELLS = 3
"""The ground at a pillar is the lowest point within 3 cells of 1 m: a LiDAR of 32 channels leaves
metres between its rings, so the pillar itself often holds no ground."""
NUM_POINT_FEATURES = 13
NUM_PILLAR_FEATURES = NUM_HEIGHT_BINS + 3
_KEY = 2**16
"""Pillar coordinates in keys span this much; points beyond share the outermost pillar."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Bird's-eye grid in the LiDAR frame: cell (i, j) begins at (x_min, y_min) + (i, j) * size."""

    x_min_m: float
    y_min_m: float
    size_m: float
    num_x: int
    num_y: int


def make_grid(config: ModelConfig) -> Grid:
    """Grid over `model.pillar_range_m`; the last row and column may reach beyond it."""
    x_min, x_max, y_min, y_max = config.pillar_range_m
    size = config.pillar_size_m
    return Grid(
        x_min_m=x_min,
        y_min_m=y_min,
        size_m=size,
        num_x=math.ceil((x_max - x_min) / size),
        num_y=math.ceil((y_max - y_min) / size),
    )


@dataclass(frozen=True, kw_only=True)
class Pillars:
    """V pillars that hold the P points of B frames; pillars outside the grid are kept."""

    of_point: Int64[Tensor, "P"]
    """Pillar of each point."""
    count: Int64[Tensor, "V"]
    """Points of each pillar, at least 1."""
    frame: Int64[Tensor, "V"]
    i: Int64[Tensor, "V"]
    j: Int64[Tensor, "V"]
    """Cell of the grid, counted from its corner along x and y; outside the grid where `inside` is
    false."""
    inside: Bool[Tensor, "V"]


def group(points: Float32[Tensor, "P 4"], frame: Int64[Tensor, "P"], *, grid: Grid) -> Pillars:
    """Pillars of points (LiDAR frame, metres) that belong to frames `frame`."""
    half = _KEY // 2
    ij = _place(points, grid).floor().clamp(-half, half - 1).long() + half
    keys = (frame * _KEY + ij[:, 0]) * _KEY + ij[:, 1]
    keys, of_point, count = torch.unique(keys, return_inverse=True, return_counts=True)
    i, j = keys // _KEY % _KEY - half, keys % _KEY - half
    inside = (i >= 0) & (i < grid.num_x) & (j >= 0) & (j < grid.num_y)
    return Pillars(of_point=of_point, count=count, frame=keys // _KEY**2, i=i, j=j, inside=inside)


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is known of points and pillars before anything is learned; all of order 1."""

    of_points: Float32[Tensor, "P F"]
    of_pillars: Float32[Tensor, "V G"]


def describe(
    points: Float32[Tensor, "P 4"], pillars: Pillars, *, grid: Grid, num_frames: int
) -> Description:
    """Features of points (NUM_POINT_FEATURES) and of pillars (NUM_PILLAR_FEATURES).

    Intensity is not read: CARLA makes it from range alone.
    """
    xyz = points[:, :3]
    lowest = _extreme(xyz[:, 2], pillars, "amin")
    extent = _extreme(xyz[:, 2], pillars, "amax") - lowest
    ground = _ground(lowest, pillars, grid=grid, num_frames=num_frames)
    log_count = pillars.count.float().log1p()
    mean = xyz.new_zeros(len(lowest), 3).index_add_(0, pillars.of_point, xyz)
    mean = mean / pillars.count[:, None]

    per_pillar = torch.cat([mean, torch.stack([lowest, ground, extent, log_count], 1)], 1)
    per_point = per_pillar.index_select(0, pillars.of_point)
    to_mean = xyz - per_point[:, :3]
    height = xyz[:, 2] - per_point[:, 4]
    place = _place(points, grid)
    size, range_m = grid.size_m, xyz.norm(dim=1)
    of_points = [
        *(xyz / xyz.new_tensor([10.0, 10.0, 2.0])).unbind(1),
        range_m / 10,
        *(place - place.floor() - 0.5).unbind(1),
        *(to_mean / xyz.new_tensor([size, size, 1.0])).unbind(1),
        xyz[:, 2] - per_point[:, 3],
        height,
        *per_point[:, 5:].unbind(1),
    ]
    of_pillars = torch.stack([lowest - ground, extent, log_count], 1)
    return Description(
        of_points=torch.stack(of_points, 1),
        of_pillars=torch.cat([_occupancy(height, pillars), of_pillars], 1),
    )


def _place(points: Tensor, grid: Grid) -> Float32[Tensor, "P 2"]:
    """x and y in cells from the corner of the grid."""
    return (points[:, :2] - points.new_tensor([grid.x_min_m, grid.y_min_m])) / grid.size_m


def _extreme(values: Tensor, pillars: Pillars, which: Literal["amin", "amax"]) -> Tensor:
    """Lowest or highest value of each pillar."""
    start = values.new_zeros(len(pillars.count))
    return start.scatter_reduce(0, pillars.of_point, values, which, include_self=False)


def _ground(lowest: Tensor, pillars: Pillars, *, grid: Grid, num_frames: int) -> Tensor:
    """Height of the ground at each pillar; outside the grid the pillar's own lowest point."""
    per_cell = max(1, round(GROUND_CELL_M / grid.size_m))
    num_x, num_y = -(-grid.num_x // per_cell), -(-grid.num_y // per_cell)
    rows = pillars.inside.nonzero().squeeze(1)
    cell = (pillars.frame * num_x + pillars.i // per_cell) * num_y + pillars.j // per_cell
    cell, depth = cell.index_select(0, rows), -lowest.index_select(0, rows)
    deepest = depth.new_full((num_frames * num_x * num_y,), -torch.inf)
    deepest.scatter_reduce_(0, cell, depth, "amax")
    window = 2 * GROUND_REACH_CELLS + 1
    around = F.max_pool2d(
        deepest.view(num_frames, 1, num_x, num_y), window, stride=1, padding=GROUND_REACH_CELLS
    )
    return lowest.index_copy(0, rows, -around.flatten().index_select(0, cell))


def _occupancy(height: Tensor, pillars: Pillars) -> Float32[Tensor, "V N"]:
    """1 where a pillar has a point in that bin of height above the ground, else 0."""
    bins = (height / HEIGHT_BIN_M).floor().clamp(0, NUM_HEIGHT_BINS - 1).long()
    full = height.new_zeros(len(pillars.count) * NUM_HEIGHT_BINS)
    full.index_fill_(0, pillars.of_point * NUM_HEIGHT_BINS + bins, 1.0)
    return full.view(-1, NUM_HEIGHT_BINS)
