"""Batches hold exactly the rows asked for, ragged, and stay as they are while they are held."""

import gc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.data import AugmentConfig
from pipeline.data.batch import Batch
from pipeline.data.block_reader import BlockReader
from pipeline.data.frames import outside_box
from pipeline.data.transforms.augment import change_image, change_points, draw

OFF = (0.0, 0.0)
COUNTS = [5, 0, 9, 9, 1, 12, 3]


@pytest.fixture(scope="session")
def rows(random_row) -> list[dict]:
    return [random_row(i, count) for i, count in enumerate(COUNTS)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory, rows, write_prepared) -> Path:
    parts = [rows[:3], rows[3:4], rows[4:]]
    place = tmp_path_factory.mktemp("prepared")
    return write_prepared(place, {"train": parts, "val": [rows[2:4]], "test": []})


@pytest.fixture(scope="session")
def reader(folder: Path) -> BlockReader:
    return BlockReader(folder, "train", ego_box_m=OFF)


def assert_holds(batch: Batch, rows: list[dict]) -> None:
    """Bit for bit, including the order."""
    assert batch.num_frames == len(rows)
    assert batch.counts().tolist() == [len(row["points"]) for row in rows]
    frames = batch.point_frame()
    for i, row in enumerate(rows):
        mine = frames == i
        assert np.array_equal(batch.image[i].permute(1, 2, 0).numpy(), row["image"])
        assert np.array_equal(batch.points[mine].numpy(), row["points"])
        assert np.array_equal(batch.point_class[mine].numpy(), row["point_class"])
        assert np.array_equal(batch.point_label[mine].numpy(), row["point_label"])
        assert batch.frame_label[i] == row["frame_label"]
        assert np.array_equal(batch.intrinsics[i].numpy(), row["intrinsics"].astype(np.float32))
        pose = row["camera_from_lidar"].reshape(4, 4).astype(np.float32)
        assert np.array_equal(batch.camera_from_lidar[i].numpy(), pose)


@settings(max_examples=60, deadline=None)
@given(chosen=st.lists(st.integers(0, len(COUNTS) - 1), max_size=9))
def test_frames_come_back_bit_for_bit_in_any_order(reader, rows, chosen):
    batch = reader.batch(chosen, augment_seed=None)
    assert_holds(batch, [rows[i] for i in chosen])
    assert batch.row.tolist() == chosen


@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.integers(0, 30), min_size=1, max_size=5))
def test_clouds_of_any_length_survive_shard_and_batch(
    tmp_path_factory, random_row, write_prepared, counts
):
    made = [random_row(i, count) for i, count in enumerate(counts)]
    place = write_prepared(tmp_path_factory.mktemp("any"), {"train": [made]})
    reader = BlockReader(place, "train", ego_box_m=OFF)
    assert_holds(reader.batch(range(len(made)), augment_seed=None), made)


def test_offsets_are_cumulative_counts(reader):
    batch = reader.batch([0, 1, 2], augment_seed=None)
    assert batch.point_offset.tolist() == [5, 5, 14]
    assert batch.point_frame().tolist() == [0] * 5 + [2] * 9


def test_a_batch_of_no_frames_is_legal(reader):
    batch = reader.batch([], augment_seed=(0, 0)).to("cpu")
    assert batch.image.shape == (0, 3, 6, 8)
    assert batch.points.shape == (0, 4)
    assert batch.camera_from_lidar.shape == (0, 4, 4)
    assert batch.counts().tolist() == []
    assert batch.point_frame().tolist() == []


def test_images_are_channels_last_in_memory(reader):
    image = reader.batch([0, 1], augment_seed=None).image
    assert image.is_contiguous(memory_format=torch.channels_last)


def test_rows_index_and_points_agree_with_the_metadata(reader, rows):
    assert reader.num_rows == len(rows) == len(reader.index)
    assert reader.shard_sizes == [3, 1, 3]
    assert reader.num_points.tolist() == COUNTS
    assert reader.index["frame_id"].tolist() == [row["frame_id"] for row in rows]


def test_splits_are_numbered_apart(folder, rows):
    reader = BlockReader(folder, "val", ego_box_m=OFF)
    assert_holds(reader.batch([0, 1], augment_seed=None), rows[2:4])


def test_a_split_without_shards_has_no_rows(folder):
    assert BlockReader(folder, "test", ego_box_m=OFF).num_rows == 0


def test_a_row_outside_the_split_is_an_error(reader):
    for row in (-1, len(COUNTS)):
        with pytest.raises(AssertionError):
            reader.batch([row], augment_seed=None)


def test_a_folder_that_is_not_prepared_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"has no manifest\.json: it is not prepared; run jobs"):
        BlockReader(tmp_path, "train", ego_box_m=OFF)


def test_a_torn_shard_is_refused_when_the_reader_opens(tmp_path, rows, write_prepared):
    place = write_prepared(tmp_path / "torn", {"train": [rows]})
    path = place / "train" / "shard-00000.arrow"
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(ValueError, match="is torn"):
        BlockReader(place, "train", ego_box_m=OFF)


@given(
    st.lists(st.tuples(*[st.floats(-9, 9, width=32)] * 4), max_size=30),
    st.floats(0.5, 5, width=32),
    st.floats(0.5, 5, width=32),
)
def test_outside_box_is_a_plain_test_of_x_and_y(points, length, width):
    array = np.array(points, dtype=np.float32).reshape(-1, 4)
    inside = [abs(x) <= length and abs(y) <= width for x, y, _, _ in array.tolist()]
    assert outside_box(array, (length, width)).tolist() == [not one for one in inside]


def test_points_in_the_ego_box_are_left_out_with_their_labels(folder, rows):
    box = (5.0, 2.5)
    batch = BlockReader(folder, "train", ego_box_m=box).batch([5, 2], augment_seed=None)
    for i, row in enumerate((rows[5], rows[2])):
        keep = outside_box(row["points"], box)
        assert 0 < keep.sum() < len(keep)
        mine = batch.point_frame() == i
        assert np.array_equal(batch.points[mine].numpy(), row["points"][keep])
        assert np.array_equal(batch.point_label[mine].numpy(), row["point_label"][keep])
        assert np.array_equal(batch.point_class[mine].numpy(), row["point_class"][keep])


def test_a_box_may_swallow_a_whole_cloud(folder, rows):
    batch = BlockReader(folder, "train", ego_box_m=(99.0, 99.0)).batch([5, 1], augment_seed=None)
    assert batch.num_frames == 2
    assert batch.counts().tolist() == [0, 0]


@pytest.mark.parametrize("box", [(0.0, 0.0), (0.0, 1.1), (2.6, 0.0)])
def test_a_box_without_area_leaves_every_point(folder, rows, box):
    batch = BlockReader(folder, "train", ego_box_m=box).batch([5], augment_seed=None)
    assert_holds(batch, [rows[5]])


def test_augmentation_is_the_frames_own_and_does_not_depend_on_companions(reader, rows):
    alone = reader.batch([2], augment_seed=(7, 1))
    together = reader.batch([5, 2, 0], augment_seed=(7, 1))
    assert torch.equal(alone.image[0], together.image[1])
    assert torch.equal(alone.points, together.points[together.point_frame() == 1])
    assert torch.equal(alone.intrinsics[0], together.intrinsics[1])
    assert torch.equal(alone.camera_from_lidar[0], together.camera_from_lidar[1])


def test_augmented_frames_are_what_the_pure_functions_say(reader, rows):
    row = rows[2]
    key = tuple(row[name] for name in ("archive", "scene_id", "frame_id", "pose"))
    for epoch in range(4):
        change = draw(seed=3, epoch=epoch, key=key, config=AugmentConfig())
        batch = reader.batch([2], augment_seed=(3, epoch))
        image = change_image(row["image"], change)
        assert np.array_equal(batch.image[0].permute(1, 2, 0).numpy(), image)
        assert np.array_equal(batch.points.numpy(), change_points(row["points"], change))
        assert np.array_equal(batch.point_label.numpy(), row["point_label"])


def test_a_batch_is_not_overwritten_while_it_is_held(reader, rows):
    held = [reader.batch([i, 2], augment_seed=None) for i in range(len(COUNTS))]
    for i, batch in enumerate(held):
        assert_holds(batch, [rows[i], rows[2]])


def test_one_tensor_of_a_batch_keeps_its_memory(reader, rows):
    points = reader.batch([5], augment_seed=None).points[2:]
    view = points.numpy()
    del points
    gc.collect()
    for i in range(len(COUNTS)):
        reader.batch([i], augment_seed=None)
    assert np.array_equal(view, rows[5]["points"][2:])


def test_memory_is_used_again_when_a_batch_is_gone(folder):
    reader = BlockReader(folder, "train", ego_box_m=OFF)
    addresses = {reader.batch([5], augment_seed=None).points.data_ptr() for _ in range(20)}
    assert len(addresses) == 1


def test_batches_can_be_written_to_without_touching_the_shards(folder, rows):
    reader = BlockReader(folder, "train", ego_box_m=OFF)
    batch = reader.batch([5], augment_seed=None)
    batch.points.zero_()
    batch.image.zero_()
    del batch
    assert_holds(reader.batch([5], augment_seed=None), [rows[5]])


def test_moving_a_batch_moves_every_tensor_and_leaves_the_offsets_on_the_host_as_well(reader):
    batch = reader.batch([0, 2], augment_seed=None).to("meta")
    tensors = {name: value for name, value in vars(batch).items() if value is not None}
    assert tensors.keys() == vars(batch).keys() - {"pixel_label", "voxels"}
    assert tensors.pop("classes") == reader.manifest.dataset.classes
    assert tensors.pop("host_offset").tolist() == [COUNTS[0], COUNTS[0] + COUNTS[2]]
    assert batch.sizes() == [COUNTS[0], COUNTS[2]]
    assert {tensor.device.type for tensor in tensors.values()} == {"meta"}
    assert {id(tensor) for tensor in batch.tensors()} == {id(tensor) for tensor in tensors.values()}


@pytest.mark.parametrize("size", [1, 3, 6])
def test_parts_of_a_batch_hold_its_frames_in_order(reader: BlockReader, rows, size: int):
    batch = reader.batch(range(len(COUNTS)), augment_seed=None).to("cpu")
    parts = batch.parts(size)
    for first, part in zip(range(0, len(COUNTS), size), parts, strict=True):
        assert_holds(part, rows[first : first + size])
        assert part.sizes() == COUNTS[first : first + size]
        assert part.host_offset is not None
        assert part.host_offset.tolist() == part.point_offset.tolist()


def test_a_batch_that_is_small_enough_is_its_only_part(reader: BlockReader):
    batch = reader.batch([0, 1], augment_seed=None)
    assert batch.parts(2)[0] is batch
    assert len(reader.batch([], augment_seed=None).parts(1)) == 1
