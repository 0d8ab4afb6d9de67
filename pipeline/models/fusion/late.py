"""Late fusion: each modality scores the points by itself, then the logits are mixed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from pipeline.config.model import ModelConfig
from pipeline.models.fusion.alignment import ImageView
from pipeline.models.fusion.image_sampling import ImageSampler
from pipeline.models.image import FeatureMap, map_channels


@dataclass(frozen=True, kw_only=True)
class Apart:
    """Features of both modalities that have not met."""

    points: Float32[Tensor, "P C"]
    camera: Float32[Tensor, "N C"]
    """Of the points in `view`."""
    view: ImageView


class Late(nn.Module):
    """Camera features beside the LiDAR's."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.sampler = ImageSampler(map_channels(config), config.point_channels)

    def forward(
        self, points: Float32[Tensor, "P C"], maps: tuple[FeatureMap, ...], view: ImageView
    ) -> Apart:
        return Apart(points=points, camera=self.sampler(maps, view), view=view)


class LateHead(nn.Module):
    """A head per modality; in view their logits are mixed with learned weights that sum to 1.

    Out of view the LiDAR's logits stand alone.
    """

    def __init__(self, make_head: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.camera = make_head()
        self.points = make_head()
        self.weight = nn.Parameter(torch.zeros(2))
        """Of camera and LiDAR, before the softmax."""

    def forward(self, features: Apart) -> Tensor:
        """Logits of all points, in the shape in which one head gives them."""
        camera, points = self.camera(features.camera), self.points(features.points)
        of_camera, of_points = self.weight.softmax(0)
        rows = features.view.rows
        mixed = of_camera * camera + of_points * points.index_select(0, rows)
        return points.index_copy(0, rows, mixed)
