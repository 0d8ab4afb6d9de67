"""Blocks of Cylinder3D over occupied cells: asymmetric residuals, levels down and up, gates.

Kernels are given along rho, phi, z. Asymmetric pairs (3x1x3 and 1x3x3) follow the upright,
elongated shapes of a street and cost two thirds of a 3x3x3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.sparse.convolution import SparseConv
from pipeline.models.sparse.neighbours import Neighbours, strided, submanifold
from pipeline.models.sparse.norm import FrameNorm
from pipeline.models.sparse.voxels import SparseVoxels, Triple, coarsen

ALONG_RHO: Triple = (3, 1, 3)
ALONG_PHI: Triple = (1, 3, 3)
WHOLE: Triple = (3, 3, 3)


@dataclass(frozen=True, kw_only=True)
class Level:
    """Occupied cells of one resolution, with what convolutions over them need."""

    voxels: SparseVoxels
    table: Neighbours
    frame_sizes: list[int]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """All tables of a batch, built once."""

    levels: tuple[Level, ...]
    """Finest first."""
    down: tuple[Neighbours, ...]
    """From each level to the next; read backwards on the way up."""


def geometry_of(voxels: SparseVoxels, strides: Sequence[Triple]) -> Geometry:
    """Levels of occupied cells, each `stride` times as coarse as the one before."""
    levels, down = [_level(voxels)], []
    for stride in strides:
        fine = levels[-1].voxels
        coarse = coarsen(fine, stride)
        down.append(strided(fine, coarse, stride))
        levels.append(_level(coarse))
    return Geometry(levels=tuple(levels), down=tuple(down))


def _level(voxels: SparseVoxels) -> Level:
    return Level(voxels=voxels, table=submanifold(voxels), frame_sizes=voxels.frame_sizes())


class Unit(nn.Module):
    """Convolution, norm over each frame's cells, leaky ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: Triple) -> None:
        super().__init__()
        self.conv = SparseConv(in_channels, out_channels, kernel=kernel)
        self.norm = FrameNorm(out_channels)

    def forward(
        self, x: Float[Tensor, "V C"], table: Neighbours, frame_sizes: list[int]
    ) -> Float[Tensor, "N D"]:
        """`frame_sizes` are those of the outputs."""
        return F.leaky_relu(self.norm(self.conv(x, table), frame_sizes), 0.01)


class Asymmetric(nn.Module):
    """Two paths of an asymmetric pair each, in opposite order, added."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        kernels = ((ALONG_RHO, ALONG_PHI), (ALONG_PHI, ALONG_RHO))
        self.paths = nn.ModuleList(
            nn.ModuleList(
                [
                    Unit(in_channels, out_channels, kernel=first),
                    Unit(out_channels, out_channels, kernel=second),
                ]
            )
            for first, second in kernels
        )

    def forward(self, x: Float[Tensor, "V C"], level: Level) -> Float[Tensor, "V D"]:
        found = []
        for path in self.paths:
            own = x
            for unit in path:  # pyright: ignore[reportGeneralTypeIssues]  a ModuleList
                own = unit(own, level.table, level.frame_sizes)
            found.append(own)
        return found[0] + found[1]


class Down(nn.Module):
    """An asymmetric block, kept for the way up, and a strided 3x3x3 to the next level."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block = Asymmetric(in_channels, out_channels)
        self.pool = Unit(out_channels, out_channels, kernel=WHOLE)

    def forward(
        self, x: Float[Tensor, "V C"], geometry: Geometry, at: int
    ) -> tuple[Float[Tensor, "V D"], Float[Tensor, "N D"]]:
        """Features at level `at`, and pooled ones at the next."""
        kept = self.block(x, geometry.levels[at])
        return kept, self.pool(kept, geometry.down[at], geometry.levels[at + 1].frame_sizes)


class Up(nn.Module):
    """Inverse convolution to the finer level, the kept features added, an asymmetric pair."""

    def __init__(self, in_channels: int, kept_channels: int, out_channels: int) -> None:
        super().__init__()
        self.unpool = Unit(in_channels, kept_channels, kernel=WHOLE)
        self.along_phi = Unit(kept_channels, out_channels, kernel=ALONG_PHI)
        self.along_rho = Unit(out_channels, out_channels, kernel=ALONG_RHO)

    def forward(
        self, x: Float[Tensor, "N C"], kept: Float[Tensor, "V D"], geometry: Geometry, at: int
    ) -> Float[Tensor, "V E"]:
        """From level `at` + 1 to level `at`."""
        level = geometry.levels[at]
        x = self.unpool(x, geometry.down[at].reversed(), level.frame_sizes) + kept
        x = self.along_phi(x, level.table, level.frame_sizes)
        return self.along_rho(x, level.table, level.frame_sizes)


class Gates(nn.Module):
    """Dimension-decomposition context: one sigmoid gate per axis, added, times the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        kernels: tuple[Triple, ...] = ((3, 1, 1), (1, 3, 1), (1, 1, 3))
        self.convs = nn.ModuleList(SparseConv(width, width, kernel=kernel) for kernel in kernels)
        self.norms = nn.ModuleList(FrameNorm(width) for _ in kernels)

    def forward(self, x: Float[Tensor, "V C"], level: Level) -> Float[Tensor, "V C"]:
        gates = [
            torch.sigmoid(norm(conv(x, level.table), level.frame_sizes))
            for conv, norm in zip(self.convs, self.norms, strict=True)
        ]
        return x * torch.stack(gates).sum(0)
