"""Pixel logits at stride 8 from the merged image map, and what they add to a frame's logit.

The head looks at the image alone, so it also scores what no LiDAR point hits.
"""

import math

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.heads import prior_logit
from pipeline.models.image import FeatureMap
from pipeline.models.layers import conv3x3, full_precision

PIXEL_STRIDE = 8
"""Pixels between the cells of a pixel score; cell (i, j) sits at pixel (8 j, 8 i)."""


class PixelHead(nn.Module):
    """One logit per cell of the image map; the mean logit starts near that of the prior.

    `prior` is the share of anomalous cells in the train split.
    """

    def __init__(self, num_channels: int, *, dropout: float, prior: float) -> None:
        super().__init__()
        narrow = (num_channels + 1) // 2
        self.hidden = conv3x3(num_channels, narrow)
        self.last = nn.Conv2d(narrow, 1, 1)
        self.dropout = dropout
        assert self.last.bias is not None
        nn.init.constant_(self.last.bias, prior_logit(prior))
        self.frame_weight = nn.Parameter(torch.zeros(()))
        self.start: Tensor
        self.register_buffer("start", torch.tensor(prior_logit(prior)))
        self.to(memory_format=torch.channels_last)

    def forward(self, features: FeatureMap) -> Float32[Tensor, "B h w"]:
        assert features.stride == PIXEL_STRIDE, features.stride
        hidden = self.hidden(features.values)
        with full_precision(hidden):
            weight = F.dropout(self.last.weight, self.dropout, self.training)
            score = F.conv2d(hidden.float(), weight, self.last.bias).squeeze(1)
        # A parameter that a step leaves out stalls DDP, and without a frame loss this one would be.
        return score + 0 * self.frame_weight

    def frame_evidence(
        self, pixel_score: Float32[Tensor, "B h w"], *, top_k: int
    ) -> Float32[Tensor, "B"]:
        """What the `top_k` highest pixels add to each frame's logit from its points.

        The two heads' logits start from different priors and stand for items of different size, so
        neither their maximum nor their mean has a scale. What pixels tell beyond their prior is
        therefore added with a learned weight; it starts at 0, where a frame's logit is that of its
        points.
        """
        cells = pixel_score.flatten(1)
        highest = cells.topk(min(top_k, cells.shape[1])).values.mean(1)
        return self.frame_weight * (highest - self.start)


def map_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the pixel score of an image."""
    return math.ceil(height / PIXEL_STRIDE), math.ceil(width / PIXEL_STRIDE)


def upsampled(
    pixel_score: Float32[Tensor, "B h w"], *, size: tuple[int, int]
) -> Float32[Tensor, "B H W"]:
    """Bilinear to every pixel of an image of `size` (H, W); beyond the last cell its value stays.

    Cell k goes exactly to pixel 8 k.
    """
    assert pixel_score.shape[1:] == map_size(*size), (pixel_score.shape, size)
    height, width = ((cells - 1) * PIXEL_STRIDE + 1 for cells in pixel_score.shape[1:])
    exact = F.interpolate(
        pixel_score[:, None], size=(height, width), mode="bilinear", align_corners=True
    )
    rest = (0, max(0, size[1] - width), 0, max(0, size[0] - height))
    return F.pad(exact, rest, mode="replicate")[:, 0, : size[0], : size[1]]
