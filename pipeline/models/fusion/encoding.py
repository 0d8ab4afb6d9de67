"""`model.positional_encoding`: coordinates as vectors that attention can compare."""

import math
from typing import Literal

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional as F

Encoding = Literal["none", "sincos", "learned", "hybrid"]
LONGEST = 4.0
"""Longest wavelength of the sines: twice the span of coordinates that run from -1 to 1."""


class PositionalEncoding(nn.Module):
    """Vectors of `width` channels for places with coordinates about -1 to 1.

    `sincos`: sines and cosines of every coordinate at wavelengths from 4 down to 4 / `ratio`
    (arXiv 1706.03762, section 3.5). `learned`: a network of two layers. `hybrid`: their sum.
    `none`: zeros.
    """

    def __init__(self, kind: Encoding, width: int, *, num_axes: int, ratio: float) -> None:
        super().__init__()
        self.width, self.ratio = width, ratio
        self.has_waves = kind in ("sincos", "hybrid")
        self.learned = None
        if kind in ("learned", "hybrid"):
            self.learned = nn.Sequential(
                nn.Linear(num_axes, width), nn.ReLU(), nn.Linear(width, width)
            )

    def forward(self, place: Float32[Tensor, "N axes"]) -> Float32[Tensor, "N C"]:
        parts = [waves(place, self.width, ratio=self.ratio)] if self.has_waves else []
        if self.learned is not None:
            parts.append(self.learned(place))
        return sum(parts, start=place.new_zeros(1, self.width).expand(place.shape[0], -1))


def waves(place: Float32[Tensor, "N axes"], width: int, *, ratio: float) -> Float32[Tensor, "N C"]:
    """Sines, then cosines, of each axis at geometrically spaced wavelengths; spare channels 0."""
    num_waves = width // (2 * place.shape[1])
    steps = torch.linspace(0, 1, num_waves, dtype=place.dtype, device=place.device)
    phase = (2 * math.pi / LONGEST) * place[:, :, None] * ratio**steps
    found = torch.cat([phase.sin(), phase.cos()], dim=2).flatten(1)
    return F.pad(found, (0, width - found.shape[1]))
