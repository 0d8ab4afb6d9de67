"""The table of docs/cylinder3d.md: blocks of Cylinder3D, their width, parameters, receptive field.

    python -m benchmarks.layers

The receptive field is counted in finest cells along rho, phi, z (the side of the box of cells that
can reach one output), and in metres at 20 m for the default grid.
"""

import math

from pipeline.config.model import ModelConfig
from pipeline.models.cylinder import STRIDES, Cylinder3D
from pipeline.visualization.tables import aligned

RANGE_M = 20.0
BLOCK, POOL, UP, GATE = (1, 1, 2), (1, 1, 1), (2, 2, 3), (1, 1, 1)
"""Reach to each side, in cells of the level: an asymmetric pair goes 1 along rho, 1 along phi and 2
along z; the way up is a 3x3x3 and a pair; the gates look 1 cell along each axis."""


def table(config: ModelConfig) -> str:
    """The table in Markdown."""
    model = Cylinder3D(config, has_time=False)
    width = config.cylinder_channels
    reach, cell = [0, 0, 0], [1, 1, 1]
    lines = [
        line("point MLP, pooled per cell, reduced", width, [model.embed, model.to_cell], reach)
    ]

    def add(name: str, channels: int, modules: list, step: tuple[int, int, int]) -> None:
        for axis in range(3):
            reach[axis] += step[axis] * cell[axis]
        lines.append(line(name, channels, modules, reach))

    add("asymmetric block", width, [model.context], BLOCK)
    for level, stride in enumerate(STRIDES):
        own = width * 2 ** (level + 1)
        down = list(model.down)[level]
        add(f"down {level + 1}: asymmetric block", own, [down.block], BLOCK)
        text = "x".join(map(str, stride))
        add(f"down {level + 1}: 3x3x3, stride {text}", own, [down.pool], POOL)
        for axis in range(3):
            cell[axis] *= stride[axis]
    add("asymmetric block at the bottom", 16 * width, [model.bottom], BLOCK)
    for number, stride in enumerate(reversed(STRIDES)):
        for axis in range(3):
            cell[axis] //= stride[axis]
        level = len(STRIDES) - number - 1
        own = width * 2 ** max(level, 1)
        name = f"up {level + 1}: inverse 3x3x3, 1x3x3, 3x1x3"
        add(name, own, [list(model.up)[number]], UP)
    add("gates 3x1x1, 1x3x1, 1x1x3, beside their input", 4 * width, [model.gates], GATE)
    lines.append(line("point-wise refinement", config.point_channels, [model.refine], reach))
    total = sum(p.numel() for p in model.parameters())
    lines.append(["all", "", f"{total:,}", "", ""])
    header = ["block", "channels", "parameters", "cells (rho, phi, z)", "metres at 20 m"]
    return aligned(header, lines)


def line(name: str, channels: int, modules: list, reach: list[int]) -> list[str]:
    """One line of the table."""
    parameters = sum(p.numel() for module in modules for p in module.parameters())
    sides = [2 * each + 1 for each in reach]
    config = ModelConfig()
    low, high, bottom, top = config.cylinder_range_m
    rho, phi, z = config.cylinder_grid
    sizes = [(high - low) / rho, RANGE_M * 2 * math.pi / phi, (top - bottom) / z]
    metres = [f"{side * size:.1f}" for side, size in zip(sides, sizes, strict=True)]
    return [name, str(channels), f"{parameters:,}", str(tuple(sides)), " x ".join(metres)]


if __name__ == "__main__":
    print(table(ModelConfig(lidar_backbone="cylinder3d")))
