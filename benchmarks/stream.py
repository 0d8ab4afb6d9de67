"""`data.reader=stream` against `blocks`, and against a loader that keeps Ray Data's defaults.

    python -m benchmarks.stream [--config configs/demo.yaml] [--epochs 3] [--rounds 3]
        [key=value ...]

After `make demo`, on its shards (synthetic data). All three make the batches of training, ego box
and augmentation included, and bring every frame once per epoch and equal (checked):

blocks    memory-mapped shards, rows in the order of seed, epoch and step
stream    Ray Data tasks read whole shards in an order of their own, rows shuffled per shard
defaults  the same rows as Parquet, `ray.data.read_parquet(...).iter_batches(batch_size=...)` and
          nothing else: no shuffle, NumPy batches, one batch ahead

Medians over rounds in which the sides take turns: seconds from opening to the first batch, and from
the last batch of an epoch to the first of the next; frames/s between them; frames per CPU second of
all processes, Ray's included. Ray itself is started before.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import figures
from benchmarks.rivals import expected
from benchmarks.toy import toy_config
from pipeline.config.load import load
from pipeline.config.schema import Config
from pipeline.data.block_reader import BlockReader
from pipeline.data.frames import CORE, StoredFrame
from pipeline.data.manifest import read_manifest
from pipeline.data.prepare.prepare import find_blocks
from pipeline.data.schema import ragged
from pipeline.data.shards import open_shard
from pipeline.data.stream import Streamed, StreamReader, stream_columns, stream_dataset
from pipeline.runtime.ray_cluster import ensure_ray
from pipeline.training import data_loop as training_steps
from pipeline.training.data_loop import BlockSteps, StreamSteps
from pipeline.training.worker import single_worker

Steps = BlockSteps | StreamSteps
Open = Callable[[], Steps]


class DefaultReader(StreamReader):
    """Frames as Ray Data brings them to who sets nothing but the batch size."""

    def frames(self, epoch: int) -> Iterator[Streamed]:
        image_shape = (1, *self._collate.image_shape)
        for rows in self._iterator.iter_batches(batch_size=self._config.train.batch_size):
            for number, row in enumerate(rows["row"]):
                one = {name: np.asarray(column[number]) for name, column in rows.items()}
                yield Streamed(
                    frame=StoredFrame(
                        image=one["image"].reshape(image_shape),
                        points=one["points"].reshape(-1, 4),
                        point_class=one["point_class"],
                        point_label=one["point_label"],
                    ),
                    row=int(row),
                    intrinsics=one["intrinsics"].astype(np.float32),
                    camera_from_lidar=one["camera_from_lidar"].astype(np.float32).reshape(4, 4),
                    voxel_from_lidar=None,
                )


def write_parquet(folder: Path, place: Path) -> None:
    """The train rows that `DefaultReader` reads, a file per shard, by pyarrow's defaults.

    Arrays are flat lists: of lists of lists Ray Data would make an object per point.
    """
    first = 0
    for shard in read_manifest(folder).shards_of("train"):
        block = open_shard(folder, shard)
        columns = {name: block.column(name) for name in stream_columns(())}
        for name in CORE:
            values, offsets = ragged(block, name)
            columns[name] = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
        columns["row"] = pa.array(range(first, first + shard.num_rows))
        pq.write_table(pa.table(columns), place / f"{shard.name}.parquet")
        first += shard.num_rows


def sides_of(config: Config, folder: Path, place: Path) -> dict[str, Open]:
    """How each side is opened; Parquet files are written to `place`."""
    import ray.data

    worker = single_worker(lambda line: None, use_gpu=False)
    write_parquet(folder, place)

    def default_steps() -> Steps:
        with mock.patch.object(training_steps, "StreamReader", DefaultReader):
            iterator = ray.data.read_parquet(str(place)).iterator()
            return StreamSteps(config, folder, worker, iterator)

    return {
        "blocks": lambda: BlockSteps(config, folder, worker),
        "stream": lambda: StreamSteps(
            config, folder, worker, stream_dataset(config, folder).iterator()
        ),
        "defaults": default_steps,
    }


@dataclass(frozen=True, kw_only=True)
class Times:
    """Of one round of a side."""

    first_s: float
    change_s: float
    frames_per_s: float
    per_cpu_s: float


def timed(open_steps: Open, *, num_epochs: int) -> Times:
    """Open, read the epochs, close."""
    cpu_s, last_s = figures.tree_cpu_s(), time.perf_counter()
    steps = open_steps()
    waits, num_frames, num_rest, reading_s = [], 0, 0, 0.0
    for epoch in range(num_epochs):
        batches = steps.epoch(epoch, first_step=0)
        first = next(batches).num_frames
        first_s = time.perf_counter()
        waits.append(first_s - last_s)
        rest = sum(batch.num_frames for batch in batches)
        last_s = time.perf_counter()
        num_frames, num_rest = num_frames + first + rest, num_rest + rest
        reading_s += last_s - first_s
    steps.close()
    return Times(
        first_s=waits[0],
        change_s=statistics.median(waits[1:]),
        frames_per_s=num_rest / reading_s,
        per_cpu_s=num_frames / (figures.tree_cpu_s() - cpu_s),
    )


def check(steps: Steps, reader: BlockReader, *, seed: int) -> None:
    """Epoch 0 brings every row once, and batches that are those of the rows."""
    seen: list[int] = []
    for batch in steps.epoch(0, first_step=0):
        rows = batch.row.tolist()
        seen += rows
        wanted = expected(reader.batch(rows, augment_seed=(seed, 0)))
        for name, array in expected(batch).items():
            assert np.array_equal(array, wanted[name]), name
    assert sorted(seen) == list(range(reader.num_rows)), len(seen)


def measure(config: Config, place: Path, *, num_epochs: int, rounds: int) -> list[str]:
    """One line per side."""
    ensure_ray()
    folder = find_blocks(config)
    sides = sides_of(config, folder, place)
    reader = BlockReader(folder, "train", ego_box_m=config.data.ego_box_m)
    for open_steps in sides.values():
        steps = open_steps()
        check(steps, reader, seed=config.train.seed)
        steps.close()
    found: dict[str, list[Times]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, open_steps in list(sides.items())[:: -1 if number % 2 else 1]:
            found[name].append(timed(open_steps, num_epochs=num_epochs))
    return [f"{name}: {told(times)}" for name, times in found.items()]


def told(times: list[Times]) -> str:
    """Medians with minimum and maximum."""
    return (
        f"first batch {figures.spread([one.first_s for one in times])} s, "
        f"epoch change {figures.spread([one.change_s for one in times], 3)} s, "
        f"{figures.spread([one.frames_per_s for one in times], 0)} frames/s, "
        f"{figures.spread([one.per_cpu_s for one in times], 0)} frames per CPU second"
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--epochs", type=int, default=3, help="of each round, at least 2")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--toy", action="store_true", help="a small world")
    arguments, overrides = parser.parse_known_args(argv)
    with tempfile.TemporaryDirectory(prefix="stream-benchmark-") as name:
        place = Path(name)
        config = toy_config(place) if arguments.toy else load(arguments.config, overrides)
        (place / "parquet").mkdir()
        print(f"stream: {figures.cpu()}, {figures.load()}", flush=True)
        for line in measure(
            config, place / "parquet", num_epochs=arguments.epochs, rounds=arguments.rounds
        ):
            print(f"stream: {line}", flush=True)


if __name__ == "__main__":
    main()
