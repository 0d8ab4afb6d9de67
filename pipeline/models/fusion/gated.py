"""A gate per point and channel between camera and LiDAR (arXiv 1702.01992)."""

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from pipeline.config.model import ModelConfig
from pipeline.models.fusion.alignment import ImageView
from pipeline.models.fusion.unimodal import CameraOnly
from pipeline.models.image import FeatureMap
from pipeline.models.layers import full_precision


class Gated(nn.Module):
    """gate * camera + (1 - gate) * LiDAR, the gate a sigmoid of a linear layer over both.

    Out of view the camera's part is the learned `not_seen` vector.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.camera = CameraOnly(config)
        self.from_camera = nn.Linear(config.point_channels, config.point_channels)
        self.from_points = nn.Linear(config.point_channels, config.point_channels, bias=False)

    def forward(
        self, points: Float32[Tensor, "P C"], maps: tuple[FeatureMap, ...], view: ImageView
    ) -> Float32[Tensor, "P C"]:
        camera = self.camera(None, maps, view)
        with full_precision(points):
            gate = torch.sigmoid(self.from_camera(camera) + self.from_points(points))
            return torch.lerp(points, camera, gate)
