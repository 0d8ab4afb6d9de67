"""Attention of ragged queries against the formula written out, and the encodings it compares."""

import math

import pytest
import torch

from pipeline.models.fusion.attention import Attention
from pipeline.models.fusion.encoding import PositionalEncoding, waves

FRAME = torch.tensor([0, 0, 0, 2, 2])


def inputs(width: int = 8):
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(5, width, generator=generator),
        torch.randn(3, 6, width, generator=generator),
        torch.randn(3, 6, width, generator=generator),
    )


@pytest.mark.parametrize("num_heads", [1, 4, 8])
def test_every_query_takes_from_its_own_frames_tokens(num_heads: int):
    torch.manual_seed(0)
    model, (queries, keys, values) = Attention(8, num_heads=num_heads), inputs()
    size = 8 // num_heads
    expected = []
    for query, frame in zip(model.query(queries), FRAME, strict=True):
        key, value = model.key(keys[frame]), model.value(values[frame])
        heads = [slice(h * size, (h + 1) * size) for h in range(num_heads)]
        shares = [(key[:, h] @ query[h] / math.sqrt(size)).softmax(0) for h in heads]
        expected.append(torch.cat([s @ value[:, h] for s, h in zip(shares, heads, strict=True)]))
    found = model(queries, FRAME, keys, values)
    torch.testing.assert_close(found, model.out(torch.stack(expected)))


def test_frames_without_queries_and_batches_without_any_are_fine():
    model, (queries, keys, values) = Attention(8, num_heads=2), inputs()
    nothing = model(queries[:0], FRAME[:0], keys, values)
    assert nothing.shape == (0, 8)
    nothing.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_sines_have_wavelengths_from_four_down_to_the_ratio():
    place = torch.tensor([[0.3, -0.5]])
    found = waves(place, 9, ratio=32.0)
    expected = [
        fn(2 * math.pi / 4 * x * ratio)
        for x in (0.3, -0.5)
        for fn in (math.sin, math.cos)
        for ratio in (1, 32)
    ]
    torch.testing.assert_close(found, torch.tensor([[*expected, 0.0]]))


@pytest.mark.parametrize(
    ("kind", "num_parameters"), [("none", 0), ("sincos", 0), ("learned", 96), ("hybrid", 96)]
)
def test_only_learned_encodings_own_parameters(kind, num_parameters: int):
    model = PositionalEncoding(kind, 8, num_axes=2, ratio=32.0)
    assert sum(p.numel() for p in model.parameters()) == num_parameters


def test_the_hybrid_encoding_is_the_sum_and_none_is_zero():
    torch.manual_seed(0)
    hybrid, place = PositionalEncoding("hybrid", 8, num_axes=3, ratio=9.0), torch.rand(4, 3)
    assert hybrid.learned is not None
    expected = waves(place, 8, ratio=9.0) + hybrid.learned(place)
    torch.testing.assert_close(hybrid(place), expected)
    assert not PositionalEncoding("none", 8, num_axes=3, ratio=9.0)(place).any()
