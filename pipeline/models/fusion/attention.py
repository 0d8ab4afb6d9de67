"""Attention of ragged queries on their own frame's image tokens."""

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.ragged import frame_sizes


class Attention(nn.Module):
    """Multi-head attention (arXiv 1706.03762, section 3.2); memory is linear in the queries.

    One call per frame: without padding, so that no frame's blocking, and with it no rounding,
    depends on how many points its companions have.
    """

    def __init__(self, width: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        # A bias of the keys would add the same to all of a query's logits: softmax takes it out.
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        queries: Float32[Tensor, "N C"],
        frame: Int64[Tensor, "N"],
        keys: Float32[Tensor, "B T C"],
        values: Float32[Tensor, "B T C"],
    ) -> Float32[Tensor, "N C"]:
        """What every query takes from the T tokens of its frame; `frame` is ascending."""
        frames = torch.arange(keys.shape[0] + 1, device=frame.device)
        counts = torch.diff(torch.searchsorted(frame, frames))
        sizes = frame_sizes(counts, total=frame.shape[0])
        query = self._heads(self.query(queries)).split(sizes, dim=1)
        key, value = self._heads(self.key(keys)), self._heads(self.value(values))
        found = [_attended(own, k, v) for own, k, v in zip(query, key, value, strict=True)]
        return self.out(torch.cat(found, dim=1).transpose(0, 1).flatten(1))

    def _heads(self, x: Tensor) -> Tensor:
        """(..., T, C) to (..., heads, T, C / heads)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)


def _attended(
    query: Float32[Tensor, "heads N D"],
    key: Float32[Tensor, "heads T D"],
    value: Float32[Tensor, "heads T D"],
) -> Float32[Tensor, "heads N D"]:
    if torch.compiler.is_exporting():
        # An exported program has one path for all numbers of queries, and torch forks at 0.
        query = F.pad(query, (0, 0, 0, 1))
        return F.scaled_dot_product_attention(query[None], key[None], value[None])[0, :, :-1]
    return F.scaled_dot_product_attention(query[None], key[None], value[None])[0]
