"""One stored frame on its way into a batch: decoded, freed of ego returns, changed.

Frames are read-only views of a shard as long as nothing has to change them; what changes them
makes copies.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32

from pipeline.config.data import PrepareConfig
from pipeline.data.decoding import decode_stored
from pipeline.data.encoding import decode_points
from pipeline.data.pixels import decode_label
from pipeline.data.schema import ragged
from pipeline.data.transforms import augment
from pipeline.data.transforms.augment import Augmentation

KINDS = {
    "image": np.dtype(np.uint8),
    "points": np.dtype(np.float32),
    "point_class": np.dtype(np.uint8),
    "point_label": np.dtype(np.uint8),
    "pixel_label": np.dtype(np.uint8),
    "point_voxel": np.dtype(np.int32),
    "voxels": np.dtype(np.int32),
}
"""Types of a frame's arrays in a batch."""
Extra = Literal["pixels", "voxels"]
EXTRA_COLUMNS: dict[Extra, tuple[str, ...]] = {
    "pixels": ("pixel_label",),
    "voxels": ("point_voxel", "voxels"),
}
"""Arrays that a frame has only where they are asked for, by the name to ask with."""
CORE = tuple(name for name in KINDS if not any(name in names for names in EXTRA_COLUMNS.values()))
"""Arrays that every frame has."""
OF_POINTS = ("points", "point_class", "point_label", "point_voxel")
"""Arrays with a row per point."""
NO_VOXEL = -1
"""In `point_voxel`, of points that no voxel holds."""
Key = tuple[str, str, int, str]
"""archive, scene_id, frame_id, pose."""


class StoredFrame(NamedTuple):
    """One frame's large arrays: read-only views of a shard, or changed copies."""

    image: np.ndarray
    """uint8 (1, H, W, 3), or (N,) as long as it is a PNG or JPEG file."""
    points: np.ndarray
    """float32 (P, 4), int16 (P, 4) until decoded, or float32 (P, 5) with relative time in s."""
    point_class: np.ndarray
    point_label: np.ndarray
    pixel_label: np.ndarray | None = None
    """uint8 (1, H, W), or (N,) as long as it is a PNG file; None unless asked for."""
    point_voxel: np.ndarray | None = None
    """int32 (P,): row of `voxels`, or -1; None unless asked for."""
    voxels: np.ndarray | None = None
    """uint16 (V, 4): vx, vy, vz, class id; None unless asked for."""


def columns_of(extras: Iterable[Extra]) -> tuple[str, ...]:
    """Columns of large arrays that frames with these extras are made of."""
    return (*CORE, *(name for extra in extras for name in EXTRA_COLUMNS[extra]))


class BlockFrames(Sequence[StoredFrame]):
    """Views of the rows of a block, each made when it is asked for."""

    def __init__(
        self,
        block: pa.RecordBatch,
        image_shape: tuple[int, int, int],
        extras: Iterable[Extra] = (),
    ) -> None:
        is_raw = pa.types.is_large_list(block.schema.field("image").type)
        shapes = {"image": image_shape if is_raw else (), "points": (4,), "voxels": (4,)}
        self._num_rows = block.num_rows
        self._columns = {
            name: _cells(*ragged(block, name), shape=shapes.get(name, ()))
            for name in columns_of(extras)
        }

    def __len__(self) -> int:
        return self._num_rows

    def __getitem__(self, row: int) -> StoredFrame:  # type: ignore[override]  no slices
        if not 0 <= row < self._num_rows:
            raise IndexError(row)
        cells = {
            name: values[offsets[row] : offsets[row + 1]]
            for name, (values, offsets) in self._columns.items()
        }
        return StoredFrame(**cells)


def _cells(
    values: np.ndarray, offsets: np.ndarray, *, shape: tuple[int, ...]
) -> tuple[np.ndarray, list[int]]:
    """Flat values as items of a shape, and offsets that count these.

    A list, since Python takes three times as long to slice by NumPy's numbers.
    """
    return values.reshape(-1, *shape), (offsets // math.prod(shape)).tolist()


def with_pixels(frame: StoredFrame, image_shape: tuple[int, int, int], key: Key) -> StoredFrame:
    """The frame with its image as pixels; ValueError when the stored file is damaged."""
    if frame.image.ndim > 1:
        return frame
    image = decode_stored(frame.image, shape=image_shape, place=" ".join(map(str, key)))
    return frame._replace(image=image[None])


def with_pixel_label(
    frame: StoredFrame, image_shape: tuple[int, int, int], prepare: PrepareConfig, key: Key
) -> StoredFrame:
    """The frame with the labels of its stored pixels, if it has any; ValueError when damaged."""
    if frame.pixel_label is None:
        return frame
    label = decode_label(
        frame.pixel_label, prepare=prepare, shape=image_shape[:2], place=" ".join(map(str, key))
    )
    return frame._replace(pixel_label=label[None])


def cloud_of(frame: StoredFrame, ego_box_m: Sequence[float] | None) -> StoredFrame:
    """The frame with its points in float32 metres and none inside the box of ego returns."""
    frame = in_metres(frame)
    if ego_box_m is None or len(frame.points) == 0:
        return frame
    return kept(frame, outside_box(frame.points, ego_box_m))


def in_metres(frame: StoredFrame) -> StoredFrame:
    """The frame with its points in float32 metres."""
    if frame.points.dtype != np.int16:
        return frame
    return frame._replace(points=decode_points(frame.points))


def outside_box(
    points: Float32[np.ndarray, "P 4"], half_size_m: Sequence[float]
) -> Bool[np.ndarray, "P"]:
    """True outside the upright box of half length (x) and half width (y) around the LiDAR."""
    half_length, half_width = half_size_m
    return (np.abs(points[:, 0]) > half_length) | (np.abs(points[:, 1]) > half_width)


def kept(frame: StoredFrame, keep: Bool[np.ndarray, "P"]) -> StoredFrame:
    """The frame with those of its points (at least one there) that `keep` marks, and labels."""
    packed = np.packbits(keep, bitorder="little")
    mask = pa.Array.from_buffers(pa.bool_(), len(keep), [None, pa.py_buffer(packed)])
    arrays = {name: getattr(frame, name) for name in OF_POINTS}
    there = {name: array for name, array in arrays.items() if array is not None}
    return frame._replace(**{name: _rows_kept(array, mask) for name, array in there.items()})


def _rows_kept(array: np.ndarray, mask: pa.Array) -> np.ndarray:
    """Rows where `mask` is true; Arrow copies whole runs, three times as quick as NumPy here."""
    rows = pa.binary(array.nbytes // len(array))
    buffers = [None, pa.py_buffer(array)]
    chosen = pa.Array.from_buffers(rows, len(array), buffers).filter(mask)
    shape = (len(chosen), *array.shape[1:])
    values = np.frombuffer(chosen.buffers()[1], dtype=array.dtype, count=math.prod(shape))
    return values.reshape(shape)


def augmented(frame: StoredFrame, change: Augmentation) -> StoredFrame:
    """Image, points and labels changed together.

    Which voxel holds a point stays as it is; `augment.change_pose` takes the voxels' pose along.
    """
    changed = frame._replace(
        image=augment.change_image(frame.image[0], change)[None],
        points=augment.change_points(frame.points, change),
    )
    if frame.pixel_label is not None and change.flip:
        changed = changed._replace(pixel_label=frame.pixel_label[:, :, ::-1])
    if change.point_dropout and len(changed.points):
        changed = kept(changed, augment.kept_points(len(changed.points), change))
    return changed
