"""One stored frame on its way into a batch: decoded, freed of ego returns, changed, joined.

Frames are read-only views of a shard as long as nothing has to change them; what changes them
makes copies.
"""

import itertools
import math
import weakref
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Float32

from pipeline.data import augment
from pipeline.data.decoding import decode_stored
from pipeline.data.encoding import decode_points
from pipeline.data.schema import ragged
from pipeline.data_config import AugmentConfig

KINDS = tuple(np.dtype(kind) for kind in (np.uint8, np.float32, np.uint8, np.uint8))
"""Types of image, points, point_class and point_label in a batch."""
ALIGNMENT = 64
"""Bytes; each tensor of a batch starts at a cache line."""
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


def frames_of(block: pa.RecordBatch, image_shape: tuple[int, int, int]) -> list[StoredFrame]:
    """Views of every row of a block."""
    is_raw = pa.types.is_large_list(block.schema.field("image").type)
    tails = ((1, *image_shape) if is_raw else (-1,), (-1, 4), (-1,), (-1,))
    columns = []
    for name, tail in zip(StoredFrame._fields, tails, strict=True):
        values, offsets = ragged(block, name)
        bounds = itertools.pairwise(offsets.tolist())
        columns.append([values[start:stop].reshape(tail) for start, stop in bounds])
    return [StoredFrame(*cells) for cells in zip(*columns, strict=True)]


def with_pixels(frame: StoredFrame, image_shape: tuple[int, int, int], key: Key) -> StoredFrame:
    """The frame with its image as pixels; ValueError when the stored file is damaged."""
    if frame.image.ndim > 1:
        return frame
    image = decode_stored(frame.image, shape=image_shape, place=" ".join(map(str, key)))
    return frame._replace(image=image[None])


def cloud_of(frame: StoredFrame, ego_box_m: Sequence[float] | None) -> StoredFrame:
    """The frame with its points in float32 metres and none inside the box of ego returns."""
    if frame.points.dtype == np.int16:
        frame = frame._replace(points=decode_points(frame.points))
    if ego_box_m is None or len(frame.points) == 0:
        return frame
    return kept(frame, outside_box(frame.points, ego_box_m))


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
    points, point_class, point_label = (_rows_kept(array, mask) for array in frame[1:])
    return StoredFrame(frame.image, points, point_class, point_label)


def _rows_kept(array: np.ndarray, mask: pa.Array) -> np.ndarray:
    """Rows where `mask` is true; Arrow copies whole runs, three times as quick as NumPy here."""
    rows = pa.binary(array.nbytes // len(array))
    buffers = [None, pa.py_buffer(array)]
    chosen = pa.Array.from_buffers(rows, len(array), buffers).filter(mask)
    shape = (len(chosen), *array.shape[1:])
    values = np.frombuffer(chosen.buffers()[1], dtype=array.dtype, count=math.prod(shape))
    return values.reshape(shape)


def augmented(
    frame: StoredFrame,
    intrinsics: Float[np.ndarray, "4"],
    camera_from_lidar: Float[np.ndarray, "4 4"],
    *,
    config: AugmentConfig,
    seed: tuple[int, int],
    key: Key,
) -> tuple[StoredFrame, Float[np.ndarray, "4"], Float[np.ndarray, "4 4"]]:
    """Image, points, labels and calibration changed together; `seed` is (seed, epoch)."""
    change = augment.draw(seed=seed[0], epoch=seed[1], key=key, config=config)
    image = augment.change_image(frame.image[0], change)
    calibration = augment.change_calibration(
        intrinsics, camera_from_lidar, change, width_px=image.shape[1]
    )
    points = augment.change_points(frame.points, change)
    changed = frame._replace(image=image[None], points=points)
    if change.point_dropout and len(points):
        changed = kept(changed, augment.kept_points(len(points), change))
    return changed, *calibration


def joined(
    frames: Sequence[StoredFrame],
    memory: "Memory",
    *,
    image_shape: tuple[int, int, int],
    num_columns: int,
) -> list[np.ndarray]:
    """The frames' arrays, each kind concatenated along its first axis, in one buffer."""
    num_points = sum(len(frame.points) for frame in frames)
    shapes = (
        (len(frames), *image_shape),
        (num_points, num_columns),
        (num_points,),
        (num_points,),
    )
    sizes = [math.prod(shape) * KINDS[column].itemsize for column, shape in enumerate(shapes)]
    ends = list(itertools.accumulate(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes))
    place = memory.take(ends[-1])
    arrays = []
    for column, (start, size) in enumerate(zip([0, *ends], sizes, strict=False)):
        array = place[start : start + size].view(KINDS[column]).reshape(shapes[column])
        if frames:
            np.concatenate([frame[column] for frame in frames], out=array)
        arrays.append(array)
    return arrays


class Memory:
    """Buffers, each lent to the tensors of one batch at a time."""

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    def take(self, size: int) -> np.ndarray:
        """Bytes (size,) that no living array or tensor uses; their content is arbitrary.

        Views of the result, and tensors made of those, keep it alive, and its end frees the
        buffer. The memoryview matters: NumPy looks through arrays to the one that owns the
        memory, and would let views of the result hold that one instead.
        """
        while self._free:
            buffer = self._free.pop()
            if len(buffer) >= size:
                break
        else:
            # A quarter more than needed, so that somewhat larger batches fit as well.
            buffer = np.empty(size + size // 4, dtype=np.uint8)
        lent = np.frombuffer(buffer.data, dtype=np.uint8, count=size)
        weakref.finalize(lent, self._free.append, buffer).atexit = False
        return lent
