"""Batches of an epoch's steps, `train.batch_size` frames each over all ranks, by either reader."""

import itertools
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipeline.config import Config
from pipeline.data.batches import Batch
from pipeline.data.cache import fetch_tables, is_remote
from pipeline.data.manifest import Balance, Manifest
from pipeline.data.order import epoch_order, num_steps, rank_share, step_rows
from pipeline.data.readers import open_reader, training_extras
from pipeline.data.stream import Streamed, StreamReader, shares, stream_dataset
from pipeline.training.worker import Worker

if TYPE_CHECKING:
    from ray.data import DataIterator


class BlockSteps:
    """Steps in the order that seed, epoch and step decide, whatever the number of ranks."""

    def __init__(self, config: Config, folder: Path, worker: Worker) -> None:
        self._config, self._worker = config, worker
        self._reader = open_reader(
            config,
            folder,
            "train",
            window=config.data.window,
            say=worker.progress,
            extras=training_extras(config),
        )
        self.manifest: Manifest = self._reader.manifest
        self.per_epoch = num_steps(self._reader.num_rows, batch_size=config.train.batch_size)

    def cell_balance(self, *, stride: int) -> Balance:
        """Anomalous against normal cells of the train split's images."""
        return self._reader.cell_balance(stride=stride)

    def epoch(self, epoch: int, *, first_step: int) -> Iterator[Batch]:
        """This rank's part, possibly empty, of each step from `first_step` on."""
        train, reader = self._config.train, self._reader
        order = epoch_order(
            reader.shard_sizes,
            seed=train.seed,
            epoch=epoch,
            window_shards=self._config.data.window_shards,
        )
        for step in range(first_step, self.per_epoch):
            rows = step_rows(order, step=step, batch_size=train.batch_size)
            mine = rank_share(
                rows,
                reader.num_points[rows],
                rank=self._worker.rank,
                num_workers=self._worker.num_workers,
            )
            batch = reader.batch(mine, augment_seed=augment_seed(self._config, epoch))
            yield batch.to(self._worker.device)


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
        self.per_epoch = num_steps(self._reader.num_rows, batch_size=config.train.batch_size)

    def cell_balance(self, *, stride: int) -> Balance:
        """Anomalous against normal cells of the train split's images."""
        return self._reader.cell_balance(stride=stride)

    def epoch(self, epoch: int, *, first_step: int) -> Iterator[Batch]:
        """This rank's part, possibly empty, of each step; it cannot begin inside an epoch."""
        assert first_step == 0, first_step
        size = self._config.train.batch_size
        frames = self._reader.frames(epoch)
        waiting: deque[Streamed] = deque()
        for _ in range(self.per_epoch):
            waiting.extend(itertools.islice(frames, size - len(waiting)))
            share = self._share(len(waiting))
            mine = [waiting.popleft() for _ in range(share)]
            batch = self._reader.batch(mine, augment_seed=augment_seed(self._config, epoch))
            yield batch.to(self._worker.device)
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
    from pipeline.ray_session import ensure_ray

    ensure_ray()
    return stream_dataset(config, folder, extras=training_extras(config)).iterator()
