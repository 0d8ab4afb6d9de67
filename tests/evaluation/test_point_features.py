"""Plain features against brute force, and what a sample keeps."""

import dataclasses

import numpy as np
import pytest

from pipeline.evaluation.point_features import (
    FEATURES,
    column_height,
    num_points_in_cells,
    point_features,
    sample_points,
)
from pipeline.metrics.frame_view import FrameView, frame_views


@pytest.fixture(scope="module")
def split(make_split):
    return make_split(num_scenes=2, frames_per_scene=2, num_points=400, seed=0)


@pytest.fixture(scope="module")
def view(split) -> FrameView:
    return next(frame_views(split.batch([1])))


def column(features: np.ndarray, name: str) -> np.ndarray:
    return features[:, FEATURES.index(name)]


def test_counts_in_a_cell_equal_brute_force(view):
    # Crowded enough that many cells hold several points, on both sides of zero.
    for xyz in (view.points[:, :3], view.points[:, :3] / 10):
        for size, found in zip((0.5, 1.0), num_points_in_cells(xyz), strict=True):
            cells = np.floor(xyz / np.float32(size))
            expected = (cells[:, None] == cells[None]).all(axis=2).sum(axis=1)
            np.testing.assert_array_equal(found, expected)
        assert expected.max() > 1


def test_column_heights_equal_brute_force(view):
    xyz = view.points[:, :3]
    columns = np.floor(xyz[:, :2] / np.float32(0.5))
    same = (columns[:, None] == columns[None]).all(axis=2)
    expected = [xyz[own, 2].max() - xyz[own, 2].min() for own in same]
    np.testing.assert_allclose(column_height(xyz), expected)


def test_place_features_are_what_they_are_called(view):
    features = point_features(view, frame_index=7)
    x, y, z, intensity = view.points.T
    assert features.shape == (len(x), len(FEATURES))
    for name, expected in [
        ("x_m", x),
        ("abs_y_m", np.abs(y)),
        ("z_m", z),
        ("range_m", np.sqrt(x**2 + y**2 + z**2)),
        ("intensity", intensity),
        ("frame_index", np.full(len(x), 7)),
    ]:
        np.testing.assert_allclose(column(features, name), expected, rtol=1e-5)


def test_colour_is_read_at_the_projection_and_nan_out_of_view(view):
    red = np.zeros_like(view.image)
    red[0] = 200
    features = point_features(dataclasses.replace(view, image=red), frame_index=0)
    seen = view.in_view
    assert 0 < seen.sum() < len(seen)
    for name, value in [("red", 200), ("green", 0), ("brightness", 200 / 3), ("saturation", 1)]:
        np.testing.assert_allclose(column(features, name)[seen], value, rtol=1e-5)
        assert np.isnan(column(features, name)[~seen]).all()
    np.testing.assert_allclose(
        column(features, "image_row_px")[seen], view.pixel[seen, 1], rtol=1e-5
    )


def test_the_pixel_under_a_point_is_the_one_that_covers_its_projection(view):
    image = np.zeros_like(view.image)
    point = np.flatnonzero(view.in_view)[0]
    u, v = view.pixel[point]
    image[:, int(v), int(u)] = (10, 20, 30)
    features = point_features(dataclasses.replace(view, image=image), frame_index=0)
    colours = [column(features, name)[point] for name in ("red", "green", "blue")]
    assert colours == [10, 20, 30]


def test_features_do_not_depend_on_the_order_of_points(view):
    order = np.random.default_rng(0).permutation(len(view.points))
    names = ("points", "point_class", "point_label", "pixel", "in_view")
    shuffled = dataclasses.replace(view, **{name: getattr(view, name)[order] for name in names})
    np.testing.assert_array_equal(
        point_features(shuffled, frame_index=0), point_features(view, frame_index=0)[order]
    )


def test_a_frame_without_points_has_no_features(make_split):
    empty = make_split(num_scenes=2, frames_per_scene=1, num_points=0, seed=0)
    (view,) = frame_views(empty.batch([1]))
    assert point_features(view, frame_index=0).shape == (0, len(FEATURES))


def test_a_sample_keeps_all_anomalous_and_small_points_and_weighs_the_others(split):
    batches = [split.batch([0, 1]), split.batch([2, 3])]
    sample = sample_points(batches, split.index, lookalike_classes=[20], keep=0.25, seed=0)
    classes = np.concatenate([classes for _, classes in split.frames])
    assert int((sample.label == 1).sum()) == int((classes == 29).sum())
    assert int(sample.is_near.sum()) == int((classes == 20).sum())
    assert set(sample.label.tolist()) == {0, 1}  # ignored points are left out
    others = ~sample.is_near & (sample.label == 0)
    assert set(sample.weight[others].tolist()) == {4.0}
    assert set(sample.weight[~others].tolist()) == {1.0}
    assert sample.weight.sum() == pytest.approx(int((classes != 114).sum()), rel=0.1)


def test_a_sample_knows_the_frame_index_and_repeats_with_the_seed(split):
    def drawn(seed: int) -> np.ndarray:
        batches = [split.batch([2, 1])]
        sample = sample_points(batches, split.index, lookalike_classes=[20], keep=0.5, seed=seed)
        return sample.features

    assert set(column(drawn(0), "frame_index").tolist()) == {0, 1}
    np.testing.assert_array_equal(drawn(0), drawn(0))
    assert drawn(0).shape != drawn(1).shape
