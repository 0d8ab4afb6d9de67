"""Layers that the camera and the LiDAR branch share.

GroupNorm everywhere: a frame's features must not depend on the other frames of its batch, and two
ranks with half a batch each must compute what one rank computes with all of it.
"""

import functools

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

CHANNELS_PER_GROUP = 16
"""torch's bf16 GroupNorm on CPU takes 2.5 times as long with 8 channels per group as with 16."""


def full_precision(like: Tensor) -> torch.autocast:
    """Context in which autocast is off, on the device of `like`.

    Per-point layers are narrow: casting their activations to bf16 costs more than it saves, metres
    do not fit bf16's 8 bits, and sums over points must not be rounded.
    """
    return torch.autocast(like.device.type, enabled=False)


def constant(values: tuple[float, ...], device: torch.device) -> Float32[Tensor, "N"]:
    """`values` on the device, copied there once: each further copy would make the host wait."""
    if torch.compiler.is_exporting() or torch.compiler.is_compiling():
        return torch.tensor(values, device=device)
    return _constant(values, device)


@functools.lru_cache(maxsize=256)
def _constant(values: tuple[float, ...], device: torch.device) -> Float32[Tensor, "N"]:
    # One made in inference mode could not be used in training later.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device)


def group_norm(num_channels: int) -> nn.GroupNorm:
    """GroupNorm over groups of 16 channels; one group where 16 does not divide."""
    num_groups, rest = divmod(num_channels, CHANNELS_PER_GROUP)
    return nn.GroupNorm(1 if rest else num_groups, num_channels)


def conv3x3(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, GroupNorm, ReLU; output cell k is centred on input cell stride * k."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        group_norm(out_channels),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """A 3x3 convolution added to its input."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.change = conv3x3(num_channels, num_channels)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return x + self.change(x)
