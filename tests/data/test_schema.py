"""Rows survive the trip through Arrow bit for bit, whatever their lengths."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.schema import METADATA_NAMES, ROW, fixed, ragged, to_block, value_type

lengths = st.lists(st.integers(0, 40), max_size=5)
RAGGED = ("image", "points", "point_class", "point_label", "point_voxel", "voxels")


def assert_rows_equal(block: pa.RecordBatch, rows: list[dict]) -> None:
    for name in RAGGED:
        values, offsets = ragged(block, name)
        for i, row in enumerate(rows):
            part = values[offsets[i] : offsets[i + 1]]
            assert part.dtype == row[name].dtype
            assert np.array_equal(part.reshape(row[name].shape), row[name])
    for name in ("intrinsics", "camera_from_lidar", "world_from_lidar", "voxel_from_lidar"):
        for found, row in zip(fixed(block, name), rows, strict=True):
            assert np.array_equal(found, row[name])
    for i, row in enumerate(rows):
        assert block.column("pixel_label")[i].as_py() == row["pixel_label"]
    found = block.select(METADATA_NAMES).to_pylist()
    expected = [{name: row[name] for name in METADATA_NAMES} for row in rows]
    assert repr(found) == repr(expected)  # repr: NaN equals itself


@settings(max_examples=40, deadline=None)
@given(lengths)
def test_rows_come_back_from_a_block_bit_for_bit(random_row, counts):
    rows = [random_row(i, count) for i, count in enumerate(counts)]
    block = to_block(rows)
    block.validate(full=True)
    assert block.schema.equals(ROW, check_metadata=True)
    assert_rows_equal(block, rows)


@pytest.mark.parametrize("counts", [[0], [0, 0], [5], [7, 7, 7], []])
def test_empty_and_equal_clouds_have_the_same_schema_as_any_other(random_row, counts):
    rows = [random_row(i, count) for i, count in enumerate(counts)]
    block = to_block(rows)
    assert block.schema.equals(ROW, check_metadata=True)
    assert_rows_equal(block, rows)


def test_ragged_values_are_views_of_the_block(random_row):
    block = to_block([random_row(0, 5), random_row(1, 9)])
    values, _ = ragged(block, "points")
    buffer = block.column("points").values.values.buffers()[1]
    assert values.ctypes.data == buffer.address
    assert not values.flags.writeable


def test_an_array_of_another_type_is_not_converted_in_silence(random_row):
    row = random_row(0, 3)
    with pytest.raises(AssertionError, match="points"):
        to_block([row | {"points": row["points"].astype(np.float64)}])


def test_a_missing_column_is_an_error(random_row):
    row = random_row(0, 3)
    del row["weather"]
    with pytest.raises(KeyError, match="weather"):
        to_block([row])


def test_every_column_says_what_it_is():
    assert all((field.metadata or {}).get(b"description") for field in ROW)
    assert not any(field.nullable for field in ROW)


def test_value_types_are_those_of_the_files():
    assert value_type(ROW.field("points").type) == (np.dtype(np.float32), 4)
    assert value_type(ROW.field("voxels").type) == (np.dtype(np.uint16), 4)
    assert value_type(ROW.field("image").type) == (np.dtype(np.uint8), 1)
