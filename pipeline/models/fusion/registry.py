"""Fusion modules by name."""

from torch import nn

from pipeline.config.model import ModelConfig
from pipeline.models.fusion.concat import Concat
from pipeline.models.fusion.cross_attention import CrossAttention
from pipeline.models.fusion.gated import Gated
from pipeline.models.fusion.late import Late
from pipeline.models.fusion.unimodal import CameraOnly, LidarOnly

FORMS = {
    "camera_only": CameraOnly,
    "lidar_only": LidarOnly,
    "late": Late,
    "concat": Concat,
    "gated": Gated,
    "cross_attention": CrossAttention,
}


def make_fusion(config: ModelConfig) -> nn.Module:
    """From LiDAR features (P, C), image maps and a view to features for the head.

    The modality that a form does not use is None. All but `late`, which keeps both apart for
    `LateHead`, give one table (P, C).
    """
    return FORMS[config.fusion](config)
