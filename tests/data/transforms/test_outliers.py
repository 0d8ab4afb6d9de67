"""Synthetic outliers: where they stand, what they change, and that both sensors agree on it."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from pipeline.config.data import OutlierConfig
from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.block_reader import BlockReader
from pipeline.data.frames import StoredFrame
from pipeline.data.prepare.prepare import find_blocks
from pipeline.data.transforms import outliers
from pipeline.data.transforms.blobs import first_hits
from pipeline.data.transforms.outliers import (
    OUTLIER_LABEL,
    draw_blob,
    has_outliers,
    perlin_object,
    raised_road,
    road_place,
    with_outliers,
)
from pipeline.datasets.anovox.class_ids import ROAD
from pipeline.datasets.anovox.geometry import CAMERA_FROM_LIDAR_SAME_POSE
from pipeline.datasets.protocol.geometry import in_view, intrinsics, project

HEIGHT, WIDTH = 96, 192
K, POSE = intrinsics(WIDTH, HEIGHT, 90.0), CAMERA_FROM_LIDAR_SAME_POSE
KEY = ("AnoVox_Normality_Mono_Town03", "0a", 995, "(0, 0, 1.8)(0, 0, 0)")
BOTH = OutlierConfig(raised_road=1.0, perlin=1.0)
WALL_X_M, LIDAR_HEIGHT_M = 40.0, 1.8


def street() -> StoredFrame:
    """Every ray of a LiDAR 1.8 m above a road that ends at a wall 40 m ahead, and a grey image."""
    elevation, azimuth = np.meshgrid(
        np.radians(np.linspace(-24, 6, 60)), np.linspace(-0.7, 0.7, 300)
    )
    rays = np.stack(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ],
        axis=-1,
    ).reshape(-1, 3)
    to_wall = WALL_X_M / rays[:, 0]
    with np.errstate(divide="ignore"):
        to_road = np.where(rays[:, 2] < 0, LIDAR_HEIGHT_M / -rays[:, 2], np.inf)
    range_m = np.minimum(to_wall, to_road)
    points = np.concatenate([rays * range_m[:, None], np.exp(-0.004 * range_m)[:, None]], axis=1)
    return StoredFrame(
        np.full((1, HEIGHT, WIDTH, 3), 128, np.uint8),
        points.astype(np.float32),
        np.where(to_road < to_wall, ROAD, 3).astype(np.uint8),
        np.zeros(len(points), np.uint8),
    )


def directions(points):
    return points[:, :3] / np.linalg.norm(points[:, :3], axis=1, keepdims=True)


def drawn(seed=(0, 0), key=KEY, config=BOTH) -> StoredFrame:
    return with_outliers(street(), K, POSE, road_ids=[ROAD], config=config, seed=seed, key=key)


def blob_at(x, y=0.0, seed=0):
    return draw_blob(np.array([x, y, -LIDAR_HEIGHT_M]), np.random.default_rng(seed))


def test_an_outlier_is_fixed_by_seed_epoch_and_key():
    one = drawn()
    for again, equal in (
        (drawn(), True),
        (drawn(seed=(1, 0)), False),
        (drawn(seed=(0, 1)), False),
        (drawn(key=(*KEY[:2], 996, KEY[3])), False),
    ):
        assert np.array_equal(one.points, again.points) is equal


def test_each_probability_is_that_of_its_own_kind():
    def share(config):
        return np.mean([has_outliers(drawn(seed=(0, epoch), config=config)) for epoch in range(40)])

    assert share(OutlierConfig()) == 0
    assert 0.15 < share(OutlierConfig(raised_road=0.4)) < 0.6
    assert share(OutlierConfig(raised_road=1.0)) > 0.9
    assert share(OutlierConfig(perlin=1.0)) > 0.8


def test_the_stored_frame_is_never_written_to():
    frame = street()
    for array in frame[:4]:
        array.flags.writeable = False
    changed = with_outliers(frame, K, POSE, road_ids=[ROAD], config=BOTH, seed=(0, 0), key=KEY)
    assert has_outliers(changed)
    assert not has_outliers(frame)


@pytest.mark.parametrize("seed", range(8))
def test_raised_road_lifts_road_and_leaves_the_rest_and_the_image(seed: int):
    frame = street()
    place = np.array([8.0, 0.5, -LIDAR_HEIGHT_M])
    raised = raised_road(frame, place, np.random.default_rng(seed), [ROAD])
    moved = raised.point_label == OUTLIER_LABEL
    assert moved.sum() >= outliers.MIN_POINTS
    assert (frame.point_class[moved] == ROAD).all()
    assert np.array_equal(raised.points[~moved], frame.points[~moved])
    lift = raised.points[moved, 2] - frame.points[moved, 2]
    assert ((lift >= 0) & (lift <= 1.5)).all()
    assert lift.max() > 0.1
    assert np.array_equal(raised.points[moved, :2], frame.points[moved, :2])
    assert raised.image is frame.image


def test_lidar_rays_end_on_the_blob_and_none_passes_through_it():
    frame, blob = street(), blob_at(8.0)
    changed = perlin_object(frame, blob, K, POSE, np.random.default_rng(0))
    moved = changed.point_label == OUTLIER_LABEL
    meets = np.isfinite(first_hits(blob, np.zeros(3), directions(frame.points.astype(np.float64))))
    assert moved.sum() > 100
    assert np.array_equal(moved, meets)
    assert directions(changed.points) == pytest.approx(directions(frame.points), abs=1e-5)


def test_ranges_on_the_blob_are_its_own_with_the_lidars_noise():
    frame, blob = street(), blob_at(8.0)
    changed = perlin_object(frame, blob, K, POSE, np.random.default_rng(0))
    moved = changed.point_label == OUTLIER_LABEL
    exact = first_hits(blob, np.zeros(3), directions(frame.points.astype(np.float64)))[moved]
    found = np.linalg.norm(changed.points[moved, :3], axis=1)
    assert abs((found - exact).mean()) < 0.03
    assert (found - exact).std() == pytest.approx(outliers.RANGE_NOISE_M, rel=0.2)
    assert changed.points[moved, 3] == pytest.approx(np.exp(-0.004 * found), abs=1e-5)


@pytest.mark.parametrize("x", [5.0, 8.0, 14.0])
def test_camera_and_lidar_agree_on_where_the_blob_is(x: float):
    """Its points fall on painted pixels, and points beside it on pixels that are as they were.

    But for its outline, where a pixel's middle and a ray through its edge may differ.
    """
    frame, blob = street(), blob_at(x, y=1.0)
    changed = perlin_object(frame, blob, K, POSE, np.random.default_rng(0))
    painted = (changed.image[0] != frame.image[0]).any(axis=2)
    uv, depth = project(changed.points, K, POSE)
    seen = in_view(uv, depth, WIDTH, HEIGHT)
    column, row = uv[seen].astype(int).T
    moved = changed.point_label[seen] == OUTLIER_LABEL
    assert moved.sum() >= 30
    assert binary_dilation(painted, np.ones((3, 3)))[row, column][moved].all()
    assert not binary_erosion(painted, np.ones((3, 3)))[row, column][~moved].any()
    assert painted[row, column][moved].mean() > 20 * painted[row, column][~moved].mean()


def test_a_camera_beside_the_lidar_sees_the_blob_from_its_own_place():
    """Shifted 0.6 m to the left, it sees the blob further right by f * 0.6 / depth."""
    frame, blob = street(), blob_at(8.0)
    beside = POSE.copy()
    beside[0, 3] += 0.6
    columns = []
    for pose in (POSE, beside):
        changed = perlin_object(frame, blob, K, pose, np.random.default_rng(0))
        columns.append(np.nonzero((changed.image[0] != 128).any(axis=2))[1].mean())
    assert columns[1] - columns[0] == pytest.approx(K[0] * 0.6 / 7.7, rel=0.1)


def test_a_blob_behind_a_wall_is_not_made():
    frame, blob = street(), blob_at(WALL_X_M + 3)
    assert perlin_object(frame, blob, K, POSE, np.random.default_rng(0)) is frame


def test_a_blob_behind_the_camera_changes_the_cloud_only():
    frame = street()
    points = frame.points * np.array([-1, 1, 1, 1], np.float32)
    behind = frame._replace(points=points)
    changed = perlin_object(behind, blob_at(-8.0), K, POSE, np.random.default_rng(0))
    assert has_outliers(changed)
    assert np.array_equal(changed.image, frame.image)


def test_outliers_stand_on_road_at_their_ranges_mostly_in_view():
    rng = np.random.default_rng(0)
    frame = street()
    mirrored = frame.points * np.array([-1, 1, 1, 1], np.float32)
    around = StoredFrame(
        frame.image,
        np.concatenate([frame.points, mirrored]),
        *(np.tile(array, 2) for array in frame[2:4]),
    )
    places = [road_place(around, K, POSE, rng, [ROAD]) for _ in range(150)]
    found = np.array([place for place in places if place is not None])
    assert len(found) == 150
    range_m = np.linalg.norm(found, axis=1)
    assert range_m.min() > outliers.NEAREST_M
    assert range_m.max() < outliers.FARTHEST_M
    assert found[:, 2] == pytest.approx(-LIDAR_HEIGHT_M, abs=1e-3)
    assert 0.75 < (found[:, 0] > 0).mean() < 0.95


def test_a_frame_without_road_stays_as_it_is():
    frame = street()
    frame = frame._replace(point_class=np.full_like(frame.point_class, 3))
    assert (
        with_outliers(frame, K, POSE, road_ids=[ROAD], config=BOTH, seed=(0, 0), key=KEY) is frame
    )


def test_real_anomalies_are_no_road():
    frame = street()
    frame = frame._replace(point_label=np.ones_like(frame.point_label))
    assert (
        with_outliers(frame, K, POSE, road_ids=[ROAD], config=BOTH, seed=(0, 0), key=KEY) is frame
    )


def test_training_batches_hold_outliers_and_others_never_do(tiny_config: Config):
    """The frame's label is that of an outlier too, unless it was no normal frame anyway."""
    config = merge(tiny_config, {"outliers": {"raised_road": 1.0, "perlin": 1.0}})
    reader = BlockReader(
        find_blocks(config),
        "train",
        ego_box_m=config.data.ego_box_m,
        outliers=config.outliers,
    )
    rows = list(range(reader.num_rows))
    batch, plain = (reader.batch(rows, augment_seed=seed) for seed in ((0, 0), None))
    assert (batch.point_label == OUTLIER_LABEL).any()
    assert (plain.point_label != OUTLIER_LABEL).all()
    changed = [
        bool((labels == OUTLIER_LABEL).any())
        for labels in batch.point_label.split(batch.counts().tolist())
    ]
    for is_changed, label, before in zip(
        changed, batch.frame_label.tolist(), plain.frame_label.tolist(), strict=True
    ):
        assert label == (OUTLIER_LABEL if is_changed and before == 0 else before)
