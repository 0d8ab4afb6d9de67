"""The rows of a split by number: shards are opened, and frames made, when they are asked for.

A rank of a large training opens thousands of shards and asks for a few rows at a time; a Python
object per row, and a block of all columns per shard, would cost it seconds and gigabytes.
"""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float64, Int32

from pipeline.data.frames import BlockFrames, Extra, Key, StoredFrame
from pipeline.data.manifest import INDEX, Shard
from pipeline.data.schema import fixed
from pipeline.data.shards import check_size, open_shard


class OpenShard(NamedTuple):
    """One shard's frames and its columns of fixed width."""

    frames: BlockFrames
    numbers: dict[str, Float64[np.ndarray, "rows width"]]


class SplitRows(Sequence[StoredFrame]):
    """Frames of shards, numbered shard by shard, and their columns of fixed width (`numbers`).

    Sizes of all shards are checked at once, what is in them when they are opened; ValueError where
    one is torn or of another make. Any thread may ask.
    """

    def __init__(
        self,
        folder: Path,
        shards: Sequence[Shard],
        *,
        image_shape: tuple[int, int, int],
        extras: Sequence[Extra],
        numbers: Sequence[str],
    ) -> None:
        for shard in shards:
            check_size(folder, shard)
        self._folder, self._shards = folder, shards
        self._image_shape, self._extras, self._columns = image_shape, extras, numbers
        self.sizes = [shard.num_rows for shard in shards]
        self._firsts = [0, *itertools.accumulate(self.sizes)]
        self._opened: list[OpenShard | None] = [None] * len(shards)

    def __len__(self) -> int:
        return self._firsts[-1]

    def __getitem__(self, row: int) -> StoredFrame:  # type: ignore[override]  no slices
        shard, place = self.find(row)
        return shard.frames[place]

    def numbers(self, name: str, row: int) -> Float64[np.ndarray, "width"]:
        """A column of fixed width at this row."""
        shard, place = self.find(row)
        return shard.numbers[name][place]

    def find(self, row: int) -> tuple[OpenShard, int]:
        """The shard that holds this row, and the row's number there."""
        if not 0 <= row < len(self):
            raise IndexError(row)
        number = bisect.bisect_right(self._firsts, row) - 1
        opened = self._opened[number]
        if opened is None:
            opened = self._opened[number] = self._open(self._shards[number])
        return opened, row - self._firsts[number]

    def _open(self, shard: Shard) -> OpenShard:
        block = open_shard(self._folder, shard)
        return OpenShard(
            frames=BlockFrames(block, self._image_shape, self._extras),
            numbers={name: fixed(block, name) for name in self._columns},
        )


WORDS = ("archive", "scene_id", "pose", "split")
"""Columns of the index that hold few different words."""


class RowFacts:
    """What batches need of the index: keys, labels and sizes of a split's rows, in row order.

    Words are kept as numbers into short lists: a Python string per row and column would be most of
    a reader's memory.
    """

    def __init__(self, folder: Path, split: str) -> None:
        names = [*WORDS, "frame_id", "frame_label", "num_points"]
        table = pq.read_table(folder / INDEX, columns=names, read_dictionary=list(WORDS))
        coded = {name: _coded(table.column(name)) for name in WORDS}
        self._words = {name: words for name, (words, _) in coded.items()}
        mine = np.flatnonzero(_is(split, *coded["split"]))
        self._codes = {name: codes[mine] for name, (_, codes) in coded.items()}
        plain = {name: table.column(name).to_numpy()[mine] for name in names[len(WORDS) :]}
        self._frame_id = plain["frame_id"]
        self.frame_label = plain["frame_label"].astype(np.uint8)
        self.num_points = plain["num_points"].astype(np.int64)

    def __len__(self) -> int:
        return len(self.num_points)

    def key(self, row: int) -> Key:
        """archive, scene_id, frame_id, pose."""
        archive, scene_id, pose = (
            self._words[name][self._codes[name][row]] for name in ("archive", "scene_id", "pose")
        )
        return archive, scene_id, int(self._frame_id[row]), pose


def _coded(column: pa.ChunkedArray) -> tuple[list[str], Int32[np.ndarray, "N"]]:
    """The column's different words, and which of them each row holds."""
    whole = column.unify_dictionaries().combine_chunks()
    return whole.dictionary.to_pylist(), whole.indices.to_numpy()


def _is(word: str, words: list[str], codes: Int32[np.ndarray, "N"]) -> Bool[np.ndarray, "N"]:
    """Rows that hold `word`."""
    return np.isin(codes, [place for place, other in enumerate(words) if other == word])
