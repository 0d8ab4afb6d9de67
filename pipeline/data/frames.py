"""One stored frame on its way into a batch: decoded, freed of ego returns, changed, joined.

Frames are read-only views of a shard as long as nothing has to change them; what changes them
makes copies.
"""

import itertools
import math
import weakref
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Float32

from pipeline.data import augment
from pipeline.data.decoding import decode_stored
from pipeline.data.encoding import decode_points
from pipeline.data.pixels import decode_label
from pipeline.data.schema import ragged
from pipeline.data_config import AugmentConfig, PrepareConfig

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
    pixel_label: np.ndarray | None = None
    """uint8 (1, H, W), or (N,) as long as it is a PNG file; None unless asked for."""
    point_voxel: np.ndarray | None = None
    """int32 (P,): row of `voxels`, or -1; None unless asked for."""
    voxels: np.ndarray | None = None
    """uint16 (V, 4): vx, vy, vz, class id; None unless asked for."""


def columns_of(extras: Iterable[Extra]) -> tuple[str, ...]:
    """Columns of large arrays that frames with these extras are made of."""
    return (*CORE, *(name for extra in extras for name in EXTRA_COLUMNS[extra]))


def frames_of(
    block: pa.RecordBatch, image_shape: tuple[int, int, int], extras: Iterable[Extra] = ()
) -> list[StoredFrame]:
    """Views of every row of a block."""
    is_raw = pa.types.is_large_list(block.schema.field("image").type)
    tails = {"image": (1, *image_shape) if is_raw else (-1,), "points": (-1, 4), "voxels": (-1, 4)}
    names, columns = columns_of(extras), []
    for name in names:
        values, offsets = ragged(block, name)
        bounds = itertools.pairwise(offsets.tolist())
        columns.append(
            [values[start:stop].reshape(tails.get(name, (-1,))) for start, stop in bounds]
        )
    rows = zip(*columns, strict=True)
    return [StoredFrame(**dict(zip(names, cells, strict=True))) for cells in rows]


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


def augmented(
    frame: StoredFrame,
    intrinsics: Float[np.ndarray, "4"],
    camera_from_lidar: Float[np.ndarray, "4 4"],
    *,
    config: AugmentConfig,
    seed: tuple[int, int],
    key: Key,
) -> tuple[StoredFrame, Float[np.ndarray, "4"], Float[np.ndarray, "4 4"]]:
    """Image, points, labels and calibration changed together; `seed` is (seed, epoch).

    Which voxel holds a point stays as it is; `augmented_pose` takes the voxels' pose along.
    """
    change = augment.draw(seed=seed[0], epoch=seed[1], key=key, config=config)
    image = augment.change_image(frame.image[0], change)
    calibration = augment.change_calibration(
        intrinsics, camera_from_lidar, change, width_px=image.shape[1]
    )
    points = augment.change_points(frame.points, change)
    changed = frame._replace(image=image[None], points=points)
    if frame.pixel_label is not None and change.flip:
        changed = changed._replace(pixel_label=frame.pixel_label[:, :, ::-1])
    if change.point_dropout and len(points):
        changed = kept(changed, augment.kept_points(len(points), change))
    return changed, *calibration


def augmented_pose(
    x_from_lidar: Float[np.ndarray, "4 4"],
    *,
    config: AugmentConfig,
    seed: tuple[int, int],
    key: Key,
) -> Float[np.ndarray, "4 4"]:
    """A transform from the LiDAR frame for points that `augmented` has changed."""
    change = augment.draw(seed=seed[0], epoch=seed[1], key=key, config=config)
    return augment.change_pose(x_from_lidar, change)


def joined(
    frames: Sequence[StoredFrame],
    memory: "Memory",
    *,
    image_shape: tuple[int, int, int],
    num_columns: int,
    extras: Iterable[Extra] = (),
) -> dict[str, np.ndarray]:
    """The frames' arrays by name, each concatenated along its first axis, in one buffer.

    `point_voxel` then counts through the voxels of all frames.
    """
    num_points = sum(len(frame.points) for frame in frames)
    num_voxels = sum(0 if frame.voxels is None else len(frame.voxels) for frame in frames)
    shapes = dict.fromkeys(KINDS, (num_points,)) | {
        "image": (len(frames), *image_shape),
        "points": (num_points, num_columns),
        "pixel_label": (len(frames), *image_shape[:2]),
        "voxels": (num_voxels, 4),
    }
    names = columns_of(extras)
    sizes = [math.prod(shapes[name]) * KINDS[name].itemsize for name in names]
    ends = list(itertools.accumulate(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes))
    place = memory.take(ends[-1])
    arrays = {}
    for name, start, size in zip(names, [0, *ends], sizes, strict=False):
        array = place[start : start + size].view(KINDS[name]).reshape(shapes[name])
        if frames:
            np.concatenate([getattr(frame, name) for frame in frames], out=array)
        arrays[name] = array
    if "voxels" in arrays:
        _count_through(arrays["point_voxel"], frames)
    return arrays


def _count_through(point_voxel: np.ndarray, frames: Sequence[StoredFrame]) -> None:
    """Raise each frame's rows, in place, by the number of voxels before its own."""
    start = first = 0
    for frame in frames:
        assert frame.voxels is not None
        own = point_voxel[start : start + len(frame.points)]
        own[own != NO_VOXEL] += first
        start, first = start + len(frame.points), first + len(frame.voxels)


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
