import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.datasets.anovox.annotations import format_key_value, parse_key_value
from pipeline.datasets.anovox.frame import MODALITIES, Frame, decode_depth, encode_depth, read_frame
from pipeline.datasets.anovox.geometry import CAMERA_FROM_LIDAR_SAME_POSE, voxel_keys
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.scene import Scene, read_scenes
from pipeline.datasets.protocol.frames import FrameError, FrameKey
from pipeline.datasets.protocol.geometry import transform

SCENE_ID = "739b5ee1-53b4-4a10-9a3c-0a8ce50e8d11"


@pytest.fixture
def scene(archive_path: Path) -> Scene:
    archive = find_archives(archive_path)[0]
    return read_scenes(archive.scenes[0], archive)[0]


def test_a_frame_has_the_shapes_and_types_of_the_contract(scene: Scene):
    frame = read_frame(scene, 999)
    num_points = len(frame.points)
    arrays = {
        "image": (frame.image, np.uint8, (16, 24, 3)),
        "depth_m": (frame.depth_m, np.float32, (16, 24)),
        "semantic": (frame.semantic, np.uint8, (16, 24)),
        "points": (frame.points, np.float32, (num_points, 4)),
        "point_class": (frame.point_class, np.uint8, (num_points,)),
        "exact_xyz": (frame.exact_xyz, np.float32, (num_points, 3)),
        "voxels": (frame.voxels, np.uint16, (len(frame.voxels), 4)),
    }
    for name, (array, dtype, shape) in arrays.items():
        assert (array.dtype, array.shape) == (dtype, shape), name
        assert array.flags.c_contiguous, name
    assert frame.intrinsics == pytest.approx([12, 12, 12, 8])
    assert frame.voxel_from_lidar[:3, 3].tolist() == [0, 0, -1.8]
    assert np.array_equal(frame.camera_from_lidar, CAMERA_FROM_LIDAR_SAME_POSE)


def test_the_arrays_are_those_of_the_files(scene: Scene):
    frame, files = read_frame(scene, 999), scene.files(999)
    semantic_lidar = np.load(files.semantic_lidar)
    assert np.array_equal(frame.points, np.load(files.lidar))
    assert np.array_equal(frame.exact_xyz, semantic_lidar[:, :3])
    assert np.array_equal(frame.point_class, semantic_lidar[:, 3])
    assert np.array_equal(frame.voxels, np.load(scene.file("voxels", 999)))
    assert np.array_equal(frame.image, np.array(Image.open(files.image)))
    assert frame.depth_m == pytest.approx(12.5, abs=1e-4)


def test_two_readings_of_a_frame_are_identical(scene: Scene):
    one, two = read_frame(scene, 999), read_frame(scene, 999)
    assert one.key == two.key
    assert all(np.array_equal(one.arrays[name], two.arrays[name]) for name in one.arrays)


def test_keys_sort_by_time_and_time_counts_ticks_of_a_tenth_of_a_second(scene: Scene):
    frames = [read_frame(scene, i, modalities=()) for i in scene.frame_ids]
    assert [frame.key for frame in frames] == sorted(frame.key for frame in frames)
    assert frames[2].key == FrameKey(
        "AnoVox_Static_Mono_Town03", SCENE_ID, 1000, "(0, 0, 1.8)(0, 0, 0)"
    )
    assert [frame.frame_index for frame in frames] == [0, 1, 2, 3]
    assert frames[3].time_s == pytest.approx(0.3)


def test_a_frame_that_is_left_out_does_not_shift_the_time_of_the_rest(
    archive_path: Path, scene_path: Path
):
    (scene_path / "ACTION" / "ACTION_998.csv").unlink()
    archive = find_archives(archive_path)[0]
    scene = read_scenes(scene_path, archive)[0]
    assert [read_frame(scene, i, modalities=()).frame_index for i in scene.frame_ids] == [1, 2, 3]


def test_the_world_pose_is_right_handed_and_finds_the_anomaly(scene: Scene):
    frame = read_frame(scene, 1000)
    assert frame.anomaly is not None
    assert frame.anomaly.location is not None
    x, y, z = frame.anomaly.location
    in_lidar = transform(np.array([[x, -y, z]]), np.linalg.inv(frame.world_from_lidar))
    assert in_lidar[0] == pytest.approx([10.0, 0.0, -1.2])
    seen = frame.exact_xyz[frame.point_class == 30]
    assert seen.mean(axis=0) == pytest.approx(in_lidar[0], abs=0.5)


def test_the_anomaly_and_the_action_are_the_files(scene: Scene):
    frame = read_frame(scene, 1000, modalities=())
    assert frame.anomaly is not None
    assert (frame.anomaly.category, frame.anomaly.size) == ("animal", "small")
    assert frame.action["speed"] == 31.5


def test_a_normality_frame_has_no_anomaly(tmp_path: Path, write_archive: Callable[..., Path]):
    path = write_archive(tmp_path, name="AnoVox_Normality_Mono_Town07", frame_ids=[5])
    archive = find_archives(path)[0]
    assert read_frame(read_scenes(archive.scenes[0], archive)[0], 5).anomaly is None


READS = {
    "image": ("image",),
    "depth": ("depth_m",),
    "semantic": ("semantic",),
    "lidar": ("points",),
    "semantic_lidar": ("exact_xyz", "point_class"),
    "voxels": ("voxels",),
}


@pytest.mark.parametrize("modality", MODALITIES)
def test_only_the_files_of_the_modalities_asked_for_are_opened(scene: Scene, modality: str):
    files = scene.files(999)
    for other in set(MODALITIES) - {modality}:
        getattr(files, other).write_bytes(b"")
    frame = read_frame(scene, 999, modalities=[modality])
    for name in ("image", "depth_m", "semantic", "points", "exact_xyz", "point_class", "voxels"):
        if name in READS[modality]:
            assert getattr(frame, name).size > 0
        else:
            array = name.removesuffix("_m")
            with pytest.raises(ValueError, match=f"was read without {array}; name its modality"):
                getattr(frame, name)


def test_an_unknown_modality_is_refused_with_the_known_ones(scene: Scene):
    with pytest.raises(ValueError, match=r"\['radar'\] are unknown; known are \('image', 'depth'"):
        read_frame(scene, 999, modalities=["radar"])


def test_a_frame_can_be_sent_to_another_process(scene: Scene):
    frame = read_frame(scene, 999)
    back: Frame = pickle.loads(pickle.dumps(frame))
    assert back.key == frame.key
    assert np.array_equal(back.points, frame.points)


def test_depth_of_anovox_is_a_24_bit_fraction_of_a_kilometre():
    rgb = np.array([[[255, 255, 255], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]], np.uint8)
    expected = [1000, 0, 1000 / 16777215, 256e3 / 16777215, 65536e3 / 16777215]
    assert decode_depth(rgb)[0] == pytest.approx(expected)


@given(st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=50))
def test_every_depth_code_survives_decoding_and_encoding(codes: list[int]):
    n = np.array([codes])
    rgb = np.stack([n & 255, (n >> 8) & 255, n >> 16], axis=-1).astype(np.uint8)
    again = encode_depth(decode_depth(rgb).astype(np.float64))
    step = again.astype(np.int64) @ [1, 256, 65536] - n
    assert np.abs(step).max() <= 1  # float32 metres hold 24 bits, so at most the last one moves


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=50))
def test_a_depth_survives_encoding_and_decoding_to_a_tenth_of_a_millimetre(depths: list[float]):
    depth_m = np.array([depths])
    assert decode_depth(encode_depth(depth_m))[0] == pytest.approx(depths, abs=1e-4)


def test_depths_beyond_a_kilometre_are_written_as_sky():
    assert encode_depth(np.array([[5e6, np.inf]])).tolist() == [[[255] * 3, [255] * 3]]


def change_table(field: str, change: Callable[[np.ndarray], np.ndarray | None]):
    def damage(files) -> None:
        path = getattr(files, field)
        table = np.load(path)
        changed = change(table)
        np.save(path, table if changed is None else changed)

    return damage


def set_value(row: int, column: int, value: float):
    return lambda table: table.__setitem__((row, column), value)


def change_text(field: str, key: str, value: object):
    def damage(files) -> None:
        path = getattr(files, field)
        values = parse_key_value(path.read_text())
        values[key] = value
        path.write_text(format_key_value(values))

    return damage


def cut(field: str, keep: float):
    def damage(files) -> None:
        content = getattr(files, field).read_bytes()
        getattr(files, field).write_bytes(content[: int(len(content) * keep)])

    return damage


def recolour(field: str, mode: str, size: tuple[int, int], value: int = 1):
    return lambda files: Image.new(mode, size, value).save(getattr(files, field))


DAMAGES: dict[str, tuple[str, Callable, str]] = {
    "image of another size": ("image", recolour("image", "RGB", (12, 8)), "size is 12 x 8"),
    "image without colour": ("image", recolour("image", "L", (24, 16)), "mode is L"),
    "cut image": ("image", cut("image", 0.7), "truncated"),
    "cut depth": ("depth", cut("depth", 0.99), "truncated"),
    "coloured classes": ("semantic", recolour("semantic", "RGB", (24, 16)), "mode is RGB"),
    "unknown class": ("semantic", recolour("semantic", "L", (24, 16), 77), r"ids \[77\] are not"),
    "cut cloud": ("lidar", cut("lidar", 0.5), "its header promises"),
    "empty cloud file": ("lidar", cut("lidar", 0), "header cannot be read"),
    "nan": ("lidar", change_table("lidar", set_value(3, 1, np.nan)), "nan or infinite"),
    "far point": ("lidar", change_table("lidar", set_value(3, 1, 130.0)), "130 m, but the range"),
    "far exact point": (
        "semantic_lidar",
        change_table("semantic_lidar", set_value(3, 2, -1e9)),
        "range is 100 m",
    ),
    "fewer points": (
        "semantic_lidar",
        change_table("semantic_lidar", lambda t: t[:-1]),
        "it has 167 points, but LIDAR.* has 168",
    ),
    "other order": (
        "semantic_lidar",
        change_table("semantic_lidar", lambda t: t[::-1]),
        r"its rows lie .* from those of LIDAR.*, so their order differs",
    ),
    "point of no class": (
        "semantic_lidar",
        change_table("semantic_lidar", set_value(5, 3, 35)),
        r"ids \[35\] are not in AnoVox's table",
    ),
    "half a class": (
        "semantic_lidar",
        change_table("semantic_lidar", set_value(5, 3, 1.5)),
        "no cl",
    ),
    "negative class": (
        "semantic_lidar",
        change_table("semantic_lidar", set_value(5, 3, -1)),
        "no c",
    ),
    "large class": (
        "semantic_lidar",
        change_table("semantic_lidar", set_value(5, 3, 257)),
        "no cla",
    ),
    "voxels of 32 bits": (
        "voxels",
        change_table("voxels", lambda t: t.astype(np.int32)),
        "int32 instead of <u2",
    ),
    "voxel outside": ("voxels", change_table("voxels", set_value(0, 2, 64)), "outside the grid"),
    "voxel twice": ("voxels", change_table("voxels", lambda t: t[[0, 1, 1]]), "lists a cell twice"),
    "voxel of no class": ("voxels", change_table("voxels", set_value(0, 3, 99)), r"ids \[99\]"),
    "action of another frame": ("action", change_text("action", "frame_id", 4), "frame_id is 4"),
    "action without matrix": (
        "action",
        change_text("action", "lidar transformation matrix", "[[1"),
        "lidar transformation matrix is",
    ),
    "cut action": ("action", cut("action", 0.5), "matrix"),
    "empty action": ("action", cut("action", 0), "it is empty"),
    "anomaly of another scene": (
        "anomaly",
        change_text("anomaly", "scenario_id", "x"),
        "scenario_id is 'x'",
    ),
    "anomaly without place": ("anomaly", change_text("anomaly", "location", "here"), "location is"),
    "a vehicle as anomaly": (
        "anomaly",
        change_text("anomaly", "semantic_tags", [14]),
        r"tags \[14\] is of no anomaly class",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_frame_is_refused_by_the_name_of_its_file(scene: Scene, case: str):
    field, damage, finding = DAMAGES[case]
    files = scene.files(999)
    damage(files)
    with pytest.raises(FrameError, match=finding) as caught:
        read_frame(scene, 999)
    assert str(caught.value).startswith(f"{getattr(files, field)}: ")
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert read_frame(scene, 1000).key.frame_id == 1000


@pytest.mark.parametrize("field", ["image", "depth", "semantic", "lidar", "voxels", "action"])
def test_a_file_that_vanished_after_the_scene_was_listed_is_a_frame_error(scene: Scene, field: str):
    getattr(scene.files(999), field).unlink()
    with pytest.raises(FrameError, match="it cannot be read"):
        read_frame(scene, 999)


def test_images_must_have_the_size_of_the_setup(archive_path: Path, scene_path: Path):
    file = scene_path / "sensor_setup.json"
    setup = json.loads(file.read_text())
    for entry in setup.values():
        if "image_width" in entry["args"]:
            entry["args"]["image_width"] = 768
    file.write_text(json.dumps(setup))
    archive = find_archives(archive_path)[0]
    with pytest.raises(FrameError, match=r"size is 24 x 16, but .* says 768 x 16"):
        read_frame(read_scenes(scene_path, archive)[0], 999)


def test_voxels_in_another_order_are_read_in_anovoxs_order(scene: Scene):
    path = scene.file("voxels", 999)
    in_order = np.load(path)
    np.save(path, in_order[::-1])
    voxels = read_frame(scene, 999, modalities=["voxels"]).voxels
    assert np.array_equal(voxels, in_order)
    assert (np.diff(voxel_keys(voxels)) > 0).all()


def test_single_precision_classes_and_double_precision_points_are_read_too(scene: Scene):
    files = scene.files(999)
    expected = read_frame(scene, 999)
    np.save(files.lidar, np.load(files.lidar).astype(np.float64))
    np.save(files.semantic_lidar, np.load(files.semantic_lidar).astype(np.float32))
    frame = read_frame(scene, 999)
    assert np.array_equal(frame.points, expected.points)
    assert np.array_equal(frame.exact_xyz, expected.exact_xyz)
    assert np.array_equal(frame.point_class, expected.point_class)
