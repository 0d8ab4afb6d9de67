"""A frame's image, calibration and voxels as they are stored."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.config.data import PrepareConfig
from pipeline.data.prepare.index import scan
from pipeline.data.prepare.rows import encode_png, make_row, stored_image
from pipeline.data.schema import ROW
from pipeline.datasets.anovox.dataset import labelled_frame
from pipeline.datasets.anovox.frame import Frame, read_frame
from pipeline.datasets.anovox.geometry import CAMERA_FROM_LIDAR_SAME_POSE, voxel_indices
from pipeline.datasets.anovox.label_rules import BY_IDS
from pipeline.datasets.anovox.labels import truth
from pipeline.datasets.protocol.geometry import intrinsics, project


def decode_png(content: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(content)))


SHIFT = np.array([0.0, 0.0, -1.8])


def config(width: int, crop: tuple[float, float] = (0.0, 1.0)) -> PrepareConfig:
    return PrepareConfig(image_width=width, image_crop=list(crop))


def picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_at_full_width_the_image_is_stored_bit_for_bit():
    image, k = picture(16, 24), intrinsics(24, 16, 90.0)
    stored, stored_k = stored_image(image, k, config(24))
    assert np.array_equal(stored, image)
    assert np.array_equal(stored_k, k)


def test_at_half_width_each_pixel_is_the_mean_of_four():
    """Within 1: the filter rounds once per axis."""
    image = picture(16, 24)
    stored, k = stored_image(image, intrinsics(24, 16, 90.0), config(12))
    mean = image.reshape(8, 2, 12, 2, 3).mean(axis=(1, 3))
    assert np.abs(stored - mean).max() <= 1
    np.testing.assert_allclose(k, [6.0, 6.0, 6.0, 4.0])


def test_a_point_falls_on_the_same_thing_at_half_size():
    """By hand: f 384, c (384, 256); 10 m ahead, 2 m right, 1 m down is pixel (460.8, 294.4)."""
    k = intrinsics(768, 512, 90.0)
    point = np.array([[10.0, -2.0, -1.0, 1.0]], dtype=np.float32)
    uv, _ = project(point, k, CAMERA_FROM_LIDAR_SAME_POSE)
    np.testing.assert_allclose(uv, [[460.8, 294.4]])
    image = np.zeros((512, 768, 3), dtype=np.uint8)
    image[294, 460] = image[295, 461] = image[294, 461] = image[295, 460] = 255
    stored, half_k = stored_image(image, k, config(384))
    (half_uv,), _ = project(point, half_k, CAMERA_FROM_LIDAR_SAME_POSE)
    np.testing.assert_allclose(half_uv, [230.4, 147.2])
    assert stored[147, 230].tolist() == [255] * 3
    assert stored.sum() == 255 * 3


def test_a_crop_takes_rows_off_the_image_and_off_cy():
    image = picture(16, 24)
    stored, k = stored_image(image, intrinsics(24, 16, 90.0), config(24, (0.25, 0.75)))
    assert np.array_equal(stored, image[4:12])
    np.testing.assert_allclose(k, [12.0, 12.0, 12.0, 4.0])


def test_odd_sizes_scale_each_axis_by_its_own_factor():
    stored, k = stored_image(picture(17, 24), intrinsics(24, 17, 90.0), config(10))
    assert stored.shape == (7, 10, 3)
    np.testing.assert_allclose(k, [12 * 10 / 24, 12 * 7 / 17, 5.0, 3.5])


def test_an_image_is_never_enlarged():
    with pytest.raises(ValueError, match=r"prepare\.image_width is 48 but the images are 24 px"):
        stored_image(picture(16, 24), intrinsics(24, 16, 90.0), config(48))


def test_a_crop_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"leaves no row of 16; widen it"):
        stored_image(picture(16, 24), intrinsics(24, 16, 90.0), config(24, (0.5, 0.51)))


def test_a_png_comes_back_as_it_was():
    label = np.random.default_rng(0).choice(np.array([0, 1, 255], np.uint8), (5, 7))
    assert np.array_equal(decode_png(encode_png(label)), label)


@pytest.fixture(scope="module")
def frame_and_row(tiny_root) -> tuple[Frame, dict]:
    scenes = scan(tiny_root).scenes.values()
    scene = next(scene for scene in scenes if scene.kind == "static")
    frame = read_frame(scene, scene.frame_ids[0])
    labels = truth(frame, BY_IDS, min_points=5, min_pixels=30)
    return frame, make_row(labelled_frame(frame, labels, scene), scene, config(96))


def test_a_row_has_exactly_the_columns_of_the_schema(frame_and_row):
    assert set(frame_and_row[1]) == set(ROW.names)


def test_every_point_of_a_scene_finds_its_voxel(frame_and_row):
    frame, row = frame_and_row
    cells, inside = voxel_indices(frame.exact_xyz, voxel_from_lidar=frame.voxel_from_lidar)
    assert np.array_equal(row["point_voxel"] >= 0, inside)
    assert np.array_equal(row["voxels"][row["point_voxel"][inside], :3], cells[inside])


def test_recorded_png_files_are_stored_unchanged(frame_and_row):
    frame, row = frame_and_row
    assert np.array_equal(decode_png(row["semantic"]), frame.semantic)
    assert decode_png(row["depth"]).shape == (*frame.semantic.shape, 3)


def test_point_counts_of_a_row_add_up(frame_and_row):
    _, row = frame_and_row
    labels = row["point_label"]
    assert row["num_points"] == len(labels)
    assert row["num_anomaly_points"] == (labels == 1).sum()
    assert row["num_ignored_points"] == (labels == 255).sum()
