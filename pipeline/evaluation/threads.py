"""Batches of a split worked on side by side by threads, one core each.

Torch and NumPy give up the interpreter's lock while they compute, so frames beside each other keep
all cores busy, where one frame spread over all cores leaves them waiting at every small operation.
Each batch is computed by one core whoever runs it, so its numbers do not depend on how many threads
or workers there are.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch

from pipeline.data.batch import Batch
from pipeline.data.block_reader import BlockReader


@runtime_checkable
class Counts(Protocol):
    """What grows with every batch and adds up exactly over threads and workers, in any order."""

    def add(self, batch: Batch) -> None:
        """Count a batch."""

    # Not `Self`, which the checker of shapes in the tests does not take in a protocol.
    def __add__(self, other: Any) -> Any: ...


@contextmanager
def one_core_each() -> Iterator[int]:
    """Torch computes with one thread inside; yields how many it used before."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield num_threads
    finally:
        torch.set_num_threads(num_threads)


def spans_of(num_rows: int, *, batch_size: int) -> list[range]:
    """The rows of every batch of a split, in order: the same for any number of threads."""
    starts = range(0, num_rows, batch_size)
    return [range(start, min(start + batch_size, num_rows)) for start in starts]


def add_spans(
    counts: Sequence[Counts],
    reader: BlockReader,
    spans: Sequence[range],
    done: Callable[[int], None],
) -> None:
    """Each batch once, with one thread for each of `counts`; `done` is told frames, one at a time.

    What a thread raises ends all of them and is raised here.
    """
    todo, reading, telling = deque(spans), threading.Lock(), threading.Lock()

    def work(own: Counts) -> None:
        while True:
            # A reader lends its memory to one batch at a time.
            with reading:
                if not todo:
                    return
                span = todo.popleft()
                batch = reader.batch(list(span), augment_seed=None)
            own.add(batch)
            with telling:
                done(len(span))

    with ThreadPoolExecutor(len(counts), thread_name_prefix="counting") as pool:
        futures = [pool.submit(work, each) for each in counts]
        try:
            ended, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            todo.clear()
    for future in (*ended, *futures):
        future.result()
