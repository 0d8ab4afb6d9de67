"""Sparse against dense 3-D convolution on the cells that a LiDAR occupies.

    python -m benchmarks.sparse [--grid 120 90 16] [--rounds 5]

Four submanifold 3x3x3 layers of 32 channels on one full-size synthetic frame in cylindrical cells,
forward and backward, the neighbour tables built once for the four, against four layers of torch's
conv3d on the dense grid; 2 threads, rounds alternate the two sides. The default grid is a quarter
of the paper's along range and angle and half of it in height: the dense side of the paper's grid
(480 x 360 x 32) needs 0.7 GB per activation and minutes per round.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.full_frame import full_frame
from pipeline.config.model import ModelConfig
from pipeline.models.cylinder import Cylinder3D, to_cylinder
from pipeline.models.sparse.convolution import SparseConv
from pipeline.models.sparse.neighbours import submanifold
from pipeline.models.sparse.voxels import SparseVoxels, sparse_voxels

CHANNELS, LAYERS, THREADS = 32, 4, 2


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", type=int, nargs=3, default=[120, 90, 16])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    voxels = frame_voxels(arguments.grid)
    ratios, times = [], ([], [])
    sides = (sparse_side(voxels), dense_side(voxels))
    for side in sides:
        side()
    for _ in range(arguments.rounds):
        taken = [timed(side) for side in sides]
        ratios.append(taken[1] / taken[0])
        for own, seconds in zip(times, taken, strict=True):
            own.append(seconds)
    print(
        json.dumps(
            {
                "grid": arguments.grid,
                "voxels": len(voxels.keys),
                "occupied": round(len(voxels.keys) / math.prod(arguments.grid), 4),
                "sparse_s": round(statistics.median(times[0]), 4),
                "dense_s": round(statistics.median(times[1]), 4),
                "dense_over_sparse": round(statistics.median(ratios), 1),
                "from": round(min(ratios), 1),
                "to": round(max(ratios), 1),
            }
        )
    )


def frame_voxels(grid: list[int]) -> SparseVoxels:
    """Occupied cells of the frame in Cylinder3D's partition."""
    batch = full_frame()
    model = Cylinder3D(ModelConfig(cylinder_grid=grid), has_time=False)
    cells = model.cells_of(to_cylinder(batch.points))
    frame = torch.zeros(len(cells), dtype=torch.int64)
    voxels, _ = sparse_voxels(frame, cells, shape=model.grid, num_frames=1)
    return voxels


def sparse_side(voxels: SparseVoxels) -> Callable[[], None]:
    """Tables, four layers, backward."""
    layers = nn.ModuleList(SparseConv(CHANNELS, CHANNELS, kernel=(3, 3, 3)) for _ in range(LAYERS))
    features = torch.randn(len(voxels.keys), CHANNELS, requires_grad=True)

    def run() -> None:
        x: Tensor = features
        table = submanifold(voxels)
        for layer in layers:
            x = layer(x, table)
        x.sum().backward()

    return run


def dense_side(voxels: SparseVoxels) -> Callable[[], None]:
    """Four layers on the whole grid, backward."""
    layers = nn.Sequential(
        *(nn.Conv3d(CHANNELS, CHANNELS, 3, padding=1, bias=False) for _ in range(LAYERS))
    )
    dense = torch.zeros(1, CHANNELS, *voxels.shape)
    frame, i, j, k = voxels.cells().unbind(1)
    dense[frame, :, i, j, k] = torch.randn(len(frame), CHANNELS)
    dense.requires_grad_()

    def run() -> None:
        layers(dense).sum().backward()

    return run


def timed(work: Callable[[], None]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
