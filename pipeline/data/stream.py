"""Ray Data streaming over the same shards, for train splits larger than the nodes' disks.

A task reads one shard, from where `data.blocks` lies, and its rows go to whichever rank is next.
Which shard comes when is Ray's choice (`randomize_block_order`, another order each epoch); the rows
of a block are shuffled where they arrive. `local_shuffle_buffer_size` and `equal=True` stay unused:
the one lets ranks disagree about the number of steps, the other drops rows.
"""

import functools
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int64
from pyarrow import fs

from pipeline.config.schema import Config
from pipeline.data.batch import Batch
from pipeline.data.cache import find_store, is_remote
from pipeline.data.collate import Collate
from pipeline.data.frames import BlockFrames, Extra, StoredFrame, columns_of
from pipeline.data.manifest import Balance, Shard, read_manifest
from pipeline.data.pixels import SAMPLED_FRAMES, cell_balance
from pipeline.data.schema import fixed
from pipeline.data.shards import block_of
from pipeline.data.split_rows import RowFacts

if TYPE_CHECKING:
    from ray.data import DataIterator, Dataset

_SPLIT = "train"


def stream_columns(extras: Sequence[Extra]) -> list[str]:
    """Columns that are read for batches with these extras."""
    grids = ["voxel_from_lidar"] if "voxels" in extras else []
    return [*columns_of(extras), "intrinsics", "camera_from_lidar", *grids]


def stream_dataset(config: Config, folder: Path, *, extras: Sequence[Extra] = ()) -> "Dataset":
    """The train split as a Ray Dataset of `stream_columns` and `row`, one block per shard."""
    import ray.data
    from ray.data import RandomSeedConfig

    # The training tells its own progress; a failed task raises whatever Ray logs.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    shards = read_manifest(folder).shards_of(_SPLIT)
    firsts = itertools.accumulate((shard.num_rows for shard in shards), initial=0)
    items = [
        {"number": number, "first_row": first}
        for number, first in zip(range(len(shards)), firsts, strict=False)
    ]
    filesystem, place = _place(config, folder)
    read: Any = functools.partial(
        _read,
        shards=shards,
        filesystem=filesystem,
        place=place,
        columns=stream_columns(extras),
    )
    return (
        ray.data.from_items(items, override_num_blocks=max(len(items), 1))
        .randomize_block_order(seed=RandomSeedConfig(seed=config.train.seed))
        .map_batches(read, batch_size=1, batch_format="numpy")
    )


def _place(config: Config, folder: Path) -> tuple[fs.FileSystem, str]:
    """Where the shards lie: in `folder`, or on object storage."""
    if is_remote(config.data.blocks):
        store = find_store(config)
        return store.filesystem, store.path
    return fs.LocalFileSystem(), str(folder)


def _read(
    item: dict[str, np.ndarray],
    *,
    shards: Sequence[Shard],
    filesystem: fs.FileSystem,
    place: str,
    columns: Sequence[str],
) -> pa.Table:
    """Ray Data task: the shard of one item, whole, with its rows' numbers in the split."""
    shard = shards[int(item["number"][0])]
    block = _block(shard, filesystem, place)
    first = int(item["first_row"][0])
    rows = pa.array(np.arange(first, first + shard.num_rows, dtype=np.int64))
    return pa.Table.from_batches([block.select(list(columns))]).append_column("row", rows)


def _block(shard: Shard, filesystem: fs.FileSystem, place: str) -> pa.RecordBatch:
    path = f"{place}/{shard.split}/{shard.name}"
    with filesystem.open_input_file(path) as file:
        return block_of(file.read_buffer(), shard, place=path)


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """One frame as it came, with its global row number in the split."""

    frame: StoredFrame
    row: int
    intrinsics: Float[np.ndarray, "4"]
    camera_from_lidar: Float[np.ndarray, "4 4"]
    voxel_from_lidar: Float[np.ndarray, "4 4"] | None
    """None unless `voxels` are asked for."""


class StreamReader:
    """One rank's part of each epoch, frame by frame, and batches made of it."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        iterator: "DataIterator",
        *,
        rank: int,
        extras: Sequence[Extra] = (),
    ) -> None:
        self.manifest = read_manifest(folder)
        self._facts = RowFacts(folder, _SPLIT)
        self.num_rows = len(self._facts)
        """Frames of the split, over all ranks."""
        self._collate = Collate(
            self.manifest,
            ego_box_m=config.data.ego_box_m,
            augmentation=config.augment,
            extras=extras,
            outliers=config.outliers,
            pinned=config.scaling.use_gpu,
        )
        self._iterator, self._seed, self._rank = iterator, config.train.seed, rank
        self._config, self._folder = config, folder

    def frames(self, epoch: int) -> Iterator[Streamed]:
        """The frames that Ray gives this rank in one epoch; every rank must take all of its own."""
        # None means whole blocks; Ray's own annotation forgets it.
        whole: Any = None
        blocks: Any = self._iterator.iter_batches(batch_size=whole, batch_format="pyarrow")
        for number, table in enumerate(blocks):
            rng = np.random.default_rng([self._seed, epoch, self._rank, number])
            for block in table.to_batches():
                frames = self._frames_of(block)
                yield from (frames[place] for place in rng.permutation(len(frames)))

    def cell_balance(self, *, stride: int) -> Balance:
        """The same balance that a BlockReader finds; it fetches the first shards for it."""
        stored = zip(range(SAMPLED_FRAMES), self._stored(), strict=False)
        labels = (self._collate.pixel_label(frame, self._facts.key(row)) for row, frame in stored)
        return cell_balance(labels, stride=stride)

    def _stored(self) -> Iterator[StoredFrame]:
        """The split's frames in row order, shard by shard."""
        filesystem, place = _place(self._config, self._folder)
        for shard in self.manifest.shards_of(_SPLIT):
            block = _block(shard, filesystem, place)
            yield from BlockFrames(block, self._collate.image_shape, self._collate.extras)

    def _frames_of(self, block: pa.RecordBatch) -> list[Streamed]:
        frames = BlockFrames(block, self._collate.image_shape, self._collate.extras)
        intrinsics = fixed(block, "intrinsics").astype(np.float32)
        poses, rows = _poses(block, "camera_from_lidar"), block.column("row").to_pylist()
        grids: Sequence[np.ndarray | None] = [None] * len(rows)
        if "voxels" in self._collate.extras:
            grids = list(_poses(block, "voxel_from_lidar"))
        return [
            Streamed(frame=frame, row=row, intrinsics=k, camera_from_lidar=pose, voxel_from_lidar=g)
            for frame, row, k, pose, g in zip(frames, rows, intrinsics, poses, grids, strict=True)
        ]

    def batch(self, frames: Sequence[Streamed], *, augment_seed: tuple[int, int] | None) -> Batch:
        """The same batch that a BlockReader makes of the same rows."""
        row = np.array([one.row for one in frames], dtype=np.int64)
        grids = [one.voxel_from_lidar for one in frames if one.voxel_from_lidar is not None]
        has_voxels = "voxels" in self._collate.extras
        return self._collate(
            [self._collate.part(one.frame) for one in frames],
            keys=[self._facts.key(one.row) for one in frames],
            row=row,
            frame_label=self._facts.frame_label[row],
            intrinsics=_stack([one.intrinsics for one in frames], (4,)),
            camera_from_lidar=_stack([one.camera_from_lidar for one in frames], (4, 4)),
            augment_seed=augment_seed,
            voxel_from_lidar=_stack(grids, (4, 4)) if has_voxels else None,
        )


def _poses(block: pa.RecordBatch, name: str) -> Float[np.ndarray, "rows 4 4"]:
    return fixed(block, name).astype(np.float32).reshape(-1, 4, 4)


def _stack(arrays: Sequence[np.ndarray], shape: tuple[int, ...]) -> Float[np.ndarray, "B ..."]:
    return np.array(arrays, dtype=np.float32).reshape(-1, *shape)


def shares(num_waiting: Int64[np.ndarray, "R"], *, batch_size: int) -> list[int]:
    """How many of a step's frames each rank takes, as even as what waits there allows.

    They add up to `batch_size` unless fewer wait in all; ranks without frames take none.
    """
    taken = [0] * len(num_waiting)
    for _ in range(min(batch_size, int(num_waiting.sum()))):
        able = [rank for rank, num in enumerate(taken) if num < num_waiting[rank]]
        taken[min(able, key=lambda rank: taken[rank])] += 1
    return taken
