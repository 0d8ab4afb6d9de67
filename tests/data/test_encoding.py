"""Every format of images and points survives row, shard and batch as far as it promises."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.data import PrepareConfig
from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.block_reader import BlockReader
from pipeline.data.decoding import decode_stored
from pipeline.data.encoding import decode_points, encode_image, encode_points
from pipeline.data.prepare.prepare import find_blocks, prepare
from pipeline.data.schema import row_schema
from pipeline.data.shards import open_shard, write_shard
from pipeline.datasets.protocol.frames import FrameError

OFF = (0.0, 0.0)
FORMATS = [
    PrepareConfig(image=image, points=points)
    for image in ("raw", "png", "jpeg")
    for points in ("float32", "int16_cm")
]


def smooth_picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4 % 256, y * 5 % 256, (x + y) * 2 % 256], axis=2).astype(np.uint8)


@pytest.mark.parametrize("config", FORMATS, ids=lambda c: f"{c.image}-{c.points}")
def test_rows_come_back_from_a_shard_of_any_format(
    tmp_path: Path, random_row, write_prepared, config: PrepareConfig
):
    rows = [random_row(i, count) for i, count in enumerate((5, 0, 12))]
    for row in rows:
        row["image"] = smooth_picture(*row["image"].shape[:2])
        row["points"][:, 3] = np.linspace(0, 1, len(row["points"]))
    folder = write_prepared(tmp_path / "any", {"train": [rows[:1], rows[1:]]}, config)
    batch = BlockReader(folder, "train", ego_box_m=OFF).batch([2, 0, 1], augment_seed=None)
    assert batch.points.dtype.is_floating_point
    for i, row in enumerate((rows[2], rows[0], rows[1])):
        own = batch.point_frame() == i
        tolerance = 0 if config.points == "float32" else 0.00501
        assert np.abs(batch.points[own].numpy() - row["points"]).max(initial=0) <= tolerance
        assert np.array_equal(batch.point_label[own].numpy(), row["point_label"])
        image = batch.image[i].permute(1, 2, 0).numpy().astype(int)
        apart = np.abs(image - row["image"]).max()
        assert apart <= (40 if config.image == "jpeg" else 0)


@pytest.mark.parametrize("config", FORMATS, ids=lambda c: f"{c.image}-{c.points}")
def test_a_shard_says_its_format_in_its_schema(tmp_path: Path, random_row, config: PrepareConfig):
    row = random_row(0, 4)
    row["points"][:, 3] = 0.5
    cells = {
        "image": encode_image(row["image"], config),
        "points": encode_points(row["points"], config.points, place="here"),
    }
    schema = row_schema(config)
    shard = write_shard(tmp_path, "train", "a.arrow", [row | cells], schema)
    assert open_shard(tmp_path, shard).schema.equals(schema, check_metadata=True)
    assert not any(field.nullable for field in schema)


def test_a_row_is_not_written_under_another_formats_schema(tmp_path: Path, random_row):
    with pytest.raises((AssertionError, TypeError)):
        write_shard(tmp_path, "train", "a.arrow", [random_row(0, 4)], row_schema(FORMATS[-1]))


@given(
    st.lists(
        st.tuples(*[st.floats(-327, 327, width=32)] * 3, st.floats(0, 1, width=32)), max_size=20
    )
)
def test_centimetres_are_off_by_half_of_one_at_most(points):
    """0.5 cm, and what a float32 of 327 m cannot say: 0.002 cm."""
    array = np.array(points, dtype=np.float32).reshape(-1, 4)
    stored = encode_points(array, "int16_cm", place="here")
    assert stored.dtype == np.int16
    error = np.abs(decode_points(stored).astype(np.float64) - array)
    assert error[:, :3].max(initial=0) <= 0.005 + 2e-5
    assert error[:, 3].max(initial=0) <= 1 / 65534 + 1e-6


def test_points_beyond_int16_centimetres_are_refused_in_one_sentence():
    points = np.array([[1, 2, 3, 0], [0, -327.7, 0, 0]], dtype=np.float32)
    with pytest.raises(FrameError, match=r"^a frame: y of point 1 is -327\.7, but prepare\.points"):
        encode_points(points, "int16_cm", place="a frame")
    assert encode_points(points, "float32", place="a frame") is points


def test_png_is_bit_exact_and_jpeg_smaller():
    rng = np.random.default_rng(0)
    image = smooth_picture(64, 96)
    image = (image + rng.integers(0, 4, image.shape)).astype(np.uint8)
    png, jpeg = (encode_image(image, PrepareConfig(image=kind)) for kind in ("png", "jpeg"))
    content = np.frombuffer(png, np.uint8)
    assert np.array_equal(decode_stored(content, shape=image.shape, place="here"), image)
    worse = encode_image(image, PrepareConfig(image="jpeg", jpeg_quality=30))
    assert len(worse) < len(jpeg) < len(png)


@pytest.mark.parametrize("config", FORMATS[2::2], ids=lambda c: c.image)
def test_a_damaged_image_is_one_sentence_that_names_its_frame(config: PrepareConfig):
    content = encode_image(smooth_picture(32, 48), config)
    for broken in (content[: len(content) // 2], b"", b"\x00" * 60):
        stored = np.frombuffer(broken, np.uint8)
        with pytest.raises(ValueError, match="the stored image of scene 7 is damaged") as caught:
            decode_stored(stored, shape=(32, 48, 3), place="scene 7")
        assert "\n" not in str(caught.value)


def test_an_image_of_another_size_than_the_manifest_says_is_refused():
    content = np.frombuffer(
        encode_image(smooth_picture(32, 48), PrepareConfig(image="png")), np.uint8
    )
    with pytest.raises(ValueError, match=r"has shape \(32, 48, 3\) but the manifest says"):
        decode_stored(content, shape=(32, 64, 3), place="here")


def test_frames_prepared_in_another_format_hold_the_same_as_raw_ones(
    tiny_config: Config, tiny_blocks: Path
):
    """From the files on disk through `prepare`, for every frame of a split."""
    other = merge(tiny_config, {"prepare": {"image": "png", "points": "int16_cm"}})
    prepare(other, lambda done, total: None)
    assert find_blocks(other) != tiny_blocks
    raw, compact = (
        BlockReader(folder, "train", ego_box_m=OFF) for folder in (tiny_blocks, find_blocks(other))
    )
    assert raw.index.equals(compact.index)
    rows = range(raw.num_rows)
    one, two = (reader.batch(rows, augment_seed=None) for reader in (raw, compact))
    for name in ("image", "point_offset", "point_class", "point_label", "intrinsics"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    apart = (one.points - two.points).abs()
    assert 0.004 < apart[:, :3].max() < 0.00503
    assert apart[:, 3].max() < 2e-5
