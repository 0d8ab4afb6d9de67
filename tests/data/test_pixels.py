"""Labels of stored pixels: areas counted by hand, and the same areas as the stored image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.data import PrepareConfig
from pipeline.data.pixels import cell_balance, cell_labels, decode_label, stored_label
from pipeline.data.prepare.rows import encode_png, stored_image
from pipeline.datasets.protocol.geometry import intrinsics

HALF = PrepareConfig(image_width=4, image_crop=[0.0, 1.0])


def test_an_area_is_anomalous_by_half_and_normal_only_as_a_whole():
    recorded = np.array(
        [
            [0, 0, 1, 0, 1, 1, 255, 0],
            [0, 0, 0, 0, 0, 0, 0, 0],
            [1, 1, 1, 255, 255, 255, 1, 255],
            [1, 1, 1, 255, 255, 255, 255, 0],
        ],
        np.uint8,
    )
    assert stored_label(recorded, HALF).tolist() == [[0, 255, 1, 255], [1, 1, 255, 255]]


def test_the_crop_takes_the_same_rows_as_that_of_the_image():
    recorded = np.zeros((8, 8), np.uint8)
    recorded[4:6] = 1
    cropped = PrepareConfig(image_width=4, image_crop=[0.25, 0.75])
    assert stored_label(recorded, cropped).tolist() == [[0] * 4, [1] * 4]


def test_at_the_recorded_width_labels_are_those_recorded():
    recorded = np.random.default_rng(0).choice([0, 1, 255], (6, 4)).astype(np.uint8)
    found = stored_label(recorded, PrepareConfig(image_width=4, image_crop=[0.0, 0.5]))
    np.testing.assert_array_equal(found, recorded[:3])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.sampled_from([(0.0, 1.0), (0.2, 0.9)]))
def test_areas_are_those_of_the_stored_image_at_any_scale(width, seed, crop):
    """An image that shows the labels is reduced to each area's share of anomalous pixels."""
    recorded = np.random.default_rng(seed).choice([0, 1], (9, 12)).astype(np.uint8)
    prepare = PrepareConfig(image_width=width, image_crop=list(crop))
    shown = np.repeat(recorded[:, :, None] * 255, 3, axis=2)
    image, _ = stored_image(shown, intrinsics(12, 9, 90.0), prepare)
    label, share = stored_label(recorded, prepare), image[:, :, 0] / 255
    assert label.shape == share.shape
    assert (share[label == 1] > 0.49).all()
    assert (share[label == 255] < 0.51).all()
    assert (share[label == 0] < 0.01).all()


def test_what_preparing_stores_is_what_is_read():
    recorded = np.random.default_rng(1).choice([0, 1, 255], (4, 8)).astype(np.uint8)
    content = np.frombuffer(encode_png(recorded), np.uint8)
    found = decode_label(content, prepare=HALF, shape=(2, 4), place="a frame")
    np.testing.assert_array_equal(found, stored_label(recorded, HALF))


def test_damaged_labels_are_told_with_their_frame():
    content = np.frombuffer(encode_png(np.zeros((4, 8), np.uint8)), np.uint8)
    with pytest.raises(ValueError, match=r"pixel labels of a frame are damaged .*run jobs.prepare"):
        decode_label(content[:20], prepare=HALF, shape=(2, 4), place="a frame")
    with pytest.raises(ValueError, match=r"a frame have shape \(2, 4\) .* says \(3, 4\); delete"):
        decode_label(content, prepare=HALF, shape=(3, 4), place="a frame")


def test_a_cell_stands_for_the_pixels_around_its_own():
    label = torch.zeros(1, 8, 12, dtype=torch.uint8)
    label[0, 1, 5] = 1  # columns 2 to 5 belong to cell 1 of stride 4
    label[0, 2, 9] = 255
    label[0, 7, 11] = 255  # beyond the last cell's four pixels: nobody's
    assert cell_labels(label, stride=4)[0].tolist() == [[0, 1, 0], [0, 0, 255]]


def test_in_a_cell_anomalous_comes_before_ignored_and_ignored_before_normal():
    label = torch.tensor([[[0, 255], [1, 0]]], dtype=torch.uint8)
    assert cell_labels(label, stride=4).tolist() == [[[1]]]
    assert cell_labels(label[:, :1], stride=4).tolist() == [[[255]]]
    assert cell_labels(label[:, 1:, 1:], stride=4).tolist() == [[[0]]]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_cells_equal_a_loop_over_them(height, width, seed):
    draw = np.random.default_rng(seed)
    label = draw.choice([0, 1, 255], (height, width), p=[0.9, 0.05, 0.05]).astype(np.uint8)
    found = cell_labels(torch.from_numpy(label)[None], stride=8)[0].tolist()
    for i, row in enumerate(found):
        for j, cell in enumerate(row):
            area = label[max(0, 8 * i - 4) : 8 * i + 4, max(0, 8 * j - 4) : 8 * j + 4]
            assert cell == next(rank for rank in (1, 255, 0) if (area == rank).any())
    assert (len(found), len(found[0])) == (-(-height // 8), -(-width // 8))


def test_the_balance_counts_cells_and_leaves_ignored_ones_out():
    label = np.zeros((4, 12), np.uint8)
    label[0, 5], label[0, 9] = 1, 255
    balance = cell_balance([label, label * 0], stride=4)
    assert (balance.prior, balance.pos_weight) == (1 / 5, 4.0)


def test_images_without_an_anomalous_cell_cannot_be_trained_on():
    with pytest.raises(ValueError, match=r"first 2 frames .* hold 0 anomalous and 6 normal cells"):
        cell_balance([np.zeros((4, 12), np.uint8)] * 2, stride=4)
