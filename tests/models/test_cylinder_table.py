"""docs/cylinder3d.md says what the network is: its table comes from the code, its reach is real."""

import pytest
import torch
from torch import nn

from benchmarks.layers import table
from pipeline.config.model import ModelConfig
from pipeline.models.cylinder import STRIDES, Cylinder3D
from pipeline.models.cylinder_blocks import Geometry, geometry_of
from pipeline.models.sparse.norm import FrameNorm
from pipeline.models.sparse.voxels import Triple, sparse_voxels
from tests.helpers.repository import REPOSITORY

DOCS = REPOSITORY / "docs" / "cylinder3d.md"
LENGTH = 321
REACH = {"rho": 157, "phi": 157, "z": 155}
"""Sides of the receptive field in finest cells, as the table's last lines say."""
COARSEST = 16
"""Finest cells of a coarsest one: how far an output sees depends on its place in that."""


class NoNorm(nn.Module):
    """In place of a norm, which sees all cells of a frame at once."""

    def forward(self, features: torch.Tensor, frame_sizes: object) -> torch.Tensor:
        return features


def test_the_table_is_what_its_command_prints() -> None:
    printed = table(ModelConfig(lidar_backbone="cylinder3d"))
    assert printed in DOCS.read_text()
    assert str(tuple(REACH.values())) in printed


@pytest.mark.parametrize("axis", range(3), ids=list(REACH))
def test_an_output_is_reached_from_as_many_cells_as_the_table_says(axis: int) -> None:
    model, geometry = _line_of_cells(axis)
    x = torch.rand(LENGTH, 4, requires_grad=True)
    features = model._network(x, geometry)
    before, after = 0, 0
    for output in range(COARSEST * 10, COARSEST * 11):
        (gradient,) = torch.autograd.grad(features[output].sum(), x, retain_graph=True)
        reached = gradient.abs().sum(1).nonzero().flatten()
        before = max(before, output - int(reached.min()))
        after = max(after, int(reached.max()) - output)
    assert before == after
    assert before + 1 + after == list(REACH.values())[axis]


def _line_of_cells(axis: int) -> tuple[Cylinder3D, Geometry]:
    """A narrow network and a frame whose cells fill a line along one axis.

    Without norms, and with weights above 0: then no sum cancels and no unit is turned off.
    """
    shape: Triple = (LENGTH, 1, 1) if axis == 0 else (1, LENGTH, 1) if axis == 1 else (1, 1, LENGTH)
    config = ModelConfig(
        lidar_backbone="cylinder3d", cylinder_grid=list(shape), cylinder_channels=4
    )
    model = Cylinder3D(config, has_time=False)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, FrameNorm):
                setattr(module, name, NoNorm())
    for weights in model.parameters():
        nn.init.constant_(weights, 0.01)
    cells = torch.zeros(LENGTH, 3, dtype=torch.long)
    cells[:, axis] = torch.arange(LENGTH)
    voxels, _ = sparse_voxels(
        torch.zeros(LENGTH, dtype=torch.long), cells, shape=shape, num_frames=1
    )
    return model, geometry_of(voxels, STRIDES)
