"""What the model sees: ragged batches, clouds concatenated with offsets, no padding anywhere.

Rows are views of memory-mapped shards; a batch is one concatenation per tensor into memory that is
used again. Fresh memory would cost more than the copy (the kernel clears every page), so a buffer
goes back to the reader when the last tensor that refers to it is gone, and only then: a batch
belongs to whoever holds it and is never overwritten.
"""

import dataclasses
import itertools
import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor

from pipeline.data import augment
from pipeline.data.manifest import INDEX, read_manifest
from pipeline.data.schema import SPLITS, fixed, ragged
from pipeline.data.shards import open_shard

KINDS = tuple(np.dtype(kind) for kind in (np.uint8, np.float32, np.uint8, np.uint8))
"""Types of image, points, point_class and point_label."""
ALIGNMENT = 64
"""Bytes; each tensor of a batch starts at a cache line."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B frames; their P points lie one frame after the other. Both B and P may be 0.

    Labels are 0 normal, 1 anomalous, 255 ignore. Points are in the LiDAR frame (x forward, y left,
    z up, metres, intensity); `camera_from_lidar` takes them to the camera (X right, Y down, Z
    forward), `intrinsics` (fx, fy, cx, cy) from there to pixels of `image` as stored, where pixel
    column j covers j <= u < j + 1.
    """

    image: UInt8[Tensor, "B 3 H W"]
    """RGB; channels last in memory."""
    points: Float32[Tensor, "P 4"]
    point_offset: Int64[Tensor, "B"]
    """Cumulative number of points: frame i owns points[offset[i-1]:offset[i]], offset[-1] == P."""
    point_class: UInt8[Tensor, "P"]
    point_label: UInt8[Tensor, "P"]
    frame_label: UInt8[Tensor, "B"]
    intrinsics: Float32[Tensor, "B 4"]
    camera_from_lidar: Float32[Tensor, "B 4 4"]
    row: Int64[Tensor, "B"]
    """Global row numbers in the split: join with `BlockReader.index` for the metadata."""

    @property
    def num_frames(self) -> int:
        """B."""
        return self.image.shape[0]

    def counts(self) -> Int64[Tensor, "B"]:
        """Points of each frame."""
        return torch.diff(self.point_offset, prepend=self.point_offset.new_zeros(1))

    def point_frame(self) -> Int64[Tensor, "P"]:
        """Frame (0 to B - 1) of each point."""
        frames = torch.arange(self.num_frames, device=self.point_offset.device)
        return torch.repeat_interleave(frames, self.counts(), output_size=self.points.shape[0])

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on `device`."""
        moved = {f.name: getattr(self, f.name).to(device) for f in dataclasses.fields(self)}
        return Batch(**moved)


class _Frame(NamedTuple):
    """One frame's large arrays: read-only views of a shard, or changed copies."""

    image: UInt8[np.ndarray, "1 H W 3"]
    points: Float32[np.ndarray, "P 4"]
    point_class: UInt8[np.ndarray, "P"]
    point_label: UInt8[np.ndarray, "P"]


class BlockReader:
    """The rows of one split, numbered shard by shard, as batches.

    `ego_box_m` is half length and half width of the box around the LiDAR whose points (returns
    from the car itself) batches leave out; a zero turns that off. Raises ValueError when the
    folder is not prepared or a shard is torn.
    """

    def __init__(self, folder: str | Path, split: str, *, ego_box_m: Sequence[float]) -> None:
        assert split in SPLITS, split
        folder = Path(folder)
        self.split = split
        self.manifest = read_manifest(folder)
        self.index = _read_index(folder, split)
        """Metadata of every row, one line per row, in global row order (pandas)."""
        blocks = [open_shard(folder, shard) for shard in self.manifest.shards_of(split)]
        self.shard_sizes = [block.num_rows for block in blocks]
        self.num_rows = sum(self.shard_sizes)
        """Frames of the split."""
        assert self.num_rows == len(self.index), (self.num_rows, len(self.index))
        self.num_points = self.index["num_points"].to_numpy(dtype=np.int64)
        """Points of every row as stored, before the ego box is left out."""
        self._image_shape = (self.manifest.image_height, self.manifest.image_width, 3)
        self._frames = [f for block in blocks for f in _frames(block, self._image_shape)]
        self._frame_label = self.index["frame_label"].to_numpy(dtype=np.uint8)
        keys = (self.index[name].tolist() for name in ("archive", "scene_id", "frame_id", "pose"))
        self._keys = list(zip(*keys, strict=True))
        self._intrinsics = _stacked([fixed(block, "intrinsics") for block in blocks], 4)
        poses = _stacked([fixed(block, "camera_from_lidar") for block in blocks], 16)
        self._camera_from_lidar = poses.reshape(-1, 4, 4)
        self._ego_box_m = tuple(ego_box_m) if min(ego_box_m) > 0 else None
        self._memory = _Memory()

    def batch(
        self, rows: Sequence[int] | np.ndarray, *, augment_seed: tuple[int, int] | None
    ) -> Batch:
        """The frames `rows` (global row numbers, possibly none) in that order.

        `augment_seed` is (seed, epoch); None leaves the frames as they are.
        """
        rows = np.array(rows, dtype=np.int64)
        chosen = rows.tolist()
        assert all(0 <= row < self.num_rows for row in chosen), (chosen, self.num_rows)
        frames = [self._frames[row] for row in chosen]
        intrinsics, poses = self._intrinsics[rows], self._camera_from_lidar[rows]
        if self._ego_box_m is not None:
            frames = [_without_box(frame, self._ego_box_m) for frame in frames]
        if augment_seed is not None:
            for i, row in enumerate(chosen):
                frames[i], intrinsics[i], poses[i] = _augmented(
                    frames[i], intrinsics[i], poses[i], seed=augment_seed, key=self._keys[row]
                )
        offset = np.array([*itertools.accumulate(len(f.points) for f in frames)], dtype=np.int64)
        image, points, point_class, point_label = self._joined(frames)
        return Batch(
            image=image,
            points=points,
            point_offset=torch.from_numpy(offset),
            point_class=point_class,
            point_label=point_label,
            frame_label=torch.from_numpy(self._frame_label[rows]),
            intrinsics=torch.from_numpy(intrinsics),
            camera_from_lidar=torch.from_numpy(poses),
            row=torch.from_numpy(rows),
        )

    def _joined(self, frames: Sequence[_Frame]) -> list[Tensor]:
        """The frames' arrays, each kind concatenated along its first axis, in one buffer."""
        num_points = sum(len(frame.points) for frame in frames)
        shapes = ((len(frames), *self._image_shape), (num_points, 4), (num_points,), (num_points,))
        sizes = [math.prod(shape) * KINDS[column].itemsize for column, shape in enumerate(shapes)]
        ends = list(itertools.accumulate(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes))
        memory = self._memory.take(ends[-1])
        tensors = []
        for column, (start, size) in enumerate(zip([0, *ends], sizes, strict=False)):
            place = memory[start : start + size].view(KINDS[column]).reshape(shapes[column])
            if frames:
                np.concatenate([frame[column] for frame in frames], out=place)
            # Channels last in memory is channels first in shape: no copy.
            tensors.append(torch.from_numpy(place.transpose(0, 3, 1, 2) if column == 0 else place))
        return tensors


class _Memory:
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


def _frames(block: pa.RecordBatch, image_shape: tuple[int, int, int]) -> list[_Frame]:
    """Views of every row of a block."""
    columns = []
    for name, tail in zip(_Frame._fields, ((1, *image_shape), (-1, 4), (-1,), (-1,)), strict=True):
        values, offsets = ragged(block, name)
        bounds = itertools.pairwise(offsets.tolist())
        columns.append([values[start:stop].reshape(tail) for start, stop in bounds])
    return [_Frame(*cells) for cells in zip(*columns, strict=True)]


def _without_box(frame: _Frame, half_size_m: Sequence[float]) -> _Frame:
    if len(frame.points) == 0:
        return frame
    keep = np.packbits(outside_box(frame.points, half_size_m), bitorder="little")
    mask = pa.Array.from_buffers(pa.bool_(), len(frame.points), [None, pa.py_buffer(keep)])
    points, point_class, point_label = (_kept(array, mask) for array in frame[1:])
    return _Frame(frame.image, points, point_class, point_label)


def _kept(array: np.ndarray, mask: pa.Array) -> np.ndarray:
    """Rows where `mask` is true; Arrow copies whole runs, three times as quick as NumPy here."""
    rows = pa.binary(array.nbytes // len(array))
    buffers = [None, pa.py_buffer(array)]
    kept = pa.Array.from_buffers(rows, len(array), buffers).filter(mask)
    shape = (len(kept), *array.shape[1:])
    values = np.frombuffer(kept.buffers()[1], dtype=array.dtype, count=math.prod(shape))
    return values.reshape(shape)


def _augmented(
    frame: _Frame,
    intrinsics: Float[np.ndarray, "4"],
    camera_from_lidar: Float[np.ndarray, "4 4"],
    *,
    seed: tuple[int, int],
    key: tuple[str, str, int, str],
) -> tuple[_Frame, Float[np.ndarray, "4"], Float[np.ndarray, "4 4"]]:
    change = augment.draw(seed=seed[0], epoch=seed[1], key=key)
    image = augment.change_image(frame.image[0], change)
    calibration = augment.change_calibration(
        intrinsics, camera_from_lidar, change, width_px=image.shape[1]
    )
    points = augment.change_points(frame.points, change)
    changed = _Frame(image[None], points, frame.point_class, frame.point_label)
    return changed, *calibration


def outside_box(
    points: Float32[np.ndarray, "P 4"], half_size_m: Sequence[float]
) -> Bool[np.ndarray, "P"]:
    """True outside the upright box of half length (x) and half width (y) around the LiDAR."""
    half_length, half_width = half_size_m
    return (np.abs(points[:, 0]) > half_length) | (np.abs(points[:, 1]) > half_width)


def _read_index(folder: Path, split: str) -> pd.DataFrame:
    """The split's lines of index.parquet, which is in global row order."""
    frames = pd.read_parquet(folder / INDEX).query("split == @split")
    return frames.reset_index(drop=True)


def _stacked(parts: list[np.ndarray], width: int) -> np.ndarray:
    return np.concatenate([np.empty((0, width)), *parts]).astype(np.float32)
