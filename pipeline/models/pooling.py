"""`model.point_pooling`: features of points gathered per group: a pillar, a cell, a cloud."""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

PoolingKind = Literal["max", "mean", "attention"]


class Pooling(nn.Module):
    """One row per group. `attention` weighs a group's points by the softmax of a learned score."""

    def __init__(self, width: int, *, kind: PoolingKind) -> None:
        super().__init__()
        self.kind: PoolingKind = kind
        self.score = nn.Linear(width, 1, bias=False) if kind == "attention" else None

    def forward(
        self, values: Float[Tensor, "P C"], of_group: Int64[Tensor, "P"], num_groups: int
    ) -> Float[Tensor, "V C"]:
        """`of_group` is each point's group; `max` asks that every group has a point."""
        if self.kind == "max":
            return group_max(values, of_group, num_groups)
        if self.score is None:
            return group_mean(values, of_group, num_groups)
        weights = group_softmax(self.score(values), of_group, num_groups)
        return values.new_zeros(num_groups, values.shape[1]).index_add(
            0, of_group, values * weights
        )


def group_mean(
    values: Float[Tensor, "P C"], of_group: Int64[Tensor, "P"], num_groups: int
) -> Float[Tensor, "V C"]:
    """Mean per group and channel; zeros for a group without points."""
    total = values.new_zeros(num_groups, values.shape[1]).index_add(0, of_group, values)
    return total / torch.bincount(of_group, minlength=num_groups).clamp(min=1)[:, None]


def group_softmax(
    score: Float[Tensor, "P 1"], of_group: Int64[Tensor, "P"], num_groups: int
) -> Float[Tensor, "P 1"]:
    """Softmax over each group's points."""
    # Any constant per group cancels; its highest score keeps exp in range.
    highest = group_max(score.detach(), of_group, num_groups).index_select(0, of_group)
    share = (score - highest).exp()
    total = share.new_zeros(num_groups, 1).index_add(0, of_group, share)
    return share / total.index_select(0, of_group)


def group_max(
    values: Float[Tensor, "P C"], of_group: Int64[Tensor, "P"], num_groups: int
) -> Float[Tensor, "V C"]:
    """Maximum per group and channel; every group has a row.

    The gradient goes to every row that attains the maximum. torch's own backward of this reduction
    is 20 times as slow on CPU as its forward.
    """
    return _GroupMax.apply(values, of_group, num_groups)


class _GroupMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, of_group: Tensor, num_groups: int) -> Tensor:
        start = values.new_zeros(num_groups, values.shape[1])
        rows = of_group[:, None].expand_as(values)
        top = start.scatter_reduce(0, rows, values, "amax", include_self=False)
        ctx.save_for_backward(values, top, of_group)
        return top

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        values, top, of_group = ctx.saved_tensors
        attains = values == top.index_select(0, of_group)
        return gradients[0].index_select(0, of_group) * attains, None, None
