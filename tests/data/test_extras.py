"""Pixel labels and voxels come where they are asked for, stay right, and cost nothing elsewhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.data import AugmentConfig, PrepareConfig
from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.batch import Batch, Voxels
from pipeline.data.block_reader import BlockReader
from pipeline.data.frames import columns_of, outside_box
from pipeline.data.pixels import cell_balance, stored_label
from pipeline.data.prepare.rows import encode_png
from pipeline.data.schema import ARRAYS
from pipeline.data.stream import StreamReader, stream_columns, stream_dataset
from pipeline.datasets.anovox.geometry import GRID_OFFSET_M, VOXEL_SIZE_M, voxelise

COUNTS = [40, 0, 90, 7]
OFF, BOX = (0.0, 0.0), (3.0, 2.0)
PREPARE = PrepareConfig(image_width=8, image_crop=[0.0, 1.0])
POSE = np.array([[1.0, 0, 0, 0.3], [0, 1, 0, -0.2], [0, 0, 1, -1.8], [0, 0, 0, 1]])


def whole_row(random_row, number: int, num_points: int) -> dict:
    """A row whose voxels and pixel labels are those of its points and image."""
    row = random_row(number, num_points)
    rng = np.random.default_rng(number)
    # The stored cloud is noisy: voxels are those of the exact one.
    exact = row["points"][:, :3] + rng.normal(0, 0.1, (num_points, 3))
    voxels, own = voxelise(exact, row["point_class"], voxel_from_lidar=POSE)
    own[rng.random(num_points) < 0.1] = -1
    recorded = rng.choice([0, 1, 255], (12, 16), p=[0.9, 0.05, 0.05]).astype(np.uint8)
    return row | {
        "voxels": voxels,
        "point_voxel": own.astype(np.int32),
        "voxel_from_lidar": POSE.reshape(16),
        "pixel_label": encode_png(recorded),
        "recorded": recorded,
    }


@pytest.fixture(scope="module")
def rows(random_row) -> list[dict]:
    return [whole_row(random_row, i, count) for i, count in enumerate(COUNTS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, rows, write_prepared) -> Path:
    place = tmp_path_factory.mktemp("extras")
    return write_prepared(place, {"train": [rows[:3], rows[3:]]}, PREPARE)


def read(folder: Path, *extras, ego_box_m=OFF, **settings) -> BlockReader:
    return BlockReader(folder, "train", ego_box_m=ego_box_m, extras=extras, **settings)


def voxels_of(batch: Batch) -> Voxels:
    assert batch.voxels is not None
    return batch.voxels


def labels_of(batch: Batch) -> torch.Tensor:
    assert batch.pixel_label is not None
    return batch.pixel_label


def classes_of_points(batch: Batch, frame: int) -> list[int]:
    """Class of the voxel of each point of a frame, 256 where no voxel holds it."""
    own = voxels_of(batch).of_point[batch.point_frame() == frame].long()
    classes = torch.cat([voxels_of(batch).cells[:, 3], torch.tensor([256])])
    return classes[own].tolist()


def expected_classes(row: dict, keep: Any = slice(None)) -> list[int]:
    classes = np.append(row["voxels"][:, 3].astype(int), 256)
    return classes[row["point_voxel"][keep]].tolist()


def test_pixel_labels_are_those_of_each_stored_image(folder, rows):
    batch = read(folder, "pixels").batch([2, 0, 1], augment_seed=None)
    for i, row in enumerate((rows[2], rows[0], rows[1])):
        expected = stored_label(row["recorded"], PREPARE)
        np.testing.assert_array_equal(labels_of(batch)[i].numpy(), expected)
    assert batch.voxels is None


def test_voxels_come_frame_by_frame_and_every_point_knows_its_own(folder, rows):
    batch = read(folder, "voxels").batch([2, 1, 0], augment_seed=None)
    assert batch.pixel_label is None
    chosen = (rows[2], rows[1], rows[0])
    cells = np.concatenate([row["voxels"] for row in chosen]).astype(np.int32)
    np.testing.assert_array_equal(voxels_of(batch).cells.numpy(), cells)
    assert (
        voxels_of(batch).offset.tolist() == np.cumsum([len(r["voxels"]) for r in chosen]).tolist()
    )
    for i, row in enumerate(chosen):
        assert classes_of_points(batch, i) == expected_classes(row)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), voxels_of(batch).offset])
    own, frame = voxels_of(batch).of_point, batch.point_frame()
    held = own >= 0
    assert (own[held] >= starts[frame][held]).all()
    assert (own[held] < starts[frame + 1][held]).all()


def test_what_is_left_out_of_a_cloud_is_left_out_of_the_mapping(folder, rows):
    batch = read(folder, "voxels", ego_box_m=BOX).batch([2, 0], augment_seed=None)
    for i, row in enumerate((rows[2], rows[0])):
        keep = outside_box(row["points"], BOX)
        assert 0 < keep.sum() < len(keep)
        assert classes_of_points(batch, i) == expected_classes(row, keep)


@pytest.mark.parametrize(
    "augmentation",
    [AugmentConfig(), AugmentConfig(point_dropout=0.5, rotation_rad=0.7, scale=0.1)],
)
def test_augmentation_moves_points_and_grid_together(folder, augmentation):
    """Every point lies where it lay in its grid, whether mirrored, turned or thinned."""
    plain = read(folder, "voxels").batch([2], augment_seed=None)
    reader = read(folder, "voxels", augmentation=augmentation)
    where = {point_in_grid(plain, i): class_of(plain, i) for i in range(len(plain.points))}
    mirrored = 0
    for epoch in range(6):
        changed = reader.batch([2], augment_seed=(1, epoch))
        mirrored += voxels_of(changed).voxel_from_lidar[0, 1, 1] < 0
        found = [point_in_grid(changed, i) for i in range(len(changed.points))]
        assert [where[place] for place in found] == [
            class_of(changed, i) for i in range(len(found))
        ]
    assert 0 < mirrored < 6


def point_in_grid(batch: Batch, point: int) -> tuple[float, ...]:
    pose = voxels_of(batch).voxel_from_lidar[0].double()
    place = pose[:3, :3] @ batch.points[point, :3].double() + pose[:3, 3]
    return tuple(round(value, 3) + 0.0 for value in place.tolist())


def class_of(batch: Batch, point: int) -> int:
    return classes_of_points(batch, 0)[point]


def test_an_exact_point_lies_in_its_cell(folder, rows):
    """The documented corner of a cell is where its points are, within the cloud's noise."""
    batch = read(folder, "voxels").batch([2], augment_seed=None)
    held = voxels_of(batch).of_point >= 0
    corner = voxels_of(batch).cells[voxels_of(batch).of_point[held].long(), :3] * VOXEL_SIZE_M
    corner = corner - torch.tensor(GRID_OFFSET_M)
    pose = voxels_of(batch).voxel_from_lidar[0]
    inside = batch.points[held][:, :3] @ pose[:3, :3].T + pose[:3, 3] - corner
    assert ((inside > -0.5) & (inside < 1.0)).all()
    assert inside.mean().item() == pytest.approx(VOXEL_SIZE_M / 2, abs=0.06)


def test_a_mirrored_frame_mirrors_its_pixel_labels(folder):
    reader = read(folder, "pixels")
    plain = reader.batch([2], augment_seed=None)
    flips = 0
    for epoch in range(6):
        batch = reader.batch([2], augment_seed=(0, epoch))
        flipped = bool(batch.intrinsics[0, 2] != plain.intrinsics[0, 2])
        expected = labels_of(plain).flip(2) if flipped else labels_of(plain)
        assert torch.equal(labels_of(batch), expected)
        flips += int(flipped)
    assert 0 < flips < 6


def test_past_clouds_have_no_voxels(tmp_path, random_row, write_prepared):
    rows = [whole_row(random_row, 3 * i, 30) | {"frame_index": i} for i in range(3)]
    rows = [row | {"world_from_lidar": np.eye(4).reshape(16)} for row in rows]
    place = write_prepared(tmp_path / "window", {"train": [rows]}, PREPARE)
    batch = read(place, "voxels", num_sweeps=3).batch([2, 0], augment_seed=None)
    past = batch.points[:, 4] < 0
    assert past.sum() == 60
    assert (voxels_of(batch).of_point[past] == -1).all()
    current = batch.without_past()
    assert classes_of_points(current, 0) == expected_classes(rows[2])
    assert classes_of_points(current, 1) == expected_classes(rows[0])


def test_a_batch_of_no_frames_has_empty_extras(folder):
    batch = read(folder, "pixels", "voxels").batch([], augment_seed=(0, 0)).to("cpu")
    assert labels_of(batch).shape == (0, 6, 8)
    assert voxels_of(batch).cells.shape == (0, 4)
    assert voxels_of(batch).of_point.shape == (0,)
    assert voxels_of(batch).voxel_from_lidar.shape == (0, 4, 4)


def test_moving_a_batch_moves_its_extras(folder):
    batch = read(folder, "pixels", "voxels").batch([0, 2], augment_seed=None).to("meta")
    assert labels_of(batch).device.type == "meta"
    voxels = vars(voxels_of(batch))
    assert {voxels[name].device.type for name in voxels.keys() - {"grid"}} == {"meta"}


def test_what_is_not_asked_for_is_neither_read_nor_decoded(folder, tmp_path, rows, write_prepared):
    """Labels that no decoder could read do no harm to a reader that leaves them out."""
    damaged = [row | {"pixel_label": b"no image"} for row in rows]
    place = write_prepared(tmp_path / "damaged", {"train": [damaged]}, PREPARE)
    batch = read(place).batch([0, 2], augment_seed=None)
    assert (batch.pixel_label, batch.voxels) == (None, None)
    frames = read(place)._frames
    assert {frame[4:] for frame in frames} == {(None, None, None)}
    with pytest.raises(ValueError, match=r"pixel labels of .* 995 .* are damaged"):
        read(place, "pixels").batch([0], augment_seed=None)


def test_columns_are_read_selectively(folder):
    assert columns_of(()) == ("image", "points", "point_class", "point_label")
    assert set(stream_columns(("pixels", "voxels"))) < {field.name for field in ARRAYS}
    assert "voxel_from_lidar" not in stream_columns(("pixels",))


def test_the_stream_brings_the_same_extras(folder, ray_session: None):
    config = merge(Config(), {"data": {"ego_box_m": list(BOX)}})
    extras = ("pixels", "voxels")
    dataset = stream_dataset(config, folder, extras=extras)
    schema: Any = dataset.schema()
    assert set(schema.names) == {*stream_columns(extras), "row"}
    reader = StreamReader(config, folder, dataset.iterator(), rank=0, extras=extras)
    frames = list(reader.frames(0))
    batch = reader.batch(frames, augment_seed=(0, 1))
    order = batch.row.tolist()
    assert sorted(order) == [0, 1, 2, 3]
    expected = read(folder, *extras, ego_box_m=BOX).batch(order, augment_seed=(0, 1))
    assert torch.equal(labels_of(batch), labels_of(expected))
    ours, theirs = vars(voxels_of(batch)), vars(voxels_of(expected))
    assert ours.pop("grid") == theirs.pop("grid")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_both_readers_find_the_same_balance_of_cells(folder, rows, ray_session: None):
    config = Config()
    streamed = StreamReader(config, folder, _no_iterator(), rank=0, extras=("pixels",))
    found = read(folder, "pixels").cell_balance(stride=2)
    assert streamed.cell_balance(stride=2) == found
    labels = [stored_label(row["recorded"], PREPARE) for row in rows]
    assert found == cell_balance(labels, stride=2)


def _no_iterator() -> Any:
    """What counting cells does not need."""
