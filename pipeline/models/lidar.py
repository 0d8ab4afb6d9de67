"""`model.lidar_backbone` by name: from a batch's clouds to features of every point."""

from torch import nn

from pipeline.config.model import ModelConfig
from pipeline.models.cylinder import Cylinder3D
from pipeline.models.pillar_encoder import PointEncoder
from pipeline.models.point_mlp import PointMlp

BACKBONES = {"pillars": PointEncoder, "point_mlp": PointMlp, "cylinder3d": Cylinder3D}


def make_point_encoder(config: ModelConfig, *, has_time: bool) -> nn.Module:
    """A module from a batch to point features (P, `model.point_channels`).

    `has_time`: points have a fifth column, relative time, as with `data.num_sweeps` > 1. A frame's
    points see that frame's points only, and permuting points permutes their features.
    """
    return BACKBONES[config.lidar_backbone](config, has_time=has_time)
