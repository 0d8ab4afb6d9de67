"""Augmentation moves image, cloud and calibration together and is a function of seed and frame."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.config.data import AugmentConfig
from pipeline.data.transforms.augment import (
    Augmentation,
    change_calibration,
    change_calibrations,
    change_image,
    change_points,
    draw,
    draw_all,
    kept_points,
)
from pipeline.datasets.anovox.geometry import CAMERA_FROM_LIDAR_SAME_POSE
from pipeline.datasets.protocol.geometry import intrinsics, project

KEY = ("AnoVox_Static_Mono_Town03", "0a", 995, "(0, 0, 1.8)(0, 0, 0)")
NOTHING = Augmentation(
    flip=False,
    brightness=0.0,
    contrast=1.0,
    rotation_rad=0.0,
    scale=1.0,
    point_dropout=0.0,
    dropout_seed=0,
)
FLIP = replace(NOTHING, flip=True)
OFF = AugmentConfig()
ALL = AugmentConfig(rotation_rad=0.7, scale=0.2, point_dropout=0.5)


def test_a_draw_is_fixed_by_seed_epoch_and_key():
    assert draw(seed=1, epoch=2, key=KEY, config=ALL) == draw(seed=1, epoch=2, key=KEY, config=ALL)
    others = [
        draw(seed=s, epoch=e, key=k, config=ALL)
        for s, e, k in ((2, 2, KEY), (1, 3, KEY), (1, 2, KEY[1:]))
    ]
    assert all(other != draw(seed=1, epoch=2, key=KEY, config=ALL) for other in others)


def test_a_draw_is_the_same_in_every_process():
    """Golden values: Python's own hash would differ from run to run."""
    change = draw(seed=0, epoch=0, key=KEY, config=OFF)
    assert (change.flip, round(change.brightness, 3), round(change.contrast, 3)) == (
        True,
        11.911,
        1.027,
    )


def test_half_of_the_frames_are_flipped():
    flips = [draw(seed=0, epoch=epoch, key=KEY, config=OFF).flip for epoch in range(400)]
    assert 160 < sum(flips) < 240


def test_doing_nothing_changes_nothing():
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(change_image(image, NOTHING), image)


def test_flipping_twice_gives_the_frame_back():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    points = rng.normal(size=(9, 4)).astype(np.float32)
    k, pose = intrinsics(6, 4, 90.0), CAMERA_FROM_LIDAR_SAME_POSE
    assert np.array_equal(change_image(change_image(image, FLIP), FLIP), image)
    assert np.array_equal(change_points(change_points(points, FLIP), FLIP), points)
    twice = change_calibration(*change_calibration(k, pose, FLIP, width_px=6), FLIP, width_px=6)
    assert np.array_equal(twice[0], k)
    assert np.array_equal(twice[1], pose)


@pytest.mark.parametrize("config", [OFF, ALL], ids=["mirrored", "turned"])
def test_calibrations_change_together_as_one_by_one(config: AugmentConfig):
    """To the bit, zeros' signs included."""
    rng = np.random.default_rng(0)
    k = rng.normal(size=(40, 4)).astype(np.float32)
    poses = rng.normal(size=(40, 4, 4)).astype(np.float32)
    poses[rng.random(poses.shape) < 0.3] = 0.0
    poses[rng.random(poses.shape) < 0.3] *= -1
    keys = [(*KEY[:2], frame, KEY[3]) for frame in range(40)]
    changes = draw_all(seed=0, epoch=3, keys=keys, config=config)
    assert changes == [draw(seed=0, epoch=3, key=key, config=config) for key in keys]
    alone = [
        change_calibration(one, pose, change, width_px=8)
        for one, pose, change in zip(k, poses, changes, strict=True)
    ]
    change_calibrations(k, poses, changes, width_px=8)
    assert k.tobytes() == np.array([one for one, _ in alone], np.float32).tobytes()
    assert poses.tobytes() == np.array([pose for _, pose in alone], np.float32).tobytes()


@pytest.mark.parametrize("shift_px", [0.0, 1.25])
def test_a_mirrored_point_falls_on_the_mirrored_pixel(shift_px: float):
    """u' = W - u, v' = v, also when the camera sits beside the LiDAR and cx is off centre."""
    k = intrinsics(8, 6, 90.0)
    k[2] += shift_px
    pose = CAMERA_FROM_LIDAR_SAME_POSE.copy()
    pose[:3, 3] = (0.3, -0.1, 0.2)
    points = np.array([[4.0, 1.0, 0.5, 1.0], [9.0, -3.0, -0.5, 1.0]], dtype=np.float32)
    uv, depth = project(points, k, pose)
    new_k, new_pose = change_calibration(k, pose, FLIP, width_px=8)
    new_uv, new_depth = project(change_points(points, FLIP), new_k, new_pose)
    np.testing.assert_allclose(new_uv[:, 0], 8 - uv[:, 0], atol=1e-9)
    np.testing.assert_allclose(new_uv[:, 1], uv[:, 1], atol=1e-9)
    np.testing.assert_allclose(new_depth, depth, atol=1e-9)


def test_the_pixel_under_a_point_keeps_its_colour_when_both_are_mirrored():
    image = np.zeros((6, 8, 3), dtype=np.uint8)
    k, pose = intrinsics(8, 6, 90.0), CAMERA_FROM_LIDAR_SAME_POSE
    points = np.array([[4.0, 2.3, 0.5, 1.0]], dtype=np.float32)
    (u, v) = project(points, k, pose)[0][0]
    image[int(v), int(u)] = 200
    new_k, new_pose = change_calibration(k, pose, FLIP, width_px=8)
    (new_u, new_v) = project(change_points(points, FLIP), new_k, new_pose)[0][0]
    assert int(new_u) != int(u)
    assert change_image(image, FLIP)[int(new_v), int(new_u), 0] == 200


def test_grey_levels_are_rounded_and_clipped():
    image = np.array([[[0, 128, 255]]], dtype=np.uint8)
    bright = change_image(image, replace(NOTHING, brightness=20.0))
    flat = change_image(image, replace(NOTHING, contrast=0.5))
    assert bright.tolist() == [[[20, 148, 255]]]
    assert flat.tolist() == [[[64, 128, 191]]]


def test_a_cloud_of_no_points_can_be_mirrored():
    assert change_points(np.empty((0, 4), np.float32), FLIP).shape == (0, 4)


def some_changes() -> list[Augmentation]:
    return [draw(seed=0, epoch=epoch, key=KEY, config=ALL) for epoch in range(12)]


def test_what_is_off_leaves_the_other_draws_as_they_were():
    """So runs from before these settings existed are repeated bit for bit."""
    for epoch in range(20):
        off = draw(seed=0, epoch=epoch, key=KEY, config=OFF)
        on = draw(seed=0, epoch=epoch, key=KEY, config=ALL)
        assert (off.rotation_rad, off.scale, off.point_dropout) == (0.0, 1.0, 0.0)
        assert (off.flip, off.brightness, off.contrast) == (on.flip, on.brightness, on.contrast)
        assert abs(on.rotation_rad) <= 0.7
        assert 0.8 <= on.scale <= 1.2
        assert 0 <= on.point_dropout <= 0.5


def test_a_quarter_turn_takes_forward_to_left():
    turn = replace(NOTHING, rotation_rad=np.pi / 2, scale=2.0)
    points = np.array([[1.0, 0.0, 3.0, 0.5, -0.1]], dtype=np.float32)
    expected = [[0.0, 2.0, 6.0, 0.5, -0.1]]
    np.testing.assert_allclose(change_points(points, turn), expected, atol=1e-6)


@pytest.mark.parametrize("change", some_changes())
def test_a_changed_point_keeps_its_pixel_and_its_distance_in_proportion(change: Augmentation):
    rng = np.random.default_rng(0)
    points = rng.uniform((4, -2, -2, 0), (9, 2, 2, 1), (50, 4))
    k, pose = intrinsics(8, 6, 90.0), CAMERA_FROM_LIDAR_SAME_POSE.copy()
    pose[:3, 3] = (0.3, -0.1, 0.2)
    uv, depth = project(points, k, pose)
    changed = change_points(points, change)
    new_k, new_pose = change_calibration(k, pose, change, width_px=8)
    new_uv, new_depth = project(changed, new_k, new_pose)
    expected_u = 8 - uv[:, 0] if change.flip else uv[:, 0]
    np.testing.assert_allclose(new_uv[:, 0], expected_u, atol=1e-9)
    np.testing.assert_allclose(new_uv[:, 1], uv[:, 1], atol=1e-9)
    np.testing.assert_allclose(new_depth, depth, atol=1e-9)
    ranges = (np.linalg.norm(cloud[:, :3], axis=1) for cloud in (points, changed))
    np.testing.assert_allclose(*(next(ranges) * change.scale, next(ranges)))


def test_dropout_leaves_out_the_share_it_says_and_the_same_points_every_time():
    change = replace(NOTHING, point_dropout=0.3, dropout_seed=5)
    keep = kept_points(10_000, change)
    assert 0.68 < keep.mean() < 0.72
    assert np.array_equal(keep, kept_points(10_000, change))
    assert not np.array_equal(keep, kept_points(10_000, replace(change, dropout_seed=6)))
