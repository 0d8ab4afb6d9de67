"""Occupied cells of a 3-D grid, several frames together: sorted keys, no dense grid anywhere.

Keys count cells of a grid with a border of one empty cell on every side, so that a neighbour's key
is the key plus a constant and a cell beyond the border is simply never found.
"""

from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Int64
from torch import Tensor

from pipeline.models.layers import constant
from pipeline.models.ragged import frame_sizes

Triple = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class SparseVoxels:
    """V occupied cells of B frames, ordered by frame, i, j, k; a row of features belongs to each.

    A frame may have none, and V may be 0.
    """

    keys: Int64[Tensor, "V"]
    """Sorted, no two alike."""
    shape: Triple
    """Cells of the grid along i, j, k."""
    num_frames: int
    """B."""

    def cells(self) -> Int64[Tensor, "V 4"]:
        """Frame, i, j, k of each voxel."""
        _, num_j, num_k = _bordered(self.shape)
        rest, k = self.keys // num_k, self.keys % num_k
        rest, j = rest // num_j, rest % num_j
        frame, i = rest // (self.shape[0] + 2), rest % (self.shape[0] + 2)
        return torch.stack([frame, i - 1, j - 1, k - 1], dim=1)

    def frame_sizes(self) -> list[int]:
        """Voxels of each frame; on a GPU this waits for it."""
        per_frame = prod(_bordered(self.shape))
        ends = torch.arange(self.num_frames + 1, device=self.keys.device) * per_frame
        counts = torch.diff(torch.searchsorted(self.keys, ends))
        return frame_sizes(counts, total=self.keys.shape[0])


def sparse_voxels(
    frame: Int64[Tensor, "P"], cells: Int64[Tensor, "P 3"], *, shape: Triple, num_frames: int
) -> tuple[SparseVoxels, Int64[Tensor, "P"]]:
    """The cells that hold at least one of P points, and the voxel of each point.

    `cells` are i, j, k inside the grid, `frame` is below `num_frames`.
    """
    keys, of_point = torch.unique(keys_of(frame, cells, shape=shape), return_inverse=True)
    return SparseVoxels(keys=keys, shape=shape, num_frames=num_frames), of_point


def coarsen(voxels: SparseVoxels, stride: Triple) -> SparseVoxels:
    """The cells of a grid `stride` times as coarse that hold at least one voxel."""
    frame, ijk = voxels.cells().split([1, 3], dim=1)
    i, j, k = (-(-n // s) for n, s in zip(voxels.shape, stride, strict=True))
    coarse, _ = sparse_voxels(
        frame.squeeze(1),
        ijk // constant(stride, ijk.device).long(),
        shape=(i, j, k),
        num_frames=voxels.num_frames,
    )
    return coarse


def keys_of(
    frame: Int64[Tensor, "P"], cells: Int64[Tensor, "P 3"], *, shape: Triple
) -> Int64[Tensor, "P"]:
    """Keys of cells; i, j and k may be -1 or one past the end, where no voxel can be."""
    num_i, num_j, num_k = _bordered(shape)
    i, j, k = (cells + 1).unbind(1)
    return ((frame * num_i + i) * num_j + j) * num_k + k


def key_step(offset: Triple, *, shape: Triple) -> int:
    """What a key grows by when its cell moves by `offset`."""
    _, num_j, num_k = _bordered(shape)
    return (offset[0] * num_j + offset[1]) * num_k + offset[2]


def _bordered(shape: Triple) -> Triple:
    return shape[0] + 2, shape[1] + 2, shape[2] + 2
