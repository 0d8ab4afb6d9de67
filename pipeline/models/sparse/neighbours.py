"""Which voxel feeds which, for every offset of a 3x3x3 kernel: found once, shared by all layers.

Smaller kernels take a part of the same table, the inverse convolution reads it backwards. Keys are
sorted with k innermost, so one binary search per (i, j) column of the kernel finds three offsets;
a submanifold table is symmetric, which halves the columns again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from jaxtyping import Int32, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.models.layers import constant
from pipeline.models.sparse.voxels import SparseVoxels, Triple, key_step, keys_of

Rows = tuple[Int64[Tensor, "_"], Int64[Tensor, "_"]]
OFFSETS: tuple[Triple, ...] = tuple(
    (i, j, k) for i, j, k in product((-1, 0, 1), (-1, 0, 1), (-1, 0, 1))
)
CENTRE = OFFSETS.index((0, 0, 0))


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """For each of K kernel offsets the pairs (row of input, row of output) that it connects.

    No row of input or output comes twice within an offset.
    """

    pairs: tuple[Rows, ...]
    num_inputs: int
    num_outputs: int
    identity: int | None = None
    """The offset that connects every row with itself, for which nothing need be gathered."""

    def within(self, kernel: Triple) -> "Neighbours":
        """The part of a 3x3x3 table that a kernel with sides 1 or 3 needs, made once."""
        if kernel not in self._parts:
            self._parts[kernel] = self._part(kernel)
        return self._parts[kernel]

    @cached_property
    def _parts(self) -> dict[Triple, "Neighbours"]:
        return {}

    def _part(self, kernel: Triple) -> "Neighbours":
        chosen = [at for at, offset in enumerate(OFFSETS) if _reaches(kernel, offset)]
        identity = None if self.identity is None else chosen.index(self.identity)
        return Neighbours(
            pairs=tuple(self.pairs[at] for at in chosen),
            num_inputs=self.num_inputs,
            num_outputs=self.num_outputs,
            identity=identity,
        )

    def reversed(self) -> "Neighbours":
        """The table of the inverse convolution: outputs feed what they were fed by; made once."""
        return self._reversed

    @cached_property
    def _reversed(self) -> "Neighbours":
        return Neighbours(
            pairs=tuple((to, of) for of, to in self.pairs),
            num_inputs=self.num_outputs,
            num_outputs=self.num_inputs,
            identity=self.identity,
        )

    @cached_property
    def joined(self) -> tuple[Rows, list[int]]:
        """All pairs but those of `identity`, offset by offset, and the number of each offset's."""
        none = (self.pairs[0][0][:0], self.pairs[0][1][:0])
        others = [none, *(rows for at, rows in enumerate(self.pairs) if at != self.identity)]
        sizes = [len(of) for of, _ in self.pairs]
        if self.identity is not None:
            sizes[self.identity] = 0
        return (torch.cat([of for of, _ in others]), torch.cat([to for _, to in others])), sizes

    @cached_property
    def padded(self) -> tuple[Int32[Tensor, "2 K longest"], Int32[Tensor, "K"]]:
        """Rows of inputs and of outputs by offset, with -1 behind them, and how many there are."""
        sides = [
            pad_sequence([rows[side] for rows in self.pairs], batch_first=True, padding_value=-1)
            for side in (0, 1)
        ]
        counts = [len(of) for of, _ in self.pairs]
        device = sides[0].device
        return torch.stack(sides).int(), torch.tensor(counts, dtype=torch.int32, device=device)


def submanifold(voxels: SparseVoxels) -> Neighbours:
    """Table of a 3x3x3 convolution whose outputs are the voxels that its inputs are.

    Offset d connects input cell c + d to output cell c, as in torch's conv3d with padding 1.
    """
    num = voxels.keys.shape[0]
    every = torch.arange(num, device=voxels.keys.device)
    found: dict[Triple, Rows] = {(0, 0, 0): (every, every)}
    columns = ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1))
    offsets = [(i, j, k) for i, j in columns for k in (-1, 0, 1)]
    for offset, rows in zip(offsets, _columns(voxels, voxels.keys, columns), strict=True):
        if offset > (0, 0, 0):
            i, j, k = offset
            found[i, j, k] = rows
            found[-i, -j, -k] = rows[1], rows[0]
    pairs = tuple(found[offset] for offset in OFFSETS)
    return Neighbours(pairs=pairs, num_inputs=num, num_outputs=num, identity=CENTRE)


def strided(fine: SparseVoxels, coarse: SparseVoxels, stride: Triple) -> Neighbours:
    """Table of a 3x3x3 convolution from `fine` to `coarse` voxels, the latter `stride` apart.

    Output cell c is centred on input cell stride * c, as in torch's conv3d with padding 1.
    """
    frame, ijk = coarse.cells().split([1, 3], dim=1)
    at = ijk * constant(stride, ijk.device).long()
    keys = keys_of(frame.squeeze(1), at, shape=fine.shape)
    pairs = tuple(_columns(fine, keys, tuple(product((-1, 0, 1), (-1, 0, 1)))))
    return Neighbours(pairs=pairs, num_inputs=fine.keys.shape[0], num_outputs=coarse.keys.shape[0])


def _columns(
    voxels: SparseVoxels, keys: Int64[Tensor, "M"], columns: Sequence[tuple[int, int]]
) -> list[Rows]:
    """Pairs (voxel, row of `keys`) for offsets (i, j, -1), (i, j, 0), (i, j, 1) of each (i, j)."""
    if torch.compiler.is_exporting():
        # Numbers of pairs are symbols then, by which torch cannot split.
        return [rows for i, j in columns for rows in _column(voxels, keys, i, j)]
    num = keys.shape[0]
    lowest = [keys + key_step((i, j, -1), shape=voxels.shape) for i, j in columns]
    wanted = torch.cat(lowest)
    at = torch.searchsorted(voxels.keys, wanted)
    ended = torch.cat([voxels.keys, voxels.keys.new_full((1,), -1)])
    hits, places = [], []
    for _ in range(3):
        hit = ended.index_select(0, at) == wanted
        hits.append(hit.view(len(columns), num))
        places.append(at.view(len(columns), num))
        at, wanted = at + hit, wanted + 1
    # By column, then by k, then by row: one search for all pairs of the table.
    hit = torch.stack(hits, dim=1)
    found = hit.flatten().nonzero().squeeze(1)
    sizes = hit.sum(2).flatten().tolist()
    of = torch.stack(places, dim=1).flatten().index_select(0, found)
    return list(zip(of.split(sizes), (found % max(num, 1)).split(sizes), strict=True))


def _column(voxels: SparseVoxels, keys: Int64[Tensor, "M"], i: int, j: int) -> list[Rows]:
    """Pairs (voxel, row of `keys`) for offsets (i, j, -1), (i, j, 0), (i, j, 1)."""
    wanted = keys + key_step((i, j, -1), shape=voxels.shape)
    at = torch.searchsorted(voxels.keys, wanted)
    ended = torch.cat([voxels.keys, voxels.keys.new_full((1,), -1)])
    found = []
    for _ in range(3):
        hit = ended.index_select(0, at) == wanted
        rows = hit.nonzero().squeeze(1)
        found.append((at.index_select(0, rows), rows))
        at, wanted = at + hit, wanted + 1
    return found


def _reaches(kernel: Triple, offset: Triple) -> bool:
    return all(abs(step) <= side // 2 for side, step in zip(kernel, offset, strict=True))
