"""One modality alone: what fusion has to beat."""

from jaxtyping import Float32
from torch import Tensor, nn

from pipeline.config.model import ModelConfig
from pipeline.models.fusion.alignment import ImageView
from pipeline.models.fusion.image_sampling import ImageSampler, PointTable
from pipeline.models.image import FeatureMap, map_channels


class CameraOnly(nn.Module):
    """Image features at every point; the cloud enters through its projection only."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.sampler = ImageSampler(map_channels(config), config.point_channels)
        self.table = PointTable(config.point_channels, alignment=config.alignment)

    def forward(
        self, points: None, maps: tuple[FeatureMap, ...], view: ImageView
    ) -> Float32[Tensor, "P C"]:
        return self.table(self.sampler(maps, view), view)


class LidarOnly(nn.Module):
    """The cloud's features as they are; owns nothing."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()

    def forward(
        self, points: Float32[Tensor, "P C"], maps: None, view: None
    ) -> Float32[Tensor, "P C"]:
        return points
