"""GroupNorm over each frame's own voxels: a frame's features do not depend on its companions."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.layers import group_norm


class FrameNorm(nn.Module):
    """nn.GroupNorm with every frame's voxels as its pixels; frames without voxels give no rows.

    Rows of a frame lie together, so its part, turned over, is an image of height V and width 1 that
    is channels last in memory: torch's own kernel takes it as it lies.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.norm = group_norm(num_channels)

    def forward(
        self, features: Float[Tensor, "V C"], frame_sizes: list[int]
    ) -> Float[Tensor, "V C"]:
        """`frame_sizes` are the voxels of each frame, summing to V."""
        if torch.compiler.is_exporting():
            return self._written_out(features)
        parts = [self._one(part) for part in features.split(frame_sizes) if len(part)]
        return torch.cat(parts) if parts else features

    def _one(self, part: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        norm = self.norm
        image = part.t()[None, :, :, None]
        done = F.group_norm(image, norm.num_groups, norm.weight, norm.bias, norm.eps)
        return done[0, :, :, 0].t()

    def _written_out(self, features: Float[Tensor, "V C"]) -> Float[Tensor, "V C"]:
        """One frame's rows in plain operations, for torch.export.

        An exported program has one path for all numbers of rows, and torch's kernel refuses 0.
        """
        norm = self.norm
        grouped = features.unflatten(1, (norm.num_groups, -1))
        centred = grouped - grouped.mean(dim=(0, 2), keepdim=True)
        variance = centred.square().mean(dim=(0, 2), keepdim=True)
        done = (centred * torch.rsqrt(variance + norm.eps)).flatten(1)
        return done * norm.weight + norm.bias
