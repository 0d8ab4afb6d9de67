import torch
from torch import nn

from pipeline.models.layers import group_norm
from pipeline.models.sparse.norm import FrameNorm
from tests.helpers.occupied import at_voxels, random_voxels, to_dense


def norm(num_channels=32):
    torch.manual_seed(0)
    layer = FrameNorm(num_channels)
    nn.init.normal_(layer.norm.weight)
    nn.init.normal_(layer.norm.bias)
    return layer


def dense_norm(layer, num_channels=32):
    dense = group_norm(num_channels)
    dense.load_state_dict(layer.norm.state_dict())
    return dense


def test_it_equals_groupnorm_where_every_cell_is_occupied():
    layer, voxels = norm(), random_voxels((3, 4, 5), 3, 1.0, 0)
    dense = dense_norm(layer)
    ours = (10 + 5 * torch.randn(len(voxels.keys), 32)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    out = layer(ours, voxels.frame_sizes())
    expected = at_voxels(dense(to_dense(theirs, voxels)), voxels)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    weights = torch.sin(torch.arange(out.numel())).view_as(out)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    for one, other in zip(layer.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_empty_cells_do_not_count():
    """Mean 0 and variance 1 over a frame's own voxels and a group's channels."""
    layer, voxels = FrameNorm(32), random_voxels((9, 9, 9), 1, 0.2, 0)
    out = layer(3 + torch.randn(len(voxels.keys), 32), voxels.frame_sizes())
    for group in out.split(16, dim=1):
        torch.testing.assert_close(group.mean(), torch.tensor(0.0), rtol=0, atol=1e-5)
        torch.testing.assert_close(group.var(), torch.tensor(1.0), rtol=0, atol=1e-2)


def test_a_frame_does_not_see_its_companions():
    layer, x = norm(), torch.randn(50, 32)
    ours = layer(x, [20, 0, 30])
    theirs = layer(torch.cat([x[:20], 7 * x[20:25]]), [20, 5, 0])
    assert torch.equal(ours[:20], theirs[:20])


def test_no_voxels_and_single_voxels_are_normalised_too():
    layer = norm()
    assert layer(torch.zeros(0, 32), [0, 0]).shape == (0, 32)
    assert layer(torch.randn(2, 32), [1, 1]).isfinite().all()
