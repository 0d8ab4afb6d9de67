"""spconv's kernels against ours: forward on any machine, gradients where there is a GPU."""

import sys

import pytest
import torch

from pipeline.config.load import override
from pipeline.config.schema import Config
from pipeline.models.detector import build_detector
from pipeline.models.sparse.convolution import SparseConv
from pipeline.models.sparse.neighbours import Neighbours, strided, submanifold
from pipeline.models.sparse.spconv_backend import use_spconv
from pipeline.models.sparse.voxels import SparseVoxels, coarsen
from tests.helpers.occupied import random_voxels
from tests.helpers.streets import street_batch

KERNELS = [(3, 3, 3), (1, 3, 3), (3, 1, 3), (3, 1, 1), (1, 3, 1), (1, 1, 3)]
STRIDE = (2, 2, 1)
KINDS = ("submanifold", "strided", "inverse")
CYLINDER = ("model.lidar_backbone=cylinder3d", "model.cylinder_grid=[24,24,8]")


def table_of(kind: str, fine: SparseVoxels) -> Neighbours:
    if kind == "submanifold":
        return submanifold(fine)
    table = strided(fine, coarsen(fine, STRIDE), STRIDE)
    return table if kind == "strided" else table.reversed()


def both(kernel, table: Neighbours, device: str = "cpu"):
    """Our layer, the same with spconv, and features for them."""
    torch.manual_seed(0)
    ours, theirs = (SparseConv(8, 16, kernel=kernel, bias=True).to(device) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    assert use_spconv(theirs) == 1
    features = torch.randn(table.num_inputs, 8, device=device, requires_grad=True)
    return ours, theirs, features


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.6])
def test_the_forward_pass_is_the_same(kernel, kind, share):
    table = table_of(kind, random_voxels((9, 8, 7), 2, share, seed=4))
    ours, theirs, features = both(kernel, table)
    torch.testing.assert_close(theirs(features, table), ours(features, table), rtol=1e-5, atol=1e-5)


def test_a_whole_cylinder3d_scores_the_same():
    torch.manual_seed(0)
    model = build_detector(override(Config(), CYLINDER).model, prior=0.01).eval()
    with torch.no_grad():
        ours = model(street_batch())
        assert use_spconv(model) > 20
        theirs = model(street_batch())
    torch.testing.assert_close(theirs.point_score, ours.point_score, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_knows_nothing_of_the_backend():
    model = build_detector(override(Config(), CYLINDER).model, prior=0.01)
    names = list(model.state_dict())
    use_spconv(model)
    assert list(model.state_dict()) == names


def test_a_machine_without_the_package_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "spconv.pytorch", None)
    with pytest.raises(ValueError, match=r"needs the package spconv .*install .* spconv-cu126"):
        use_spconv(torch.nn.Linear(1, 1))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_are_the_same_on_a_gpu(kernel, kind):
    cells = random_voxels((9, 8, 7), 2, 0.3, seed=4)
    voxels = SparseVoxels(keys=cells.keys.cuda(), shape=cells.shape, num_frames=cells.num_frames)
    table = table_of(kind, voxels)
    ours, theirs, features = both(kernel, table, "cuda")
    found = [
        torch.autograd.grad(layer(features, table).square().sum(), [features, *layer.parameters()])
        for layer in (ours, theirs)
    ]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)
