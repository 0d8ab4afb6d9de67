"""Fusion modules by name."""

import importlib

from torch import nn

from pipeline.config.model import FUSIONS, ModelConfig


def make_fusion(config: ModelConfig) -> nn.Module:
    """From LiDAR features (P, C), image maps and a view to features for the head.

    The modality that a form does not use is None. All but `late`, which keeps both apart for
    `LateHead`, give one table (P, C).
    """
    module, _, name = FUSIONS[config.fusion].rpartition(".")
    return getattr(importlib.import_module(module), name)(config)
