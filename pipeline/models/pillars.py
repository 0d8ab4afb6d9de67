"""Points grouped into upright pillars: squares of ground that hold at least one point."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from pipeline.config.model import ModelConfig
from pipeline.models.layers import constant

HEIGHT_BIN_M = 0.25
"""Height of a bin above the ground, for occupancy and free space."""
_KEY = 2**16
"""Pillar coordinates in keys span this much; points beyond share the outermost pillar."""


@dataclass(frozen=True, kw_only=True)
class PillarGrid:
    """Bird's-eye grid in the LiDAR frame: cell (i, j) begins at (x_min, y_min) + (i, j) * size."""

    x_min_m: float
    y_min_m: float
    size_m: float
    num_x: int
    num_y: int


def make_grid(config: ModelConfig) -> PillarGrid:
    """Grid over `model.pillar_range_m`; the last row and column may reach beyond it."""
    x_min, x_max, y_min, y_max = config.pillar_range_m
    size = config.pillar_size_m
    return PillarGrid(
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


def group(
    points: Float32[Tensor, "P columns"], frame: Int64[Tensor, "P"], *, grid: PillarGrid
) -> Pillars:
    """Pillars of points (LiDAR frame, metres) that belong to frames `frame`."""
    half = _KEY // 2
    ij = place_in(points, grid).floor().clamp(-half, half - 1).long() + half
    keys = (frame * _KEY + ij[:, 0]) * _KEY + ij[:, 1]
    keys, of_point, count = torch.unique(keys, return_inverse=True, return_counts=True)
    i, j = keys // _KEY % _KEY - half, keys % _KEY - half
    inside = (i >= 0) & (i < grid.num_x) & (j >= 0) & (j < grid.num_y)
    return Pillars(of_point=of_point, count=count, frame=keys // _KEY**2, i=i, j=j, inside=inside)


def place_in(points: Tensor, grid: PillarGrid) -> Float32[Tensor, "P 2"]:
    """x and y in cells from the corner of the grid."""
    return (points[:, :2] - constant((grid.x_min_m, grid.y_min_m), points.device)) / grid.size_m
