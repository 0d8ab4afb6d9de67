"""LiDAR branch without a grid: each point by itself and beside its whole cloud (PointNet).

The segmentation form of arXiv 1612.00593, section 4.2, without its learned rotations: a street
cloud has an upright of its own.
"""

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config.model import ModelConfig
from pipeline.data.batch import Batch
from pipeline.models.layers import constant, full_precision
from pipeline.models.pooling import Pooling

UNIT_M = (10.0, 10.0, 2.0)


class PointMlp(nn.Module):
    """Features of every point, `model.point_channels` wide.

    `has_time`: points have a fifth column, relative time. Intensity is not read: CARLA makes it
    from range alone.
    """

    def __init__(self, config: ModelConfig, *, has_time: bool) -> None:
        super().__init__()
        width = config.point_channels
        self.embed = nn.Sequential(
            nn.Linear(4 + has_time, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.to_cloud = nn.Linear(width, 2 * width)
        self.pooling = Pooling(2 * width, kind=config.point_pooling)
        self.from_point = nn.Linear(width, width)
        self.from_cloud = nn.Linear(2 * width, width, bias=False)

    def forward(self, batch: Batch) -> Float32[Tensor, "P C"]:
        """Point features; a frame's points see that frame's points only."""
        with full_precision(batch.points):
            points = self.embed(_described(batch.points))
            frames, of_frame = torch.unique(batch.point_frame(), return_inverse=True)
            cloud = self.pooling(self.to_cloud(points), of_frame, frames.shape[0])
            context = self.from_cloud(F.relu(cloud)).index_select(0, of_frame)
            return self.from_point(points) + context


def _described(points: Float32[Tensor, "P columns"]) -> Float32[Tensor, "P F"]:
    """Place and range in tens of metres, height in units of 2 m, time in tenths of a second."""
    xyz = points[:, :3]
    range_m = xyz.norm(dim=1, keepdim=True)
    return torch.cat([xyz / constant(UNIT_M, xyz.device), range_m / 10, 10 * points[:, 4:]], dim=1)
