"""A whole split counted on all cores: by threads of this process, or by Ray workers where they pay.

A Ray worker takes seconds to start, as it imports torch again; threads start at once, but see the
cores of one machine and one GPU. `starts_workers` is the rule.
"""

import functools
import logging
import operator
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from pipeline.config.schema import Config, ScalingConfig
from pipeline.data.block_reader import BlockReader
from pipeline.data.frames import Extra
from pipeline.data.readers import open_reader
from pipeline.evaluation.threads import Counts, add_spans, one_core_each, spans_of
from pipeline.runtime.errors import RunFailed
from pipeline.runtime.progress import Progress

logger = logging.getLogger(__name__)
C = TypeVar("C", bound=Counts)
Make = Callable[[BlockReader, int], list[C]]
"""From a reader and a number of threads to as many counts of nothing; travels to Ray workers."""
BATCHES_PER_TASK = 8
"""For each thread of a worker: enough that asking for the next ones costs nothing."""
_MEMORY_ADVICE = "RAY_memory_usage_threshold"
"""In what Ray says when it ended a process because its node's memory ran out."""


@dataclass(frozen=True, kw_only=True)
class OpenSplit:
    """A split as this process has opened it, and how a worker opens it for itself."""

    config: Config
    blocks: Path
    reader: BlockReader
    num_sweeps: int
    extras: tuple[Extra, ...] = ()

    @classmethod
    def open(
        cls,
        config: Config,
        blocks: Path,
        split: str,
        *,
        num_sweeps: int = 1,
        extras: Sequence[Extra] = (),
    ) -> "OpenSplit":
        """Open a split of the prepared folder `blocks` (what `find_blocks` gave)."""
        reader = open_reader(
            config, blocks, split, num_sweeps=num_sweeps, say=logger.info, extras=tuple(extras)
        )
        return cls(
            config=config, blocks=blocks, reader=reader, num_sweeps=num_sweeps, extras=tuple(extras)
        )


def count_split(make: Make[C], split: OpenSplit, *, progress: Progress) -> C:
    """Every frame of the split counted once, on all cores or workers; the same counts either way.

    Raises what counting a batch raises, and RunFailed (`worker_error`, `no_resources`) when a Ray
    worker dies or gets no place: counts of a part of the split are never returned.
    """
    if starts_workers(split.config, split.reader.num_rows):
        return _count_with_ray(make, split, progress=progress)
    total, frames = split.reader.num_rows, 0

    def done(num_frames: int) -> None:
        nonlocal frames
        frames += num_frames
        progress(frames, total)

    with one_core_each() as num_threads:
        counts = make(split.reader, num_threads)
        spans = spans_of(total, batch_size=split.config.evaluation.batch_size)
        add_spans(counts, split.reader, spans, done)
    return functools.reduce(operator.add, counts)


def starts_workers(config: Config, num_frames: int) -> bool:
    """Whether `scaling.num_workers` Ray workers count a split of so many frames.

    On GPUs where there is more than the one that this process sees; on CPUs from
    `evaluation.ray_from_frames` on.
    """
    scaling = config.scaling
    if scaling.use_gpu and scaling.num_workers:
        return scaling.num_workers > 1 or not torch.cuda.is_available()
    return scaling.num_workers > 1 and num_frames >= config.evaluation.ray_from_frames


class _CountingWorker:
    """One Ray worker: its own reader, and counts for each of its threads."""

    def open(self, make: Make[Any], place: dict[str, Any], num_threads: int) -> None:
        """Not the constructor, whose errors would reach the job as the worker's death."""
        torch.set_num_threads(1)
        self._reader = OpenSplit.open(**place).reader
        self._counts = make(self._reader, num_threads)

    def add(self, spans: Sequence[range]) -> int:
        """Count these batches; how many frames they hold."""
        add_spans(self._counts, self._reader, spans, lambda num_frames: None)
        return sum(map(len, spans))

    def result(self) -> Counts:
        """What all of this worker's threads have counted."""
        return functools.reduce(operator.add, self._counts)


def _count_with_ray(make: Make[C], split: OpenSplit, *, progress: Progress) -> C:
    from pipeline.runtime.ray_cluster import demand_room, ensure_ray

    ensure_ray()
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    demand_room(split.config.scaling)
    workers = _workers(split.config.scaling)
    try:
        _open_all(workers, make, split)
        _deal_out(workers, split, progress)
        # One after the other, so that only two workers' counts are in memory at a time.
        results: Iterator[C] = (ray.get(worker.result.remote()) for worker in workers)
        return functools.reduce(operator.add, results)
    except RayTaskError as error:
        if isinstance(error.cause, ValueError):
            raise ValueError(str(error.cause)) from None
        raise
    except RayActorError as error:
        raise RunFailed(
            f"a worker that counts the {split.reader.split} split died ({_cause(error)}), so "
            "nothing was counted or written; run the job again, with a lower "
            "scaling.num_workers if memory ran out",
            reason="worker_error",
        ) from None
    finally:
        for worker in workers:
            ray.kill(worker)


def _cause(error: BaseException) -> str:
    """What a process of Ray's died of, in a few words."""
    if _MEMORY_ADVICE in str(error):
        return "Ray ended it, as the memory of its node ran out"
    return "its process or its node ended"


def _workers(scaling: ScalingConfig) -> list[Any]:
    """Handles of workers on as many nodes as there are; they may still have to start."""
    import ray

    from pipeline.runtime.ray_cluster import worker_bundle

    need = worker_bundle(scaling)
    worker = ray.remote(
        num_cpus=need["CPU"],
        num_gpus=need.get("GPU", 0.0),
        max_restarts=0,
        scheduling_strategy="SPREAD",
    )(_CountingWorker)
    return [worker.remote() for _ in range(scaling.num_workers)]


def _open_all(workers: Sequence[Any], make: Make[Any], split: OpenSplit) -> None:
    """Wait until every worker has opened the split; RunFailed when some get no place."""
    import ray

    place = {
        "config": split.config,
        "blocks": split.blocks,
        "split": split.reader.split,
        "num_sweeps": split.num_sweeps,
        "extras": split.extras,
    }
    shared = ray.put(make)
    scaling = split.config.scaling
    opened = [worker.open.remote(shared, place, _num_threads(scaling)) for worker in workers]
    ready, waiting = ray.wait(
        opened, num_returns=len(opened), timeout=scaling.start_timeout_s, fetch_local=False
    )
    ray.get(ready)
    if waiting:
        raise RunFailed(
            f"{len(waiting)} of {len(workers)} workers did not start within "
            f"scaling.start_timeout_s={scaling.start_timeout_s:g}, as the cluster's CPUs or GPUs "
            "are in use; wait for them or lower scaling.num_workers",
            reason="no_resources",
        )


def _num_threads(scaling: ScalingConfig) -> int:
    return max(1, int(scaling.cpus_per_worker))


def _deal_out(workers: Sequence[Any], split: OpenSplit, progress: Progress) -> None:
    """Give every worker batches until there are none left: quick ones get more of them."""
    import ray

    config, total, frames = split.config, split.reader.num_rows, 0
    todo = _tasks(
        spans_of(total, batch_size=config.evaluation.batch_size),
        num_workers=len(workers),
        num_threads=_num_threads(config.scaling),
    )
    running: dict[Any, Any] = {}
    for worker in workers:
        if todo:
            running[worker.add.remote(todo.popleft())] = worker
    while running:
        (ended,), _ = ray.wait(list(running), num_returns=1)
        worker = running.pop(ended)
        frames += ray.get(ended)
        progress(frames, total)
        if todo:
            running[worker.add.remote(todo.popleft())] = worker


def _tasks(spans: list[range], *, num_workers: int, num_threads: int) -> deque[list[range]]:
    """Batches in groups: at least four tasks per worker where there are as many batches."""
    fair = -(-len(spans) // (4 * num_workers))
    size = max(1, min(fair, BATCHES_PER_TASK * num_threads))
    return deque(spans[start : start + size] for start in range(0, len(spans), size))
