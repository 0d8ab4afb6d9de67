"""LiDAR branch: point features, their maximum per pillar, a bird's-eye network, back to the points.

PointPillars (arXiv 1812.05784) with three changes that pay on CPU: measured heights join the
learned maximum; the finest dense level has half the pillars' resolution, for the full one costs as
much as all the rest; on the way back, linear maps are added at the pillars, not concatenated at the
points.
"""

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config.model import ModelConfig
from pipeline.data.batch import Batch
from pipeline.models.hand_features import NUM_PILLAR_FEATURES, NUM_POINT_FEATURES, hand_features
from pipeline.models.layers import Residual, conv3x3, full_precision
from pipeline.models.pillars import PillarGrid, Pillars, group, make_grid
from pipeline.models.pooling import Pooling


class PointEncoder(nn.Module):
    """Features of every point from the cloud alone, `model.point_channels` wide.

    `has_time`: points have a fifth column, relative time, as with `data.num_sweeps` > 1.
    """

    def __init__(self, config: ModelConfig, *, has_time: bool) -> None:
        super().__init__()
        width, narrow = config.point_channels, (config.point_channels + 1) // 2
        self.grid = make_grid(config)
        self.embed = nn.Linear(NUM_POINT_FEATURES + has_time, narrow)
        self.to_pillar = nn.Linear(narrow, narrow)
        self.pooling = Pooling(narrow, kind=config.point_pooling)
        self.mix = nn.Linear(narrow + NUM_PILLAR_FEATURES, narrow)
        self.birds_eye = BirdsEye(narrow, width)
        self.outside = nn.Parameter(torch.randn(width) / width**0.5)
        """In place of bird's-eye features for pillars outside the grid."""
        self.from_point = nn.Linear(narrow, width)
        self.from_pillar = nn.Linear(narrow, width, bias=False)

    def forward(self, batch: Batch) -> Float32[Tensor, "P C"]:
        """Point features; a frame's points see that frame's points only."""
        pillars = group(batch.points, batch.point_frame(), grid=self.grid)
        known = hand_features(batch.points, pillars, grid=self.grid, num_frames=batch.num_frames)
        with full_precision(batch.points):
            points = F.relu(self.embed(known.of_points), inplace=True)
            top = self.pooling(self.to_pillar(points), pillars.of_point, pillars.count.shape[0])
            columns = F.relu(self.mix(torch.cat([top, known.of_pillars], dim=1)), inplace=True)
        around = self._around(columns, pillars, batch.num_frames)
        with full_precision(batch.points):
            context = self.from_pillar(columns) + around
            return self.from_point(points).add_(context.index_select(0, pillars.of_point))

    def _around(
        self, columns: Float32[Tensor, "V N"], pillars: Pillars, num_frames: int
    ) -> Float32[Tensor, "V C"]:
        """Bird's-eye features at the pillars."""
        inside, frame, i, j = pillars.inside, pillars.frame, pillars.i, pillars.j
        seen = self.birds_eye(to_bev_grid(columns, pillars, self.grid, num_frames))
        num_x, num_y = seen.shape[2:]
        table = seen.permute(0, 2, 3, 1).flatten(0, 2).float()
        cell = torch.where(inside, (frame * num_x + i // 2) * num_y + j // 2, 0)
        return torch.where(inside[:, None], table.index_select(0, cell), self.outside)


def to_bev_grid(
    columns: Float32[Tensor, "V C"], pillars: Pillars, grid: PillarGrid, num_frames: int
) -> Float32[Tensor, "B C X Y"]:
    """Pillars on the dense grid, zero where there is none; channels last in memory."""
    num_cells = num_frames * grid.num_x * grid.num_y
    cell = (pillars.frame * grid.num_x + pillars.i) * grid.num_y + pillars.j
    # Pillars outside the grid go to one more row, which is cut off.
    cell = torch.where(pillars.inside, cell, num_cells)
    dense = columns.new_zeros(num_cells + 1, columns.shape[1]).index_copy_(0, cell, columns)
    return dense[:-1].view(num_frames, grid.num_x, grid.num_y, -1).permute(0, 3, 1, 2)


class BirdsEye(nn.Module):
    """Grid features at half the resolution of the input, with context from an eighth of it."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.at_half = nn.Sequential(conv3x3(in_channels, width, stride=2), Residual(width))
        wide, wider = width * 3 // 2, width * 2
        self.at_quarter = nn.Sequential(conv3x3(width, wide, stride=2), Residual(wide))
        self.at_eighth = nn.Sequential(conv3x3(wide, wider, stride=2), Residual(wider))
        self.to_quarter = nn.Conv2d(wider, wide, 1)
        self.to_half = nn.Conv2d(wide, width, 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, grid: Float[Tensor, "B C X Y"]) -> Float[Tensor, "B D X2 Y2"]:
        half = self.at_half(grid)
        quarter = self.at_quarter(half)
        eighth = self.at_eighth(quarter)
        quarter = quarter + _resized(self.to_quarter(eighth), quarter)
        return half + _resized(self.to_half(F.relu(quarter)), half)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    """Each cell repeated 2x2, cut to the size of `like`."""
    return F.interpolate(x, scale_factor=2, mode="nearest")[:, :, : like.shape[2], : like.shape[3]]
