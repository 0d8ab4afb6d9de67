"""The columns of a block, written once: one row is one frame of one pose.

The schema is explicit, so a block that holds one frame, or frames of equal size, has the same
types as any other. Arrays of varying length are large lists: their values lie in one buffer per
shard, and a memory-mapped row is a view of it. Nothing is nullable: the anomaly columns of
normality frames hold empty strings and NaN.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config.data import PrepareConfig

SCHEMA_VERSION = 2
"""Raised when the meaning of a column changes; blocks of another version are prepared again."""

SPLITS = ("train", "val", "test")


def _field(name: str, kind: pa.DataType, says: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"description": says})


def _values(kind: pa.DataType) -> pa.Field:
    return pa.field("item", kind, nullable=False)


def _ragged(kind: pa.DataType, width: int = 1) -> pa.DataType:
    if width == 1:
        return pa.large_list(_values(kind))
    return pa.large_list(_values(pa.list_(_values(kind), width)))


def _fixed(width: int) -> pa.DataType:
    return pa.list_(_values(pa.float64()), width)


METADATA = (
    _field("archive", pa.string(), "key: archive name"),
    _field("scene_id", pa.string(), "key: scene uuid"),
    _field("frame_id", pa.int64(), "key: CARLA frame counter"),
    _field("pose", pa.string(), "key: sensor mount, location (m) and rotation (degrees)"),
    _field("frame_index", pa.int32(), "ticks since the scene's first; never a model input"),
    _field("time_s", pa.float64(), "seconds since the scene's first tick; never a model input"),
    _field("kind", pa.string(), "normality, static, dynamic"),
    _field("town", pa.string(), "CARLA map"),
    _field("weather", pa.string(), "CARLA preset or unknown"),
    _field("image_height", pa.int32(), "px, as stored"),
    _field("image_width", pa.int32(), "px, as stored"),
    _field("num_points", pa.int32(), "points of the cloud"),
    _field("num_ignored_points", pa.int32(), "points with point_label 255"),
    _field("num_anomaly_points", pa.int32(), "points with point_label 1"),
    _field("num_anomaly_pixels", pa.int32(), "anomalous pixels at the original image size"),
    _field("num_anomaly_voxels", pa.int32(), "anomalous voxels"),
    _field("frame_label", pa.uint8(), "0 normal, 1 anomalous, 255 ignore"),
    _field("label_rule", pa.string(), "ids, kinematics, window_guess (all labels 255)"),
    _field("anomaly_type", pa.string(), "blueprint of the object placed, seen or not"),
    _field("anomaly_category", pa.string(), "of the object placed, seen or not"),
    _field("anomaly_phase", pa.string(), "braking, standing; or empty outside a braking window"),
    _field("anomaly_size", pa.string(), "tiny, small, medium, big, huge; or empty"),
    _field("anomaly_distance_m", pa.float64(), "range of the object from the LiDAR, m"),
)

ARRAYS = (
    _field("image", _ragged(pa.uint8()), "height x width x 3 RGB, row-major"),
    _field("intrinsics", _fixed(4), "fx, fy, cx, cy in px of the stored image"),
    _field(
        "camera_from_lidar", _fixed(16), "4x4 row-major, m; camera is X right, Y down, Z forward"
    ),
    _field("world_from_lidar", _fixed(16), "4x4 row-major, m; world is right-handed, z up"),
    _field(
        "points",
        _ragged(pa.float32(), 4),
        "x forward, y left, z up in m (LiDAR frame), intensity 0 to 1",
    ),
    _field("point_class", _ragged(pa.uint8()), "AnoVox class id"),
    _field("point_label", _ragged(pa.uint8()), "0 normal, 1 anomalous, 255 ignore"),
    _field("point_voxel", _ragged(pa.int32()), "row of voxels that holds the point, -1 if none"),
    _field("voxels", _ragged(pa.uint16(), 4), "vx, vy, vz (cells of 0.5 m), class id"),
    _field(
        "voxel_from_lidar",
        _fixed(16),
        "4x4 row-major, m; to the axes in which voxel indices are taken",
    ),
    _field("pixel_label", pa.large_binary(), "PNG, original size: 0, 1, 255"),
    _field("semantic", pa.large_binary(), "PNG as recorded, original size: AnoVox class ids"),
    _field("depth", pa.large_binary(), "PNG as recorded, original size: 24-bit depth code"),
)

OTHER_FORMATS = {
    "png": _field("image", pa.large_binary(), "PNG of height x width x 3 RGB"),
    "jpeg": _field("image", pa.large_binary(), "JPEG of height x width x 3 RGB"),
    "int16_cm": _field(
        "points",
        _ragged(pa.int16(), 4),
        "x forward, y left, z up in cm (LiDAR frame), intensity x 32767",
    ),
}
"""The columns that `prepare.image` and `prepare.points` store otherwise than above."""


def row_schema(config: PrepareConfig) -> pa.Schema:
    """Columns of the shards that this prepare section writes."""
    other = {"image": config.image, "points": config.points}
    fields = [OTHER_FORMATS.get(other.get(f.name, ""), f) for f in (*METADATA, *ARRAYS)]
    return pa.schema(fields, metadata={"schema_version": str(SCHEMA_VERSION)})


ROW = row_schema(PrepareConfig())
METADATA_NAMES = tuple(field.name for field in METADATA)


def to_block(rows: Sequence[Mapping[str, Any]], schema: pa.Schema = ROW) -> pa.RecordBatch:
    """Rows (NumPy arrays, bytes and plain scalars by column name) as one Arrow block."""
    return pa.record_batch([_column(field, rows) for field in schema], schema=schema)


def _column(field: pa.Field, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    cells = [row[field.name] for row in rows]
    if pa.types.is_large_list(field.type):
        return _ragged_array(field, cells)
    if pa.types.is_fixed_size_list(field.type):
        numbers = np.asarray(cells, dtype=np.float64).reshape(-1)
        return pa.FixedSizeListArray.from_arrays(pa.array(numbers), type=field.type)
    return pa.array(cells, type=field.type)


def _ragged_array(field: pa.Field, cells: Sequence[np.ndarray]) -> pa.Array:
    kind, width = value_type(field.type)
    for cell in cells:
        assert cell.dtype == kind, (field.name, cell.dtype, kind)
        assert width == 1 or cell.shape[1:] == (width,), (field.name, cell.shape)
    lengths = [cell.size // width for cell in cells]
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    flat = np.concatenate([cell.reshape(-1) for cell in cells] or [np.empty(0, kind)])
    values = pa.array(flat)
    if width > 1:
        values = pa.FixedSizeListArray.from_arrays(values, type=field.type.value_type)
    return pa.LargeListArray.from_arrays(pa.array(offsets), values, type=field.type)


def value_type(kind: pa.DataType) -> tuple[np.dtype, int]:
    """NumPy type and width of the values of a ragged column, e.g. (float32, 4) for points."""
    inner = kind.value_type
    if pa.types.is_fixed_size_list(inner):
        return np.dtype(inner.value_type.to_pandas_dtype()), inner.list_size
    return np.dtype(inner.to_pandas_dtype()), 1


def ragged(block: pa.RecordBatch, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A column of lists or bytes without copying: flat values, offsets (rows + 1,) into them.

    Row i is `values[offsets[i]:offsets[i + 1]]`, flattened. The values are read-only.
    """
    column = block.column(name)
    if pa.types.is_large_binary(column.type):
        return _bytes(column)
    _, width = value_type(column.type)
    values = column.values.values if width > 1 else column.values
    return values.to_numpy(zero_copy_only=True), column.offsets.to_numpy() * width


def _bytes(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    _, offsets, values = column.buffers()
    if len(column) == 0:
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    bounds = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(values or b"", np.uint8), bounds


def fixed(block: pa.RecordBatch, name: str) -> np.ndarray:
    """A column of fixed-size lists as float64 (rows, width), without copying."""
    column = block.column(name)
    values = column.flatten().to_numpy(zero_copy_only=True)
    return values.reshape(len(column), column.type.list_size)
