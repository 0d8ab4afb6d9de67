"""Batches of an epoch's steps, `train.batch_size` frames each over all ranks, by either reader.

A thread assembles them ahead of the model and copies them to its GPU (`data.prefetch_batches`);
what a step holds is decided in the caller's thread, where ranks may talk to each other.
"""

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int64

from pipeline.config.schema import Config
from pipeline.data.ahead import Ahead
from pipeline.data.batch import Batch
from pipeline.data.cache import fetch_tables, is_remote
from pipeline.data.manifest import Balance, Manifest
from pipeline.data.order import (
    epoch_order,
    num_steps,
    rank_share,
    step_ends,
    step_ends_by_points,
    step_rows,
)
from pipeline.data.readers import open_reader, training_extras
from pipeline.data.stream import Streamed, StreamReader, shares, stream_dataset
from pipeline.data.upload import Upload, Uploaded
from pipeline.training.worker import Worker

if TYPE_CHECKING:
    from ray.data import DataIterator


class BatchesAhead:
    """Batches on the worker's device, made by a thread some steps before the model takes them."""

    def __init__(self, config: Config, worker: Worker) -> None:
        self._ahead = Ahead[Uploaded](depth=config.data.prefetch_batches, name="batches")
        self._upload = Upload(worker.device)

    def batches(self, calls: Iterator[Callable[[], Batch]]) -> Iterator[Batch]:
        """What each call makes, in order; errors are raised in their batch's place."""
        for uploaded in self._ahead.results(
            functools.partial(self._make_and_start, make) for make in calls
        ):
            yield self._upload.finish(*uploaded)

    def _make_and_start(self, make: Callable[[], Batch]) -> Uploaded:
        return self._upload.start(make())

    def close(self) -> None:
        """End the thread; no batches after this."""
        self._ahead.close()


class BlockSteps:
    """Steps in the order that seed, epoch and step decide, whatever the number of ranks."""

    def __init__(self, config: Config, folder: Path, worker: Worker) -> None:
        self._config, self._worker = config, worker
        self._reader = open_reader(
            config,
            folder,
            "train",
            num_sweeps=config.data.num_sweeps,
            say=worker.progress,
            extras=training_extras(config),
        )
        self.manifest: Manifest = self._reader.manifest
        self._ahead = BatchesAhead(config, worker)
        self._plan = functools.lru_cache(maxsize=2)(self._plan_epoch)
        self._sizes: dict[int, int] = {}

    def cell_balance(self, *, stride: int) -> Balance:
        """Anomalous against normal cells of the train split's images."""
        return self._reader.cell_balance(stride=stride)

    def in_epoch(self, epoch: int) -> int:
        """Steps of an epoch; with `train.points_per_batch` epochs may differ by a few."""
        if epoch not in self._sizes:
            size = self._config.train.batch_size
            self._sizes[epoch] = (
                len(self._plan(epoch)[1])
                if self._config.train.points_per_batch
                else num_steps(self._reader.num_rows, batch_size=size)
            )
        return self._sizes[epoch]

    def num_frames(self, epoch: int, step: int) -> int:
        """Frames of a step of an epoch (from 0), over all ranks."""
        return len(step_rows(*self._plan(epoch), step=step))

    def epoch(self, epoch: int, *, first_step: int) -> Iterator[Batch]:
        """This rank's part, possibly empty, of each step from `first_step` on."""
        seed = augment_seed(self._config, epoch)
        return self._ahead.batches(
            functools.partial(self._reader.batch, self._mine(epoch, step), augment_seed=seed)
            for step in range(first_step, self.in_epoch(epoch))
        )

    def close(self) -> None:
        """End the thread that assembles batches."""
        self._ahead.close()

    def _mine(self, epoch: int, step: int) -> Int64[np.ndarray, "b"]:
        rows = step_rows(*self._plan(epoch), step=step)
        return rank_share(
            rows,
            self._reader.num_points[rows],
            rank=self._worker.rank,
            num_workers=self._worker.num_workers,
        )

    def _plan_epoch(self, epoch: int) -> tuple[Int64[np.ndarray, "N"], Int64[np.ndarray, "S"]]:
        """The epoch's rows in order, and where in it each step ends."""
        train, reader = self._config.train, self._reader
        order = epoch_order(
            reader.shard_sizes,
            seed=train.seed,
            epoch=epoch,
            shuffle_shards=self._config.data.shuffle_shards,
        )
        if train.points_per_batch:
            points = reader.num_points[order]
            return order, step_ends_by_points(points, points_per_batch=train.points_per_batch)
        return order, step_ends(len(order), batch_size=train.batch_size)


class StreamSteps:
    """Steps in the order in which Ray Data brings the frames.

    Before each step a rank holds up to a whole step's frames and tells the others how many, so
    that they agree on equal parts: every step is full but the last, and an epoch has as many steps
    as with blocks, however unevenly the stream was split.
    """

    def __init__(
        self, config: Config, folder: Path, worker: Worker, iterator: "DataIterator"
    ) -> None:
        self._config, self._worker = config, worker
        self._reader = StreamReader(
            config, folder, iterator, rank=worker.rank, extras=training_extras(config)
        )
        self.manifest: Manifest = self._reader.manifest
        self._ahead = BatchesAhead(config, worker)

    def cell_balance(self, *, stride: int) -> Balance:
        """Anomalous against normal cells of the train split's images."""
        return self._reader.cell_balance(stride=stride)

    def in_epoch(self, epoch: int) -> int:
        """Steps of an epoch; all have the same number."""
        return num_steps(self._reader.num_rows, batch_size=self._config.train.batch_size)

    def num_frames(self, epoch: int, step: int) -> int:
        """Frames of a step of an epoch (from 0), over all ranks."""
        size = self._config.train.batch_size
        return min(size, self._reader.num_rows - step * size)

    def epoch(self, epoch: int, *, first_step: int) -> Iterator[Batch]:
        """This rank's part, possibly empty, of each step; it cannot begin inside an epoch."""
        assert first_step == 0, first_step
        return self._ahead.batches(self._calls(epoch))

    def close(self) -> None:
        """End the thread that assembles batches."""
        self._ahead.close()

    def _calls(self, epoch: int) -> Iterator[Callable[[], Batch]]:
        """What makes the batch of each step. Ranks agree on shares in the training's own thread:
        in another one their sums could cross those of a step's gradients."""
        size, seed = self._config.train.batch_size, augment_seed(self._config, epoch)
        frames = self._reader.frames(epoch)
        waiting: deque[Streamed] = deque()
        for _ in range(self.in_epoch(epoch)):
            waiting.extend(itertools.islice(frames, size - len(waiting)))
            share = self._share(len(waiting))
            mine = [waiting.popleft() for _ in range(share)]
            yield functools.partial(self._reader.batch, mine, augment_seed=seed)
        # Ray begins the next epoch when every rank has come to the end of this one.
        assert not waiting, len(waiting)
        assert next(frames, None) is None

    def _share(self, num_waiting: int) -> int:
        counts = torch.zeros(
            self._worker.num_workers, dtype=torch.int64, device=self._worker.device
        )
        counts[self._worker.rank] = num_waiting
        everyone = self._worker.sum(counts).cpu().numpy()
        return shares(everyone, batch_size=self._config.train.batch_size)[self._worker.rank]


def open_steps(config: Config, folder: Path, worker: Worker) -> BlockSteps | StreamSteps:
    """The steps that `data.reader` names, over the prepared `folder`."""
    if config.data.reader == "blocks":
        return BlockSteps(config, folder, worker)
    if is_remote(config.data.blocks):
        folder = fetch_tables(config)
    return StreamSteps(config, folder, worker, _iterator(config, folder))


def augment_seed(config: Config, epoch: int) -> tuple[int, int] | None:
    """What augmentation is drawn from in an epoch; None = none."""
    return (config.train.seed, epoch) if config.train.augment else None


def _iterator(config: Config, folder: Path) -> "DataIterator":
    """This rank's part of the stream, or all of it where there are no Ray Train workers."""
    if config.scaling.num_workers:
        import ray.train

        part = ray.train.get_dataset_shard("train")
        assert part is not None
        return part
    from pipeline.runtime.ray_cluster import ensure_ray

    ensure_ray()
    return stream_dataset(config, folder, extras=training_extras(config)).iterator()
