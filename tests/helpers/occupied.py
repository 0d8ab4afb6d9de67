"""Made-up occupied cells for tests of the sparse convolution."""

import torch
from torch import Tensor

from pipeline.models.sparse.voxels import SparseVoxels, Triple, sparse_voxels


def random_voxels(shape: Triple, num_frames: int, share: float, seed: int) -> SparseVoxels:
    """Cells occupied with probability `share`; every second frame is empty if seed is odd."""
    generator = torch.Generator().manual_seed(seed)
    filled = torch.rand(num_frames, *shape, generator=generator) < share
    if seed % 2:
        filled[1::2] = False
    frame, cells = filled.nonzero().split([1, 3], dim=1)
    voxels, _ = sparse_voxels(frame.squeeze(1), cells, shape=shape, num_frames=num_frames)
    return voxels


def to_dense(features: Tensor, voxels: SparseVoxels) -> Tensor:
    """(B, C, I, J, K) with zeros where there is no voxel."""
    dense = features.new_zeros(voxels.num_frames, *voxels.shape, features.shape[1])
    dense = dense.index_put(tuple(voxels.cells().unbind(1)), features)
    return dense.permute(0, 4, 1, 2, 3)


def at_voxels(dense: Tensor, voxels: SparseVoxels) -> Tensor:
    """(V, C): the rows of (B, C, I, J, K) at voxels."""
    return dense.permute(0, 2, 3, 4, 1)[tuple(voxels.cells().unbind(1))]


def dense_weight(weight: Tensor, kernel: Triple) -> Tensor:
    """(K, in, out) as torch's conv3d wants it: (out, in, i, j, k)."""
    return weight.unflatten(0, kernel).permute(4, 3, 0, 1, 2)
