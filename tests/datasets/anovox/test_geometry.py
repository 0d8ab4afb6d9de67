import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.datasets.anovox.geometry import (
    CAMERA_FROM_LIDAR_SAME_POSE,
    FLIP,
    camera_from_lidar,
    carla_transform,
    point_voxel,
    voxel_centres,
    voxel_from_lidar,
    voxel_indices,
    voxel_keys,
    voxelise,
    world_from_lidar,
)
from pipeline.datasets.protocol.geometry import (
    crop_intrinsics,
    in_view,
    intrinsics,
    project,
    scale_intrinsics,
    transform,
    unproject,
)

K = intrinsics(768, 512, 90.0)
MONO = voxel_from_lidar((0, 0, 1.8), (0, 0, 0))


def test_intrinsics_of_anovox_are_384_384_384_256():
    assert pytest.approx([384, 384, 384, 256]) == K


def test_a_point_ahead_to_the_left_and_below_lands_where_the_hand_computes_it():
    uv, depth = project(np.array([[10.0, 2.0, -1.0]]), K, CAMERA_FROM_LIDAR_SAME_POSE)
    assert uv[0] == pytest.approx([384 - 384 * 2 / 10, 256 + 384 * 1 / 10])
    assert depth[0] == pytest.approx(10.0)


def test_at_half_size_a_pixel_is_half_as_far_from_the_origin():
    points = np.array([[10.0, 2.0, -1.0], [7.0, -3.0, 1.0]])
    full, _ = project(points, K, CAMERA_FROM_LIDAR_SAME_POSE)
    half, _ = project(points, scale_intrinsics(K, 0.5, 0.5), CAMERA_FROM_LIDAR_SAME_POSE)
    assert half == pytest.approx(full / 2)
    assert half[0] == pytest.approx([153.6, 147.2])


def test_cropping_the_top_moves_pixels_up_and_changes_nothing_else():
    points = np.array([[10.0, 2.0, -1.0]])
    full, _ = project(points, K, CAMERA_FROM_LIDAR_SAME_POSE)
    cropped, _ = project(points, crop_intrinsics(K, 100), CAMERA_FROM_LIDAR_SAME_POSE)
    assert cropped == pytest.approx(full - [0, 100])


def test_points_behind_or_in_the_camera_have_no_pixel_and_are_out_of_view():
    points = np.array([[-5.0, 0, 0], [0.0, 0, 0], [0.1, 0, 0], [0.11, 0, 0]])
    uv, depth = project(points, K, CAMERA_FROM_LIDAR_SAME_POSE)
    assert np.isnan(uv[:3]).all()
    assert in_view(uv, depth, 768, 512).tolist() == [False, False, False, True]


def test_the_left_and_top_borders_are_in_view_and_the_right_and_bottom_are_not():
    uv = np.array([[0.0, 0.0], [767.9, 511.9], [768.0, 0.0], [0.0, 512.0], [-0.1, 5.0]])
    seen = in_view(uv, np.full(5, 10.0), 768, 512)
    assert seen.tolist() == [True, True, False, False, False]


def test_unprojecting_a_pixel_gives_the_point_back():
    rng = np.random.default_rng(0)
    points = np.stack(
        [rng.uniform(1, 90, 50), rng.uniform(-20, 20, 50), rng.uniform(-3, 9, 50)], axis=1
    )
    lidar = carla_transform((3.0, -2.0, 1.8), 4, -7, 130)
    camera = carla_transform((3.5, -2.5, 1.6), 0, -7, 120)
    matrix = camera_from_lidar(lidar, camera)
    uv, depth = project(points, K, matrix)
    seen = depth > 0.1
    back = unproject(uv[seen, 0], uv[seen, 1], depth[seen], K, np.linalg.inv(matrix))
    assert back == pytest.approx(points[seen], abs=1e-9)


def test_a_yaw_of_90_degrees_turns_forward_to_carlas_right():
    matrix = carla_transform((1.0, 2.0, 3.0), 0, 0, 90)
    assert matrix @ [1, 0, 0, 1] == pytest.approx([1, 3, 3, 1])
    assert matrix @ [0, 1, 0, 1] == pytest.approx([0, 2, 3, 1])


def test_a_pitch_of_90_degrees_turns_forward_to_up():
    assert carla_transform((0, 0, 0), 0, 90, 0) @ [1, 0, 0, 1] == pytest.approx([0, 0, 1, 1])


def test_a_roll_of_90_degrees_turns_right_to_down():
    assert carla_transform((0, 0, 0), 90, 0, 0) @ [0, 1, 0, 1] == pytest.approx([0, 0, -1, 1])


def test_a_carla_transform_is_a_rigid_motion_with_the_formula_of_its_entries():
    roll, pitch, yaw = np.radians([10, 20, 30])
    matrix = carla_transform((1, 2, 3), 10, 20, 30)
    rotation = matrix[:3, :3]
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert rotation[2] == pytest.approx(
        [np.sin(pitch), -np.cos(pitch) * np.sin(roll), np.cos(pitch) * np.cos(roll)]
    )
    assert rotation[0, 0] == pytest.approx(np.cos(pitch) * np.cos(yaw))
    assert np.linalg.inv(matrix) @ matrix == pytest.approx(np.eye(4), abs=1e-12)


def test_sensors_at_one_pose_give_the_same_pose_constant():
    matrix = carla_transform((310.0, -57.0, 2.1), 1, -3, 77)
    assert camera_from_lidar(matrix, matrix) == pytest.approx(CAMERA_FROM_LIDAR_SAME_POSE, abs=1e-9)
    assert CAMERA_FROM_LIDAR_SAME_POSE.tolist() == [
        [0, -1, 0, 0],
        [0, 0, -1, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 1],
    ]


def test_a_camera_half_a_metre_to_the_right_sees_a_point_half_a_metre_further_left():
    lidar = carla_transform((0, 0, 1.8), 0, 0, 0)
    camera = carla_transform((0, 0.5, 1.8), 0, 0, 0)
    uv, _ = project(np.array([[10.0, 0.0, 0.0]]), K, camera_from_lidar(lidar, camera))
    assert uv[0] == pytest.approx([384 - 384 * 0.05, 256])


def test_world_from_lidar_is_right_handed_and_flips_carlas_y():
    lidar = carla_transform((5.0, 7.0, 1.8), 0, 0, 90)
    matrix = world_from_lidar(lidar)
    point_in_file = np.array([[2.0, 1.0, 0.0]])
    carla_world = lidar @ [2.0, -1.0, 0.0, 1.0]
    expected = (FLIP @ carla_world)[:3]
    assert transform(point_in_file, matrix)[0] == pytest.approx(expected)
    assert expected == pytest.approx([6.0, -9.0, 1.8])
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1)


def test_the_mono_shift_lowers_by_the_sensor_height():
    assert MONO[:3, 3].tolist() == [0, 0, -1.8]
    assert np.array_equal(MONO[:3, :3], np.eye(3))


def test_the_grid_of_an_unrotated_mount_subtracts_its_location():
    expected = np.eye(4)
    expected[:3, 3] = [-1.5, 0.9, -1.8]
    assert np.array_equal(voxel_from_lidar((1.5, -0.9, 1.8), (0, 0, 0)), expected)
    assert np.array_equal(voxel_from_lidar((0, 0, 1.8), (0, 0, 0))[:3, 3], [0, 0, -1.8])


@pytest.mark.parametrize(
    ("location", "yaw"),
    [((1.5, 0, 1.8), 0), ((1, 0.9, 1.8), 15), ((-1.5, -0.9, 1), -170), ((0, 0, 1.8), 120)],
)
def test_the_grid_misplaces_a_pose_along_x_and_z_and_not_along_y_nor_in_yaw(location, yaw):
    points = np.random.default_rng(0).uniform(-50, 50, (100, 3))
    vehicle_from_lidar = FLIP @ carla_transform(location, 0, 0, yaw) @ FLIP
    in_grid = transform(points, voxel_from_lidar(location, (0, 0, yaw)))
    misplaced = in_grid - transform(points, vehicle_from_lidar)
    assert np.abs(misplaced - [-2 * location[0], 0, -2 * location[2]]).max() < 1e-12


@pytest.mark.parametrize("rotation", [(1, 0, 0), (0, -2, 0)])
def test_a_mount_with_roll_or_pitch_has_no_place_in_the_grid(rotation):
    with pytest.raises(ValueError, match="use poses that only yaw"):
        voxel_from_lidar((0, 0, 1.8), rotation)


def test_flat_road_under_a_sensor_1_8_m_high_lies_at_vz_24():
    cells, inside = voxel_indices(np.array([[5.0, -3.0, -1.8]]), voxel_from_lidar=MONO)
    assert cells.tolist() == [[510, 494, 24]]
    assert inside.tolist() == [True]


def test_the_real_ranges_of_a_town07_cloud_give_the_ranges_of_its_grid():
    corners = np.array([[-95.78, -95.48, -3.64], [98.88, 97.98, 17.7]])
    cells, inside = voxel_indices(corners, voxel_from_lidar=MONO)
    assert inside.all()
    assert cells.tolist() == [[308, 309, 21], [697, 695, 63]]


def test_points_outside_the_grid_have_no_voxel():
    points = np.array([[0, 0, 17.79], [0, 0, 17.81], [250.0, 0, 0], [-250.1, 0, 0], [0, 0, -14.3]])
    voxels, row = voxelise(points, np.ones(5, np.uint8), voxel_from_lidar=MONO)
    assert row.tolist() == [0, -1, -1, -1, -1]
    assert voxels.tolist() == [[500, 500, 63, 1]]


def test_one_road_line_point_makes_its_voxel_road_line():
    points = np.array([[1.01, 1.01, 0.0], [1.2, 1.2, 0.0], [1.4, 1.4, 0.0]])
    voxels, _ = voxelise(points, np.array([30, 1, 24], np.uint8), voxel_from_lidar=np.eye(4))
    assert voxels.tolist() == [[502, 502, 32, 24]]


def test_otherwise_the_point_nearest_the_lower_corner_names_the_voxel_not_the_central_one():
    points = np.array([[1.25, 1.25, 0.25], [1.05, 1.05, 0.05], [1.45, 1.45, 0.45]])
    voxels, row = voxelise(points, np.array([1, 30, 14], np.uint8), voxel_from_lidar=np.eye(4))
    assert voxels.tolist() == [[502, 502, 32, 30]]
    assert row.tolist() == [0, 0, 0]


def test_of_equally_near_points_the_first_row_names_the_voxel():
    points = np.array([[1.125, 1.0, 0.0], [1.0, 1.125, 0.0], [1.0, 1.0, 0.125]])
    for classes in ([5, 6, 7], [7, 6, 5]):
        voxels, _ = voxelise(points, np.array(classes, np.uint8), voxel_from_lidar=np.eye(4))
        assert voxels[0, 3] == classes[0]


def test_rows_ascend_by_z_then_y_then_x():
    points = np.array([[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0], [0, 0, 0]])
    voxels, row = voxelise(points, np.array([1, 2, 3, 4], np.uint8), voxel_from_lidar=np.eye(4))
    assert voxels.tolist() == [
        [500, 500, 32, 4],
        [518, 500, 32, 1],
        [500, 518, 32, 2],
        [500, 500, 50, 3],
    ]
    assert row.tolist() == [1, 2, 3, 0]
    assert voxel_keys(voxels).tolist() == [32500500, 32500518, 32518500, 50500500]


def test_an_empty_cloud_has_no_voxels():
    voxels, row = voxelise(np.empty((0, 3)), np.empty(0, np.uint8), voxel_from_lidar=MONO)
    assert voxels.shape == (0, 4)
    assert voxels.dtype == np.uint16
    assert row.shape == (0,)


def test_a_voxels_centre_lies_in_the_voxel_where_the_format_says():
    voxels = np.array([[510, 494, 24, 1]], np.uint16)
    centre = voxel_centres(voxels, MONO)
    assert centre[0] == pytest.approx([5.25, -2.75, 24.5 / 2 - 14.2])
    cells, inside = voxel_indices(centre, voxel_from_lidar=MONO)
    assert cells.tolist() == [[510, 494, 24]]
    assert inside.all()


def naive_voxelise(points, point_class, shift):
    """The rules of the grid, cell by cell, in plain Python."""
    cells: dict[int, list[tuple[float, int, int]]] = {}
    for row, point in enumerate(points.astype(np.float64)):
        origin = [float(point[i] + shift[i] + (250.0, 250.0, 16.0)[i]) for i in range(3)]
        v = [int(np.floor(o / 0.5)) for o in origin]
        if all(0 <= v[i] < (1000, 1000, 64)[i] for i in range(3)):
            x, y, z = (o % 0.5 for o in origin)
            key = v[0] + 1000 * v[1] + 1_000_000 * v[2]
            cells.setdefault(key, []).append((x * x + y * y + z * z, row, int(point_class[row])))
    voxels, row_of = [], np.full(len(points), -1)
    for number, key in enumerate(sorted(cells)):
        members = cells[key]
        label = 24 if any(c == 24 for _, _, c in members) else min(members)[2]
        voxels.append([key % 1000, key // 1000 % 1000, key // 1_000_000, label])
        row_of[[row for _, row, _ in members]] = number
    return voxels, row_of


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=1, max_side=40).map(lambda s: (s[0], 3)),
        elements=st.one_of(
            st.integers(-24, 24).map(lambda i: i / 8),
            st.floats(-2, 2, width=32),
            st.floats(-300, 300, width=32),
        ),
    ),
    st.integers(0, 10_000),
)
@settings(max_examples=100, deadline=None)
def test_voxelise_equals_the_plain_python_version(points: np.ndarray, seed: int):
    rng = np.random.default_rng(seed)
    point_class = rng.choice(
        np.array([1, 14, 24, 30], np.uint8), len(points), p=[0.4, 0.3, 0.1, 0.2]
    )
    voxels, row = voxelise(points, point_class, voxel_from_lidar=MONO)
    expected_voxels, expected_row = naive_voxelise(points, point_class, MONO[:3, 3])
    assert voxels.tolist() == expected_voxels
    assert row.tolist() == expected_row.tolist()


def test_points_and_their_voxels_agree_in_a_large_cloud():
    rng = np.random.default_rng(1)
    points = rng.normal(0, [30, 30, 3], (20_000, 3)).astype(np.float32)
    voxels, row = voxelise(
        points, rng.integers(0, 29, 20_000).astype(np.uint8), voxel_from_lidar=MONO
    )
    cells, inside = voxel_indices(points, voxel_from_lidar=MONO)
    assert ((row >= 0) == inside).all()
    assert (voxels[row[inside], :3] == cells[inside]).all()
    assert (np.diff(voxel_keys(voxels)) > 0).all()
    assert set(row[inside]) == set(range(len(voxels)))


def test_voxelise_keeps_up_with_full_size_clouds():
    rng = np.random.default_rng(2)
    points = rng.normal(0, [30, 30, 3], (92_000, 3)).astype(np.float32)
    point_class = rng.integers(0, 29, len(points)).astype(np.uint8)
    times_s = []
    for _ in range(7):
        start = time.process_time()
        voxelise(points, point_class, voxel_from_lidar=MONO)
        times_s.append(time.process_time() - start)
    assert min(times_s) < 0.100  # 0.010 alone


# The first call compiles.
@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(495, 505)] * 2, st.integers(25, 33)), max_size=12))
def test_point_voxel_is_the_row_whose_cell_holds_the_point(cells):
    in_order = sorted(set(cells), key=lambda cell: cell[::-1])
    voxels = np.array([(*cell, 1) for cell in in_order], np.uint16).reshape(-1, 4)
    points = np.random.default_rng(0).uniform((-3, -3, -4), (3, 3, 4), (50, 3)).astype(np.float32)
    listed = {tuple(cell): row for row, cell in enumerate(voxels[:, :3].tolist())}
    own_cells, _ = voxel_indices(points, voxel_from_lidar=MONO)
    expected = [listed.get(tuple(cell), -1) for cell in own_cells.tolist()]
    assert point_voxel(points, voxels, voxel_from_lidar=MONO).tolist() == expected


def test_a_point_outside_the_grid_has_no_row():
    voxels = np.array([[500, 500, 63, 1]], dtype=np.uint16)
    points = np.array([[0.1, 0.1, 40.0]], dtype=np.float32)
    assert point_voxel(points, voxels, voxel_from_lidar=MONO).tolist() == [-1]
