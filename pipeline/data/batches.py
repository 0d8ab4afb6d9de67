"""What the model sees: ragged batches, clouds concatenated with offsets, no padding anywhere.

Rows are views of memory-mapped shards; a batch is one concatenation per tensor into memory that is
used again. Fresh memory would cost more than the copy (the kernel clears every page), so a buffer
goes back to the reader when the last tensor that refers to it is gone, and only then: a batch
belongs to whoever holds it and is never overwritten.
"""

import dataclasses
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from torch import Tensor

from pipeline.data import augment
from pipeline.data.manifest import INDEX, read_manifest
from pipeline.data.schema import SPLITS, fixed, ragged
from pipeline.data.shards import open_shard


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


@dataclass(frozen=True, kw_only=True)
class _FrameArrays:
    """One frame's arrays: read-only views of a shard, or changed copies."""

    image: UInt8[np.ndarray, "H W 3"]
    points: Float32[np.ndarray, "P 4"]
    point_class: UInt8[np.ndarray, "P"]
    point_label: UInt8[np.ndarray, "P"]
    intrinsics: Float64[np.ndarray, "4"]
    camera_from_lidar: Float64[np.ndarray, "4 4"]


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
        self._blocks = [open_shard(folder, shard) for shard in self.manifest.shards_of(split)]
        self.shard_sizes = [block.num_rows for block in self._blocks]
        self._starts = np.concatenate([[0], np.cumsum(self.shard_sizes)]).astype(np.int64)
        assert self.num_rows == len(self.index), (self.num_rows, len(self.index))
        self.num_points = self.index["num_points"].to_numpy(dtype=np.int64)
        """Points of every row as stored, before the ego box is left out."""
        self._frame_label = self.index["frame_label"].to_numpy(dtype=np.uint8)
        keys = (self.index[name].tolist() for name in ("archive", "scene_id", "frame_id", "pose"))
        self._keys = list(zip(*keys, strict=True))
        names = ("image", "points", "point_class", "point_label")
        self._ragged = [{name: ragged(block, name) for name in names} for block in self._blocks]
        self._intrinsics = _stacked([fixed(block, "intrinsics") for block in self._blocks], 4)
        self._camera_from_lidar = _stacked(
            [fixed(block, "camera_from_lidar") for block in self._blocks], 16
        ).reshape(-1, 4, 4)
        self._ego_box_m = tuple(ego_box_m)
        self._memory = _Memory()

    @property
    def num_rows(self) -> int:
        """Frames of the split."""
        return int(self._starts[-1])

    def batch(
        self, rows: Sequence[int] | np.ndarray, *, augment_seed: tuple[int, int] | None
    ) -> Batch:
        """The frames `rows` (global row numbers, possibly none) in that order.

        `augment_seed` is (seed, epoch); None leaves the frames as they are.
        """
        rows = np.asarray(rows, dtype=np.int64)
        assert ((rows >= 0) & (rows < self.num_rows)).all(), (rows, self.num_rows)
        frames = [self._without_ego(self._frame(row)) for row in rows.tolist()]
        if augment_seed is not None:
            frames = [
                self._augmented(frame, row, augment_seed)
                for frame, row in zip(frames, rows.tolist(), strict=True)
            ]
        height, width = self.manifest.image_height, self.manifest.image_width
        offset = np.cumsum([len(frame.points) for frame in frames], dtype=np.int64)
        image = self._join("image", [f.image for f in frames], (height, width, 3), np.uint8)
        calibration = [frame.camera_from_lidar for frame in frames]
        return Batch(
            image=image.permute(0, 3, 1, 2),
            points=self._join("points", [f.points for f in frames], (4,), np.float32),
            point_offset=torch.from_numpy(offset),
            point_class=self._join("class", [f.point_class for f in frames], (), np.uint8),
            point_label=self._join("label", [f.point_label for f in frames], (), np.uint8),
            frame_label=torch.from_numpy(self._frame_label[rows]),
            intrinsics=_float32([frame.intrinsics for frame in frames], (4,)),
            camera_from_lidar=_float32(calibration, (4, 4)),
            row=torch.from_numpy(rows.copy()),
        )

    def _frame(self, row: int) -> _FrameArrays:
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        place = row - self._starts[shard]
        columns = self._ragged[shard]

        def cell(name: str) -> np.ndarray:
            values, offsets = columns[name]
            return values[offsets[place] : offsets[place + 1]]

        size = (self.manifest.image_height, self.manifest.image_width, 3)
        return _FrameArrays(
            image=cell("image").reshape(size),
            points=cell("points").reshape(-1, 4),
            point_class=cell("point_class"),
            point_label=cell("point_label"),
            intrinsics=self._intrinsics[row],
            camera_from_lidar=self._camera_from_lidar[row],
        )

    def _without_ego(self, frame: _FrameArrays) -> _FrameArrays:
        if min(self._ego_box_m) == 0:
            return frame
        keep = outside_box(frame.points, self._ego_box_m)
        # Rows of four floats as one 16-byte number: selecting them is three times as quick.
        points = frame.points.view(np.complex128)[keep].view(np.float32)
        return dataclasses.replace(
            frame,
            points=points.reshape(-1, 4),
            point_class=frame.point_class[keep],
            point_label=frame.point_label[keep],
        )

    def _augmented(self, frame: _FrameArrays, row: int, seed: tuple[int, int]) -> _FrameArrays:
        change = augment.draw(seed=seed[0], epoch=seed[1], key=self._keys[row])
        intrinsics, camera_from_lidar = augment.change_calibration(
            frame.intrinsics,
            frame.camera_from_lidar,
            change,
            width_px=self.manifest.image_width,
        )
        return dataclasses.replace(
            frame,
            image=augment.change_image(frame.image, change),
            points=augment.change_points(frame.points, change),
            intrinsics=intrinsics,
            camera_from_lidar=camera_from_lidar,
        )

    def _join(
        self, name: str, parts: list[np.ndarray], tail: tuple[int, ...], kind: type
    ) -> Tensor:
        """One tensor of all parts: (sum of lengths, *tail), images stacked along a new axis."""
        flat = [part.reshape(-1) for part in parts]
        total = self._memory.take(name, sum(len(part) for part in flat), kind)
        if flat:
            np.concatenate(flat, out=total)
        return torch.from_numpy(total).view(-1, *tail)


class _Memory:
    """Buffers by name, each lent to one tensor at a time."""

    def __init__(self) -> None:
        self._free: dict[str, list[np.ndarray]] = {}

    def take(self, name: str, size: int, kind: type) -> np.ndarray:
        """An array (size,) over a buffer that no living tensor uses; its content is arbitrary.

        Tensors made from exactly this array keep it alive; its end frees the buffer.
        """
        free = self._free.setdefault(name, [])
        while free:
            buffer = free.pop()
            if len(buffer) >= size:
                break
        else:
            # A quarter more than needed, so that somewhat larger batches fit as well.
            buffer = np.empty(size + size // 4, dtype=kind)
        lent = buffer[:size]
        weakref.finalize(lent, free.append, buffer).atexit = False
        return lent


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
    return np.concatenate([np.empty((0, width)), *parts])


def _float32(cells: list[np.ndarray], shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.asarray(cells, dtype=np.float32).reshape(-1, *shape))
