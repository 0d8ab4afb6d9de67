"""The memory-mapped shards of one split as batches of any rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float32

from pipeline.data.batches import Batch
from pipeline.data.collate import Collate
from pipeline.data.frames import Extra, Key, StoredFrame, frames_of
from pipeline.data.manifest import INDEX, Balance, read_manifest
from pipeline.data.pixels import SAMPLED_FRAMES, cell_balance
from pipeline.data.schema import SPLITS, fixed
from pipeline.data.shards import open_shard
from pipeline.data.windows import previous_rows, relative_pose, with_past
from pipeline.data_config import AugmentConfig, OutlierConfig


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
