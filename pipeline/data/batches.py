"""What the model sees: ragged batches, clouds concatenated with offsets, no padding anywhere.

Rows are views of memory-mapped shards; a batch is one concatenation per tensor into memory that is
used again. Fresh memory would cost more than the copy (the kernel clears every page), so a buffer
goes back to the reader when the last tensor that refers to it is gone, and only then: a batch
belongs to whoever holds it and is never overwritten.
"""

import dataclasses
import itertools
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from jaxtyping import Float32, Int32, Int64, Shaped, UInt8
from torch import Tensor

from pipeline.anovox.labels import NORMAL_LABEL
from pipeline.data.frames import (
    EXTRA_COLUMNS,
    Extra,
    Key,
    Memory,
    StoredFrame,
    augmented,
    augmented_pose,
    cloud_of,
    frames_of,
    joined,
    with_pixel_label,
    with_pixels,
)
from pipeline.data.manifest import INDEX, Balance, Manifest, read_manifest
from pipeline.data.outliers import OUTLIER_LABEL, has_outliers, with_outliers
from pipeline.data.pixels import SAMPLED_FRAMES, cell_balance
from pipeline.data.schema import SPLITS, fixed
from pipeline.data.shards import open_shard
from pipeline.data.windows import previous_rows, relative_pose, with_past
from pipeline.data_config import AugmentConfig, OutlierConfig, PrepareConfig


@dataclass(frozen=True, kw_only=True)
class Voxels:
    """AnoVox's own grids of B frames; their V occupied cells lie one frame after the other.

    A cell's lower corner is `cells[:, :3]` * 0.5 m - (250, 250, 16) m in the axes to which
    `voxel_from_lidar` takes the frame's points.
    """

    cells: Int32[Tensor, "V 4"]
    """vx, vy, vz and class id."""
    offset: Int64[Tensor, "B"]
    """Cumulative number of cells, as `Batch.point_offset`."""
    of_point: Int32[Tensor, "P"]
    """Row of `cells` that holds the point (by its exact place, without the LiDAR's noise), or -1;
    -1 for points of past clouds."""
    voxel_from_lidar: Float32[Tensor, "B 4 4"]

    def to(self, device: torch.device | str) -> "Voxels":
        """The same cells on `device`."""
        return Voxels(**_moved(self, device))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B frames; their P points lie one frame after the other. Both B and P may be 0.

    Labels are 0 normal, 1 anomalous, 255 ignore, in training also 2 synthetic outlier (`outliers`).
    Points are in the LiDAR frame (x forward, y left, z up, metres, intensity); `camera_from_lidar`
    takes them to the camera (X right, Y down, Z forward), `intrinsics` (fx, fy, cx, cy) from there
    to pixels of `image` as stored, where pixel column j covers j <= u < j + 1. With `data.window` >
    1 points have a fifth column, relative time in seconds: 0 for the current cloud, which comes
    first in each frame, negative for past ones, whose labels are 255.
    """

    image: UInt8[Tensor, "B 3 H W"]
    """RGB; channels last in memory."""
    points: Float32[Tensor, "P columns"]
    point_offset: Int64[Tensor, "B"]
    """Cumulative number of points: frame i owns points[offset[i-1]:offset[i]], offset[-1] == P."""
    point_class: UInt8[Tensor, "P"]
    point_label: UInt8[Tensor, "P"]
    frame_label: UInt8[Tensor, "B"]
    intrinsics: Float32[Tensor, "B 4"]
    camera_from_lidar: Float32[Tensor, "B 4 4"]
    row: Int64[Tensor, "B"]
    """Global row numbers in the split: join with `BlockReader.index` for the metadata."""
    pixel_label: UInt8[Tensor, "B H W"] | None = None
    """Of the image as stored; None unless the reader was asked for `pixels`."""
    voxels: Voxels | None = None
    """None unless the reader was asked for `voxels`."""

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
        return Batch(**_moved(self, device))

    def of_current(
        self, values: Shaped[Tensor, "P *rest"]
    ) -> tuple[Shaped[Tensor, "N *rest"], Tensor]:
        """Those of the points' `values` that belong to current clouds, and their offsets (B,)."""
        if self.points.shape[1] == 4:
            return values, self.point_offset
        current = self.points[:, 4] == 0
        counts = self.point_offset.new_zeros(self.num_frames)
        counts = counts.index_add(0, self.point_frame(), current.to(counts.dtype))
        return values[current], counts.cumsum(0)

    def without_past(self) -> "Batch":
        """The same frames with their current clouds only and four columns."""
        if self.points.shape[1] == 4:
            return self
        current = self.points[:, 4] == 0
        point_class, offset = self.of_current(self.point_class)
        voxels = self.voxels
        if voxels is not None:
            voxels = dataclasses.replace(voxels, of_point=voxels.of_point[current])
        return dataclasses.replace(
            self,
            voxels=voxels,
            points=self.points[current, :4],
            point_offset=offset,
            point_class=point_class,
            point_label=self.point_label[current],
        )


def _moved(record: Batch | Voxels, device: torch.device | str) -> dict[str, Any]:
    """The record's fields on `device`; what is not there stays None."""
    values = ((field.name, getattr(record, field.name)) for field in dataclasses.fields(record))
    return {name: None if value is None else value.to(device) for name, value in values}


class Collate:
    """Frames of a prepared folder to a batch: the same arrays whichever reader brings them.

    `ego_box_m` is half length and half width of the box around the LiDAR whose points (returns
    from the car itself) batches leave out; a zero turns that off. `extras` names what batches hold
    beside the rest: `pixels` (`Batch.pixel_label`), `voxels` (`Batch.voxels`).
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        ego_box_m: Sequence[float],
        augmentation: AugmentConfig,
        extras: Sequence[Extra],
        outliers: OutlierConfig,
    ) -> None:
        assert set(extras) <= set(EXTRA_COLUMNS), extras
        self.extras = tuple(extras)
        self._prepare = PrepareConfig(**manifest.prepare)
        self.image_shape = (manifest.image_height, manifest.image_width, 3)
        self._ego_box_m = tuple(ego_box_m) if min(ego_box_m) > 0 else None
        self._augmentation, self._outliers = augmentation, outliers
        self._memory = Memory()

    def cloud(self, frame: StoredFrame) -> StoredFrame:
        """The frame with its points decoded and the ego box left out."""
        return cloud_of(frame, self._ego_box_m)

    def pixel_label(self, frame: StoredFrame, key: Key) -> UInt8[np.ndarray, "H W"]:
        """Labels of the frame's stored pixels, for a reader of `pixels`."""
        label = with_pixel_label(frame, self.image_shape, self._prepare, key).pixel_label
        assert label is not None
        return label[0]

    def __call__(
        self,
        frames: Sequence[StoredFrame],
        *,
        keys: Sequence[Key],
        row: Int64[np.ndarray, "B"],
        frame_label: UInt8[np.ndarray, "B"],
        intrinsics: Float32[np.ndarray, "B 4"],
        camera_from_lidar: Float32[np.ndarray, "B 4 4"],
        augment_seed: tuple[int, int] | None,
        num_columns: int = 4,
        voxel_from_lidar: Float32[np.ndarray, "B 4 4"] | None = None,
    ) -> Batch:
        """The batch of frames that `cloud` returned; it owns what it is given.

        `voxel_from_lidar` belongs to the extra `voxels`.
        """
        frames = [self._decoded(frame, key) for frame, key in zip(frames, keys, strict=True)]
        if augment_seed is not None:
            self._add_outliers(
                frames, frame_label, intrinsics, camera_from_lidar, keys=keys, seed=augment_seed
            )
            for i, key in enumerate(keys):
                frames[i], intrinsics[i], camera_from_lidar[i] = augmented(
                    frames[i],
                    intrinsics[i],
                    camera_from_lidar[i],
                    config=self._augmentation,
                    seed=augment_seed,
                    key=key,
                )
                if voxel_from_lidar is not None:
                    voxel_from_lidar[i] = augmented_pose(
                        voxel_from_lidar[i], config=self._augmentation, seed=augment_seed, key=key
                    )
        arrays = joined(
            frames,
            self._memory,
            image_shape=self.image_shape,
            num_columns=num_columns,
            extras=self.extras,
        )
        # Channels last in memory is channels first in shape: no copy.
        arrays["image"] = arrays["image"].transpose(0, 3, 1, 2)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        voxels = None
        if voxel_from_lidar is not None:
            voxels = Voxels(
                cells=tensors.pop("voxels"),
                offset=_offset([frame.voxels for frame in frames]),
                of_point=tensors.pop("point_voxel"),
                voxel_from_lidar=torch.from_numpy(voxel_from_lidar),
            )
        return Batch(
            **tensors,
            point_offset=_offset([frame.points for frame in frames]),
            voxels=voxels,
            frame_label=torch.from_numpy(frame_label),
            intrinsics=torch.from_numpy(intrinsics),
            camera_from_lidar=torch.from_numpy(camera_from_lidar),
            row=torch.from_numpy(row),
        )

    def _decoded(self, frame: StoredFrame, key: Key) -> StoredFrame:
        frame = with_pixels(frame, self.image_shape, key)
        return with_pixel_label(frame, self.image_shape, self._prepare, key)

    def _add_outliers(
        self,
        frames: list[StoredFrame],
        frame_label: UInt8[np.ndarray, "B"],
        intrinsics: Float32[np.ndarray, "B 4"],
        camera_from_lidar: Float32[np.ndarray, "B 4 4"],
        *,
        keys: Sequence[Key],
        seed: tuple[int, int],
    ) -> None:
        """Put synthetic outliers into frames and mark those normal ones that got some, in place."""
        if not self._outliers.changes_frames:
            return
        for i, key in enumerate(keys):
            frames[i] = with_outliers(
                frames[i],
                intrinsics[i],
                camera_from_lidar[i],
                config=self._outliers,
                seed=seed,
                key=key,
            )
            if frame_label[i] == NORMAL_LABEL and has_outliers(frames[i]):
                frame_label[i] = OUTLIER_LABEL


def _offset(arrays: Sequence[Sized | None]) -> Int64[Tensor, "B"]:
    """Cumulative lengths."""
    lengths = [0 if array is None else len(array) for array in arrays]
    return torch.tensor([*itertools.accumulate(lengths)], dtype=torch.int64)


class BlockReader:
    """The rows of one split, numbered shard by shard, as batches.

    `ego_box_m` and `extras` as for `Collate`; `window` as `data.window`. Raises ValueError when the
    folder is not prepared or a shard is torn.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        *,
        ego_box_m: Sequence[float],
        window: int = 1,
        augmentation: AugmentConfig = AugmentConfig(),  # noqa: B008  frozen
        extras: Sequence[Extra] = (),
        outliers: OutlierConfig = OutlierConfig(),  # noqa: B008  frozen
    ) -> None:
        assert split in SPLITS, split
        folder = Path(folder)
        self.split = split
        self.manifest = read_manifest(folder)
        self.index = read_index(folder, split)
        """Metadata of every row, one line per row, in global row order (pandas)."""
        blocks = [open_shard(folder, shard) for shard in self.manifest.shards_of(split)]
        self.shard_sizes = [block.num_rows for block in blocks]
        self.num_rows = sum(self.shard_sizes)
        """Frames of the split."""
        assert self.num_rows == len(self.index), (self.num_rows, len(self.index))
        self.num_points = self.index["num_points"].to_numpy(dtype=np.int64)
        """Points of every row as stored, before the ego box is left out."""
        self._collate = Collate(
            self.manifest,
            ego_box_m=ego_box_m,
            augmentation=augmentation,
            extras=extras,
            outliers=outliers,
        )
        shape = self._collate.image_shape
        self._frames = [frame for block in blocks for frame in frames_of(block, shape, extras)]
        self._frame_label = self.index["frame_label"].to_numpy(dtype=np.uint8)
        self._keys = keys_of(self.index)
        self._intrinsics = _stacked([fixed(block, "intrinsics") for block in blocks], 4)
        self._camera_from_lidar = _poses(blocks, "camera_from_lidar")
        self._voxel_from_lidar = None
        if "voxels" in extras:
            self._voxel_from_lidar = _poses(blocks, "voxel_from_lidar")
        self._previous = previous_rows(self.index, window=window) if window > 1 else None
        if self._previous is not None:
            worlds = [fixed(block, "world_from_lidar") for block in blocks]
            self._world_from_lidar = np.concatenate(worlds or [np.empty((0, 16))])
            self._time_s = self.index["time_s"].to_numpy(dtype=np.float64)

    def batch(
        self, rows: Sequence[int] | np.ndarray, *, augment_seed: tuple[int, int] | None
    ) -> Batch:
        """The frames `rows` (global row numbers, possibly none) in that order.

        `augment_seed` is (seed, epoch); None leaves the frames as they are.
        """
        grids = self._voxel_from_lidar
        rows = np.array(rows, dtype=np.int64)
        chosen = rows.tolist()
        assert all(0 <= row < self.num_rows for row in chosen), (chosen, self.num_rows)
        if self._previous is None:
            frames = [self._collate.cloud(self._frames[row]) for row in chosen]
        else:
            frames = [self._with_past(row, self._previous[row]) for row in chosen]
        return self._collate(
            frames,
            keys=[self._keys[row] for row in chosen],
            row=rows,
            frame_label=self._frame_label[rows],
            intrinsics=self._intrinsics[rows],
            camera_from_lidar=self._camera_from_lidar[rows],
            augment_seed=augment_seed,
            num_columns=4 if self._previous is None else 5,
            voxel_from_lidar=None if grids is None else grids[rows],
        )

    def cell_balance(self, *, stride: int) -> Balance:
        """Balance of the stored images' cells, for a reader of `pixels`."""
        chosen = range(min(self.num_rows, SAMPLED_FRAMES))
        labels = (self._collate.pixel_label(self._frames[row], self._keys[row]) for row in chosen)
        return cell_balance(labels, stride=stride)

    def _with_past(self, row: int, previous: Sequence[int]) -> StoredFrame:
        past = [
            (
                self._collate.cloud(self._frames[other]),
                relative_pose(self._world(row), self._world(other)),
                float(self._time_s[other] - self._time_s[row]),
            )
            for other in previous
        ]
        return with_past(self._collate.cloud(self._frames[row]), past)

    def _world(self, row: int) -> np.ndarray:
        return self._world_from_lidar[row].reshape(4, 4)


def keys_of(index: pd.DataFrame) -> list[Key]:
    """Key of every row."""
    columns = (index[name].tolist() for name in ("archive", "scene_id", "frame_id", "pose"))
    return list(zip(*columns, strict=True))


def read_index(folder: Path, split: str) -> pd.DataFrame:
    """The split's lines of index.parquet, which is in global row order."""
    frames = pd.read_parquet(folder / INDEX).query("split == @split")
    return frames.reset_index(drop=True)


def _poses(blocks: Sequence[pa.RecordBatch], name: str) -> Float32[np.ndarray, "rows 4 4"]:
    return _stacked([fixed(block, name) for block in blocks], 16).reshape(-1, 4, 4)


def _stacked(parts: list[np.ndarray], width: int) -> np.ndarray:
    return np.concatenate([np.empty((0, width)), *parts]).astype(np.float32)
