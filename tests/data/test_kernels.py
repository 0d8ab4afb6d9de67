"""Compiled loops give what NumPy gives, bit for bit."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.config.data import AugmentConfig
from pipeline.data.frames import outside_box
from pipeline.data.grey_levels import _line_of, change_greys, grey_table
from pipeline.data.point_rows import copy_outside
from pipeline.data.prepare.halving import halved
from pipeline.data.transforms.augment import MAX_BRIGHTNESS, MAX_CONTRAST, Augmentation, draw
from pipeline.data.transforms.raw_numbers import random_raw


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**128 - 1), max_size=3), st.integers(0, 9))
def test_raw_numbers_are_those_of_numpys_generator(seeds, num):
    words = np.frombuffer(b"".join(seed.to_bytes(16, "little") for seed in seeds), "<u4")
    expected = [np.random.PCG64(seed).random_raw(num).tolist() for seed in seeds]
    assert random_raw(words.reshape(-1, 4), num).tolist() == expected


@settings(deadline=None)
@given(st.integers(0, 9), st.integers(0, 99), st.text(max_size=9), st.floats(0, 0.9))
def test_an_augmentation_is_what_numpys_own_methods_draw(seed, epoch, scene, share):
    key = ("archive", scene, 995, "pose")
    config = AugmentConfig(rotation_rad=2 * share, scale=share, point_dropout=share)
    text = "\n".join(str(part) for part in (seed, epoch, *key))
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "little"))
    assert draw(seed=seed, epoch=epoch, key=key, config=config) == Augmentation(
        flip=bool(rng.integers(2)),
        brightness=float(rng.uniform(-MAX_BRIGHTNESS, MAX_BRIGHTNESS)),
        contrast=float(rng.uniform(1 - MAX_CONTRAST, 1 + MAX_CONTRAST)),
        rotation_rad=float(rng.uniform(-2 * share, 2 * share)),
        scale=float(rng.uniform(1 - share, 1 + share)),
        point_dropout=float(rng.uniform(0, share)),
        dropout_seed=int(rng.integers(2**63)),
    )


def numpys_table(contrast, brightness):
    levels = (np.arange(256) - 127.5) * contrast + 127.5 + brightness
    return np.rint(levels).clip(0, 255).astype(np.uint8)


SMALL = st.floats(-30, 30)
TIED = st.sampled_from([0.5, -0.5, 1.5, 255.5, 0.0])
"""Shifts under which, at contrast 1, every level lies between two: no line rounds as NumPy does."""


@settings(deadline=None, max_examples=400)
@given(st.floats(0.7, 1.3) | st.sampled_from([0.0, 0.5, 1.0]), SMALL | TIED)
def test_a_grey_table_is_what_numpy_computes(contrast, brightness):
    found = grey_table(contrast=contrast, brightness=brightness)
    assert found.tolist() == numpys_table(contrast, brightness).tolist()


@settings(deadline=None)
@given(
    st.tuples(st.integers(0, 5), st.integers(0, 70)),
    st.floats(0.75, 1.25) | st.just(1.0),
    SMALL | TIED,
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_greys_change_as_by_numpys_indexing(size, contrast, brightness, flip, contiguous, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    if not contiguous:
        image = np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0)
    found = np.empty((*size, 3), np.uint8)
    change_greys(image, contrast=contrast, brightness=brightness, flip=flip, out=found)
    table = numpys_table(contrast, brightness)
    assert np.array_equal(found, table[image[:, ::-1] if flip else image])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("brightness", [0.0, 0.5])
def test_greys_change_alike_with_and_without_a_line_to_follow(brightness, flip):
    table = numpys_table(1.0, brightness)
    assert bool(_line_of(1.0, brightness, table)[0]) == (brightness == 0)
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(4, 64, 3)
    found = np.empty(image.shape, np.uint8)
    change_greys(image, contrast=1.0, brightness=brightness, flip=flip, out=found)
    assert np.array_equal(found, table[image[:, ::-1] if flip else image])


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(0, 7), st.integers(0, 2**31))
def test_half_an_image_is_that_of_pillows_box_filter(height, more, seed):
    width = height + more
    image = np.random.default_rng(seed).integers(0, 256, (2 * height, 2 * width, 3), dtype=np.uint8)
    by_pillow = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
    assert np.array_equal(halved(image), np.asarray(by_pillow))


@pytest.mark.parametrize("kind", [np.float32, np.int16])
@settings(deadline=None)
@given(st.integers(0, 40), st.booleans(), st.integers(0, 99))
def test_points_outside_a_box_are_those_that_numpy_finds(kind, num_points, mirrored, seed):
    rng = np.random.default_rng(seed)
    points = (rng.normal(size=(num_points, 4)) * (3 if kind == np.float32 else 300)).astype(kind)
    points[rng.random(points.shape) < 0.1] = 0
    if kind == np.float32:
        points[rng.random(points.shape) < 0.05] = np.nan
        points[rng.random(points.shape) < 0.05] = -0.0
    units = np.array([1, -1, 1, 1] if mirrored else [1, 1, 1, 1], np.float32)
    if kind == np.int16:
        units *= np.array([0.01, 0.01, 0.01, 1 / 32767], np.float32)
    labels = rng.integers(0, 256, (2, num_points), dtype=np.uint8)
    out, out_labels = np.empty((num_points, 4), np.float32), np.empty((2, num_points), np.uint8)
    count = copy_outside(
        points,
        tuple(labels),
        units=units,
        half_size_m=(2.6, 1.1),
        out=out,
        out_of_points=tuple(out_labels),
    )
    metres = points * units
    keep = outside_box(metres, (2.6, 1.1))
    assert count == keep.sum()
    assert np.array_equal(out[:count], metres[keep], equal_nan=True)
    assert np.array_equal(np.signbit(out[:count]), np.signbit(metres[keep]))
    assert np.array_equal(out_labels[:, :count], labels[:, keep])
