"""The convolution itself: gather all neighbours, multiply offset by offset, add all.

Against one product over a table of 27 neighbours per cell this saves the two thirds of neighbours
that a LiDAR's cells do not have.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.models.layers import full_precision
from pipeline.models.sparse.neighbours import Neighbours
from pipeline.models.sparse.voxels import Triple

Operation = Callable[[Tensor, Tensor, Neighbours], Tensor]
"""Of features (V, C), weight (K, C, D) and a table with K offsets: sums (N, D) over the offsets."""


ALIGNED = 16
"""Channels in 64 bytes. Where an offset's rows begin in between, the rounding of their product
depends on how many rows lie before them, and with it on a frame's companions."""


class SparseConv(nn.Module):
    """Convolution over voxels; the table given to `forward` makes it submanifold, strided, inverse.

    `kernel` has sides 1 or 3. Weights are (K, in, out) with offsets in order of i, j, k, drawn as
    torch draws those of conv3d. `operation` does the work, in plain torch unless it is replaced.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: Triple, bias: bool = False
    ) -> None:
        super().__init__()
        self.kernel = kernel
        bound = 1 / math.sqrt(in_channels * math.prod(kernel))
        self.weight = _drawn(bound, math.prod(kernel), in_channels, out_channels)
        self.bias = _drawn(bound, out_channels) if bias else None
        self.operation: Operation = convolve

    def forward(
        self, features: Float[Tensor, "V C"], neighbours: Neighbours
    ) -> Float[Tensor, "N D"]:
        """Features of the table's outputs; `neighbours` is a 3x3x3 table, used as far as needed."""
        out = self.operation(features, self.weight, neighbours.within(self.kernel))
        return out if self.bias is None else out + self.bias


def _drawn(bound: float, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def convolve(
    features: Float[Tensor, "V C"], weight: Float[Tensor, "K C D"], neighbours: Neighbours
) -> Float[Tensor, "N D"]:
    """Each output row is the sum over offsets of its neighbour's features times their weight."""
    return _Convolution.apply(features, weight, neighbours)


class _Convolution(torch.autograd.Function):
    """Keeps its input only: backward gathers the neighbours again."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, neighbours: Neighbours) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.neighbours = neighbours
        with full_precision(features):
            return _gathered(features, weight, neighbours)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        of_outputs, neighbours = gradients[0].contiguous(), ctx.neighbours
        of_features = of_weight = None
        with full_precision(features):
            if ctx.needs_input_grad[0]:
                of_features = _gathered(of_outputs, weight.mT, neighbours.reversed())
            if ctx.needs_input_grad[1]:
                of_weight = _weight_gradient(features, of_outputs, neighbours)
        return of_features, of_weight, None


def _gathered(features: Tensor, weight: Tensor, neighbours: Neighbours) -> Tensor:
    if neighbours.identity is None:
        out = features.new_zeros(neighbours.num_outputs, weight.shape[2])
    else:
        out = features @ weight[neighbours.identity]
    if torch.compiler.is_exporting() or any(side % ALIGNED for side in weight.shape[1:]):
        return _added_one_by_one(out, features, weight, neighbours)
    (of, to), sizes = neighbours.joined
    seen = features.index_select(0, of).split(sizes)
    products = features.new_empty(len(of), weight.shape[2])
    for own, found, product in zip(weight, seen, products.split(sizes), strict=True):
        if len(found):
            torch.mm(found, own, out=product)
    return out.index_add_(0, to, products)


def _added_one_by_one(
    out: Tensor, features: Tensor, weight: Tensor, neighbours: Neighbours
) -> Tensor:
    """For narrow features, and for torch.export, which cannot split by numbers that are symbols."""
    for at, (of, to) in enumerate(neighbours.pairs):
        if at != neighbours.identity:
            out.index_add_(0, to, features.index_select(0, of) @ weight[at])
    return out


def _weight_gradient(features: Tensor, of_outputs: Tensor, neighbours: Neighbours) -> Tensor:
    num_offsets, shape = len(neighbours.pairs), (features.shape[1], of_outputs.shape[1])
    gradient = features.new_zeros(num_offsets, *shape)
    (of, to), sizes = neighbours.joined
    seen, asked = features.index_select(0, of), of_outputs.index_select(0, to)
    parts = zip(gradient, seen.split(sizes), asked.split(sizes), strict=True)
    for at, (own, found, wanted) in enumerate(parts):
        if at == neighbours.identity:
            torch.mm(features.mT, of_outputs, out=own)
        elif len(found):
            torch.mm(found.mT, wanted, out=own)
    return gradient
