"""One linear layer over both modalities' concatenated features, as the sum of one per modality."""

from jaxtyping import Float32
from torch import Tensor, nn

from pipeline.config.model import ModelConfig
from pipeline.models.fusion.alignment import ImageView
from pipeline.models.fusion.unimodal import CameraOnly
from pipeline.models.image import FeatureMap


class Concat(nn.Module):
    """Both branches end in their own linear layer: here they are added."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.camera = CameraOnly(config)

    def forward(
        self, points: Float32[Tensor, "P C"], maps: tuple[FeatureMap, ...], view: ImageView
    ) -> Float32[Tensor, "P C"]:
        return self.camera(None, maps, view) + points
