"""Image features at the points that look at the image, and a table of all points around them."""

from functools import reduce

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from pipeline.models.fusion.alignment import Alignment, ImageView
from pipeline.models.fusion.projection import sample
from pipeline.models.image import FeatureMap


class ImageSampler(nn.Module):
    """Sum of several maps at each point's pixel, each first mapped linearly to `width` channels.

    That is the first linear layer over the concatenated maps, applied where cells are fewer than
    points. Points without a pixel get the mean over their frame's maps.
    """

    def __init__(self, in_channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in in_channels)
        self.to(memory_format=torch.channels_last)

    def forward(self, features: tuple[FeatureMap, ...], view: ImageView) -> Float32[Tensor, "N C"]:
        """Features of the points in `view`."""
        found = [
            _looked_up(FeatureMap(values=linear(one.values), stride=one.stride), view)
            for linear, one in zip(self.maps, features, strict=True)
        ]
        return reduce(torch.add, found)


def _looked_up(features: FeatureMap, view: ImageView) -> Float32[Tensor, "N C"]:
    if view.uv is None:
        return features.values.float().mean(dim=(2, 3)).index_select(0, view.frame)
    return sample(features, view.uv, view.frame)


class PointTable(nn.Module):
    """Rows of a view set into a table of all points; the others get one learned vector.

    Where every point is in the view (`none`), there is no such vector.
    """

    def __init__(self, width: int, *, alignment: Alignment) -> None:
        super().__init__()
        self.not_seen = None
        if alignment != "none":
            self.not_seen = nn.Parameter(torch.randn(width) / width**0.5)

    def forward(self, found: Float32[Tensor, "N C"], view: ImageView) -> Float32[Tensor, "P C"]:
        if self.not_seen is None:
            return found
        return self.not_seen.expand(view.num_points, -1).index_copy(0, view.rows, found)
