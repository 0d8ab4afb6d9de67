"""Points ask the whole image: attention on coarse tokens beside the sample at the projection.

The sample says what the camera sees at the point itself, as finely as `concat` has it; attention
adds what lies elsewhere in the image, chosen by what the LiDAR sees and by where it sees it. Tokens
at stride 16 keep that cheap: 1536 of them for 768 x 512 pixels, whatever the number of points.
"""

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from pipeline.config.model import ModelConfig
from pipeline.models.fusion.alignment import ImageView
from pipeline.models.fusion.attention import Attention
from pipeline.models.fusion.concat import Concat
from pipeline.models.fusion.encoding import PositionalEncoding
from pipeline.models.image import FeatureMap
from pipeline.models.layers import conv3x3, full_precision

PLACE_UNIT_M = 50.0
"""3-D places are encoded in this unit: sines are 200 m to 2 m long."""


class CrossAttention(nn.Module):
    """What `concat` gives, then attention and a small network, each added (arXiv 2002.04745).

    Points out of view skip both: they keep the LiDAR features plus the learned `not_seen` vector.
    Without residuals LiDAR and sample reach the head only through what they ask the image for.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, kind = config.point_channels, config.positional_encoding
        self.has_residual = config.attention_residual
        self.concat = Concat(config)
        self.tokens = conv3x3(config.image_channels, width, stride=2)
        self.pixel = PositionalEncoding(kind, width, num_axes=2, ratio=32.0)
        self.place = PositionalEncoding(kind, width, num_axes=3, ratio=100.0)
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads=config.attention_heads)
        self.ffn = feed_forward(width) if config.attention_ffn else None
        self.tokens.to(memory_format=torch.channels_last)

    def forward(
        self, points: Float32[Tensor, "P C"], maps: tuple[FeatureMap, ...], view: ImageView
    ) -> Float32[Tensor, "P C"]:
        joined = self.concat(points, maps, view)
        coarse = FeatureMap(values=self.tokens(maps[-1].values), stride=2 * maps[-1].stride)
        with full_precision(points):
            features = joined.index_select(0, view.rows)
            features = self._skip(features, self._attended(features, coarse, view))
            if self.ffn is not None:
                features = self._skip(features, self.ffn(features))
            return joined.index_copy(0, view.rows, features)

    def _attended(
        self, features: Float32[Tensor, "N C"], coarse: FeatureMap, view: ImageView
    ) -> Float32[Tensor, "N C"]:
        queries = self.norm(features) + self.place(view.place / PLACE_UNIT_M)
        if view.uv is not None:
            queries = queries + self.pixel(_fraction(view.uv, view))
        values = coarse.values.float().flatten(2).transpose(1, 2)
        keys = values + self.pixel(_fraction(cell_pixels(coarse), view))
        return self.attention(queries, view.frame, keys, values)

    def _skip(self, before: Tensor, after: Tensor) -> Tensor:
        return before + after if self.has_residual else after


def feed_forward(width: int) -> nn.Sequential:
    """Twice as wide inside."""
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
    )


def cell_pixels(features: FeatureMap) -> Float32[Tensor, "T 2"]:
    """Pixel (u, v) of every cell, row by row."""
    height, width = features.values.shape[2:]
    v, u = torch.meshgrid(
        torch.arange(height, device=features.values.device),
        torch.arange(width, device=features.values.device),
        indexing="ij",
    )
    return torch.stack([u, v], dim=2).flatten(0, 1).float() * features.stride


def _fraction(uv: Float32[Tensor, "N 2"], view: ImageView) -> Float32[Tensor, "N 2"]:
    """Pixels as -1 (left, top) to 1."""
    return 2 * uv / view.image_size - 1
