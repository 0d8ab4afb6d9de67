"""LiDAR branch Cylinder3D (arXiv 2011.10033): a sparse 3-D network on a cylindrical grid.

Cells grow with distance as the gaps between LiDAR points do. docs/cylinder3d.md lists the layers
and says where this departs from the paper.
"""

import math

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config.model import ModelConfig
from pipeline.data.batch import Batch
from pipeline.models.cylinder_blocks import Asymmetric, Down, Gates, Geometry, Up, geometry_of
from pipeline.models.layers import constant, full_precision
from pipeline.models.pooling import Pooling
from pipeline.models.sparse.voxels import Triple, sparse_voxels

_NUM_POINT_FEATURES = 9
STRIDES: tuple[Triple, ...] = ((2, 2, 2), (2, 2, 2), (2, 2, 1), (2, 2, 1))
"""Of the four levels along rho, phi, z: the upper two keep their height cells, as in the paper."""


class Cylinder3D(nn.Module):
    """Features of every point, `model.point_channels` wide, from `model.cylinder_grid` cells.

    `has_time`: points have a fifth column, relative time.
    """

    def __init__(self, config: ModelConfig, *, has_time: bool) -> None:
        super().__init__()
        width = config.cylinder_channels
        rho, phi, z = config.cylinder_grid
        self.grid: Triple = (rho, phi, z)
        self.range_m = tuple(config.cylinder_range_m)
        self.embed = nn.Sequential(
            nn.Linear(_NUM_POINT_FEATURES + has_time, 4 * width),
            nn.ReLU(),
            nn.Linear(4 * width, 8 * width),
            nn.ReLU(),
            nn.Linear(8 * width, 16 * width),
        )
        self.pooling = Pooling(16 * width, kind=config.point_pooling)
        self.to_cell = nn.Linear(16 * width, width)
        self.context = Asymmetric(width, width)
        self.down = nn.ModuleList(
            Down(width * 2**level, width * 2 ** (level + 1)) for level in range(len(STRIDES))
        )
        self.bottom = Asymmetric(16 * width, 16 * width)
        self.up = nn.ModuleList(
            Up(width * 2 ** (level + 1), width * 2 ** (level + 1), width * 2 ** max(level, 1))
            for level in reversed(range(len(STRIDES)))
        )
        self.gates = Gates(2 * width)
        self.refine = nn.Sequential(
            nn.Linear(4 * width + 16 * width, config.point_channels),
            nn.ReLU(),
            nn.Linear(config.point_channels, config.point_channels),
        )

    def forward(self, batch: Batch) -> Float32[Tensor, "P C"]:
        """Point features; a frame's points see that frame's points only."""
        with full_precision(batch.points):
            cylindrical = to_cylinder(batch.points)
            cells = self.cells_of(cylindrical)
            voxels, of_point = sparse_voxels(
                batch.point_frame(), cells, shape=self.grid, num_frames=batch.num_frames
            )
            points = self.embed(self._described(batch.points, cylindrical, cells))
            pooled = F.relu(self.pooling(points, of_point, voxels.keys.shape[0]))
            seen = self._network(F.relu(self.to_cell(pooled)), geometry_of(voxels, STRIDES))
            joined = torch.cat([seen.index_select(0, of_point), F.relu(points)], dim=1)
            return self.refine(joined)

    def _network(self, cells: Float32[Tensor, "V C"], geometry: Geometry) -> Float32[Tensor, "V D"]:
        x = self.context(cells, geometry.levels[0])
        skips = []
        for at, down in enumerate(self.down):
            skip, x = down(x, geometry, at)
            skips.append(skip)
        x = self.bottom(x, geometry.levels[-1])
        for up, at in zip(self.up, reversed(range(len(STRIDES))), strict=True):
            x = up(x, skips[at], geometry, at)
        return torch.cat([self.gates(x, geometry.levels[0]), x], dim=1)

    def cells_of(self, cylindrical: Float32[Tensor, "P 3"]) -> Int64[Tensor, "P 3"]:
        """Cell of each point; those beyond the grid are in its outermost cells, as in the paper."""
        low, size = self._limits(cylindrical)
        last = constant(tuple(sides - 1 for sides in self.grid), low.device)
        return torch.minimum(((cylindrical - low) / size).floor().clamp(min=0), last).long()

    def _limits(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Lower corner of the grid and size of a cell, along rho (m), phi (rad), z (m)."""
        rho_low, rho_high, z_low, z_high = self.range_m
        low = constant((rho_low, -math.pi, z_low), like.device)
        high = constant((rho_high, math.pi, z_high), like.device)
        return low, (high - low) / constant(self.grid, like.device)

    def _described(
        self,
        points: Float32[Tensor, "P columns"],
        cylindrical: Float32[Tensor, "P 3"],
        cells: Int64[Tensor, "P 3"],
    ) -> Float32[Tensor, "P F"]:
        """The paper's features, of order 1: place in the cell, cylindrical place, x, y, and range.

        Range stands in for intensity, which CARLA makes from it; relative time, where points have
        it, follows in tenths of a second.
        """
        low, size = self._limits(cylindrical)
        in_cell = ((cylindrical - low) / size - cells - 0.5).clamp(-8, 8)
        place = cylindrical / constant((10.0, 1.0, 2.0), cylindrical.device)
        range_m = points[:, :3].norm(dim=1, keepdim=True)
        return torch.cat(
            [in_cell, place, points[:, :2] / 10, range_m / 10, 10 * points[:, 4:]], dim=1
        )


def to_cylinder(points: Float32[Tensor, "P columns"]) -> Float32[Tensor, "P 3"]:
    """rho (m), phi (rad, from x towards y, -pi to pi), z (m) of points in the LiDAR frame."""
    x, y, z = points[:, :3].unbind(1)
    return torch.stack([torch.hypot(x, y), torch.atan2(y, x), z], dim=1)
