"""Sparse against torch's dense convolution, forward and all gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from pipeline.models.sparse import convolution
from pipeline.models.sparse.convolution import SparseConv
from pipeline.models.sparse.neighbours import strided, submanifold
from pipeline.models.sparse.voxels import coarsen, sparse_voxels
from tests.helpers.occupied import at_voxels, dense_weight, random_voxels, to_dense

KERNELS = [(3, 3, 3), (1, 3, 3), (3, 1, 3), (3, 1, 1), (1, 3, 1), (1, 1, 3)]
SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7))
SHARES = st.sampled_from([0.0, 0.02, 0.3, 1.0])
STRIDES = st.sampled_from([(2, 2, 2), (2, 2, 1), (1, 2, 3), (3, 1, 1)])
CASES = settings(max_examples=60, deadline=None)


def layer(kernel, in_channels=3, out_channels=4):
    torch.manual_seed(sum(kernel))
    return SparseConv(in_channels, out_channels, kernel=kernel, bias=True)


def inputs(voxels, channels=3):
    torch.manual_seed(len(voxels.keys))
    return torch.randn(len(voxels.keys), channels, requires_grad=True)


def gradients(out, features, conv):
    """Of a sum with weights that differ everywhere, by features, weight and bias."""
    rows = torch.sin(torch.arange(out.numel(), dtype=out.dtype)).view_as(out).to(out.device)
    inputs = (features, conv.weight, conv.bias)
    return torch.autograd.grad((out * rows).sum(), inputs)


def same(conv, features, table, expected):
    """The layer equals `expected`, and so do its gradients."""
    out = conv(features, table)
    close(out, expected)
    for ours, theirs in zip(
        gradients(out, features, conv), gradients(expected, features, conv), strict=True
    ):
        close(ours, theirs)


def close(ours, theirs):
    """Up to 1e-5 of the largest value: a sum whose terms cancel keeps the error of its terms."""
    largest = theirs.abs().max().item() if theirs.numel() else 0.0
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * max(1.0, largest))


def dense(conv, features, voxels, stride=(1, 1, 1)):
    """torch's conv3d on the grid with zeros in empty cells."""
    padding = tuple(side // 2 for side in conv.kernel)
    weight = dense_weight(conv.weight, conv.kernel)
    return F.conv3d(to_dense(features, voxels), weight, conv.bias, stride=stride, padding=padding)


@pytest.mark.parametrize("kernel", KERNELS)
@CASES
@given(shape=SHAPES, num_frames=st.integers(1, 3), share=SHARES, seed=st.integers(0, 99))
def test_submanifold_equals_dense_on_occupied_cells(kernel, shape, num_frames, share, seed):
    voxels, conv = random_voxels(shape, num_frames, share, seed), layer(kernel)
    features = inputs(voxels)
    expected = at_voxels(dense(conv, features, voxels), voxels)
    same(conv, features, submanifold(voxels), expected)


@pytest.mark.parametrize("kernel", KERNELS)
@CASES
@given(shape=SHAPES, stride=STRIDES, share=SHARES, seed=st.integers(0, 99))
def test_strided_equals_dense_on_coarse_cells(kernel, shape, stride, share, seed):
    voxels, conv = random_voxels(shape, 2, share, seed), layer(kernel)
    coarse, features = coarsen(voxels, stride), inputs(voxels)
    expected = at_voxels(dense(conv, features, voxels, stride), coarse)
    same(conv, features, strided(voxels, coarse, stride), expected)


@pytest.mark.parametrize("kernel", KERNELS)
@CASES
@given(shape=SHAPES, stride=STRIDES, share=SHARES, seed=st.integers(0, 99))
def test_inverse_equals_the_dense_transposed_convolution(kernel, shape, stride, share, seed):
    voxels, conv = random_voxels(shape, 2, share, seed), layer(kernel)
    coarse = coarsen(voxels, stride)
    features = inputs(coarse)
    whole = F.conv_transpose3d(
        to_dense(features, coarse),
        dense_weight(conv.weight, kernel).transpose(0, 1),
        conv.bias,
        stride=stride,
        padding=tuple(side // 2 for side in kernel),
        output_padding=tuple(
            n - (c - 1) * s - 1 for n, c, s in zip(voxels.shape, coarse.shape, stride, strict=True)
        ),
    )
    same(conv, features, strided(voxels, coarse, stride).reversed(), at_voxels(whole, voxels))


def test_gradients_are_exact_in_double_precision():
    voxels = random_voxels((4, 4, 3), 2, 0.4, 2)
    table, features = submanifold(voxels), inputs(voxels).double()
    conv = layer((3, 3, 3)).double()
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(conv, {"weight": w}, (x, table)),
        (features.detach().requires_grad_(), conv.weight),
    )


def test_an_input_that_needs_no_gradient_gets_none():
    voxels, conv = random_voxels((3, 3, 3), 1, 0.5, 0), layer((3, 3, 3))
    features = inputs(voxels).detach()
    conv(features, submanifold(voxels)).sum().backward()
    assert features.grad is None
    assert conv.weight.grad is not None


def test_it_computes_in_full_precision_under_autocast():
    voxels, conv = random_voxels((4, 4, 4), 1, 0.5, 0), layer((3, 3, 3))
    features, table = inputs(voxels), submanifold(voxels)
    plain = conv(features, table)
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(features, table)
        gradients(out, features, conv)
    assert torch.equal(out, plain)


def test_frames_do_not_meet():
    """Neighbouring keys at the end of one frame and the start of the next are no neighbours."""
    shape, frame = (2, 2, 2), torch.tensor([0, 1])
    voxels, _ = sparse_voxels(
        frame, torch.tensor([[1, 1, 1], [0, 0, 0]]), shape=shape, num_frames=2
    )
    pairs = submanifold(voxels).pairs
    assert sum(len(of) for of, _ in pairs) == 2


def test_what_is_kept_for_backward_grows_with_occupied_cells_not_with_the_grid():
    def kept(side):
        cells = torch.arange(10).repeat(3, 1).T
        voxels, _ = sparse_voxels(
            torch.zeros(10, dtype=torch.int64), cells, shape=(side,) * 3, num_frames=1
        )
        table, features = submanifold(voxels), torch.ones(10, 3, requires_grad=True)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
            layer((3, 3, 3))(features, table)
        return sum(x.numel() for x in saved) + sum(len(of) + len(to) for of, to in table.pairs)

    assert kept(10) == kept(100_000) == 10 * 3 + 27 * 3 * 4 + 2 * (10 + 9 + 9)


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_gpu_computes_what_a_cpu_computes(kernel):
    def run(device):
        voxels, conv = random_voxels((9, 8, 7), 2, 0.3, 0), layer(kernel).to(device)
        features = inputs(voxels).detach().to(device).requires_grad_()
        cells = voxels.cells().to(device)
        voxels, _ = sparse_voxels(cells[:, 0], cells[:, 1:], shape=(9, 8, 7), num_frames=2)
        coarse = coarsen(voxels, (2, 2, 1))
        down = conv(features, strided(voxels, coarse, (2, 2, 1)))
        up = conv(down[:, :3], strided(voxels, coarse, (2, 2, 1)).reversed())
        out = up + conv(features, submanifold(voxels))
        grads = gradients(out, features, conv)
        return [x.cpu() for x in (out, *grads)]

    for ours, theirs in zip(run("cuda"), run("cpu"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_wide_features_are_multiplied_together_to_the_same_result(kernel, monkeypatch):
    """Forward to the bit, as every product and every sum is the same one."""
    voxels = random_voxels((6, 5, 4), num_frames=2, share=0.4, seed=3)
    conv, features = layer(kernel, 16, 32), inputs(voxels, 16)
    together = conv(features, submanifold(voxels))
    monkeypatch.setattr(convolution, "ALIGNED", 1024)
    one_by_one = conv(features, submanifold(voxels))
    assert torch.equal(together, one_by_one)
    for ours, theirs in zip(
        gradients(together, features, conv), gradients(one_by_one, features, conv), strict=True
    ):
        close(ours, theirs)


def test_wide_features_of_a_frame_do_not_depend_on_how_many_voxels_its_companion_has():
    alone = random_voxels((6, 5, 4), num_frames=1, share=0.4, seed=3)
    num = len(alone.keys)
    both = [random_voxels((6, 5, 4), num_frames=2, share=0.4, seed=seed) for seed in (2, 4, 6)]
    conv = layer((3, 3, 3), 16, 16)
    for other in both:
        own = alone.cells()
        cells = torch.cat([own, other.cells()[other.cells()[:, 0] == 1]])
        joined, _ = sparse_voxels(cells[:, 0], cells[:, 1:], shape=(6, 5, 4), num_frames=2)
        features = torch.cat([inputs(alone, 16), torch.randn(len(cells) - num, 16)])
        found = conv(features, submanifold(joined))[:num]
        assert torch.equal(found, conv(inputs(alone, 16), submanifold(alone)))
