"""The memory-mapped shards of one split as batches of any rows."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32

from pipeline.config.data import AugmentConfig, OutlierConfig
from pipeline.data.assembly import Part
from pipeline.data.batch import Batch
from pipeline.data.collate import Collate
from pipeline.data.frames import Extra
from pipeline.data.manifest import INDEX, Balance, read_manifest
from pipeline.data.pixels import SAMPLED_FRAMES, cell_balance
from pipeline.data.schema import SPLITS
from pipeline.data.split_rows import OpenShard, RowFacts, SplitRows
from pipeline.data.transforms.sweeps import previous_rows, relative_pose, with_past

CALIBRATION = ("intrinsics", "camera_from_lidar", "world_from_lidar")


class BlockReader:
    """The rows of one split, numbered shard by shard, as batches.

    `ego_box_m`, `extras` and `pinned` as for `Collate`; `num_sweeps` as `data.num_sweeps`. Raises
    ValueError when the folder is not prepared or a shard is torn. Threads may ask for batches at
    once.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        *,
        ego_box_m: Sequence[float],
        num_sweeps: int = 1,
        augmentation: AugmentConfig = AugmentConfig(),  # noqa: B008  frozen
        extras: Sequence[Extra] = (),
        outliers: OutlierConfig = OutlierConfig(),  # noqa: B008  frozen
        pinned: bool = False,
    ) -> None:
        assert split in SPLITS, split
        folder = Path(folder)
        self.split, self._folder = split, folder
        self.manifest = read_manifest(folder)
        self._facts = RowFacts(folder, split)
        self.num_rows = len(self._facts)
        """Frames of the split."""
        self.num_points = self._facts.num_points
        """Points of every row as stored, before the ego box is left out."""
        self._collate = Collate(
            self.manifest,
            ego_box_m=ego_box_m,
            augmentation=augmentation,
            extras=extras,
            outliers=outliers,
            pinned=pinned,
        )
        self._frames = SplitRows(
            folder,
            self.manifest.shards_of(split),
            image_shape=self._collate.image_shape,
            extras=extras,
            numbers=(*CALIBRATION, *(["voxel_from_lidar"] if "voxels" in extras else [])),
        )
        self.shard_sizes = self._frames.sizes
        assert self.num_rows == len(self._frames), (self.num_rows, len(self._frames))
        self._previous = (
            previous_rows(self.index, num_sweeps=num_sweeps) if num_sweeps > 1 else None
        )

    @functools.cached_property
    def index(self) -> pd.DataFrame:
        """Metadata of every row, one line per row, in global row order (pandas)."""
        return read_index(self._folder, self.split)

    def batch(
        self, rows: Sequence[int] | np.ndarray, *, augment_seed: tuple[int, int] | None
    ) -> Batch:
        """The frames `rows` (global row numbers, possibly none) in that order.

        `augment_seed` is (seed, epoch); None leaves the frames as they are.
        """
        rows = np.array(rows, dtype=np.int64)
        chosen = rows.tolist()
        assert all(0 <= row < self.num_rows for row in chosen), (chosen, self.num_rows)
        places = [self._frames.find(row) for row in chosen]
        if self._previous is None:
            parts = [self._collate.part(shard.frames[place]) for shard, place in places]
        else:
            parts = [self._with_past(row, self._previous[row]) for row in chosen]
        return self._collate(
            parts,
            keys=[self._facts.key(row) for row in chosen],
            row=rows,
            frame_label=self._facts.frame_label[rows],
            intrinsics=_numbers("intrinsics", places, (4,)),
            camera_from_lidar=_numbers("camera_from_lidar", places, (4, 4)),
            augment_seed=augment_seed,
            num_columns=4 if self._previous is None else 5,
            voxel_from_lidar=_numbers("voxel_from_lidar", places, (4, 4))
            if "voxels" in self._collate.extras
            else None,
        )

    def cell_balance(self, *, stride: int) -> Balance:
        """Balance of the stored images' cells, for a reader of `pixels`."""
        chosen = range(min(self.num_rows, SAMPLED_FRAMES))
        labels = (
            self._collate.pixel_label(self._frames[row], self._facts.key(row)) for row in chosen
        )
        return cell_balance(labels, stride=stride)

    def _with_past(self, row: int, previous: Sequence[int]) -> Part:
        time_s = self.index["time_s"].to_numpy(dtype=np.float64)
        past = [
            (
                self._collate.cloud(self._frames[other]),
                relative_pose(self._world(row), self._world(other)),
                float(time_s[other] - time_s[row]),
            )
            for other in previous
        ]
        return Part(frame=with_past(self._collate.cloud(self._frames[row]), past))

    def _world(self, row: int) -> np.ndarray:
        return self._frames.numbers("world_from_lidar", row).reshape(4, 4)


def _numbers(
    name: str, places: Sequence[tuple[OpenShard, int]], shape: tuple[int, ...]
) -> Float32[np.ndarray, "B *shape"]:
    """A column of fixed width at rows of shards."""
    found = [shard.numbers[name][place] for shard, place in places]
    return np.array(found, dtype=np.float32).reshape(-1, *shape)


def read_index(folder: Path, split: str) -> pd.DataFrame:
    """The split's lines of index.parquet, which is in global row order."""
    frames = pd.read_parquet(folder / INDEX).query("split == @split")
    return frames.reset_index(drop=True)
