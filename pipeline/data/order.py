"""Which frames make step s of epoch e: pure functions of seed, epoch, step and batch size.

The order does not know how many workers there are: ranks take parts of a step that is already
decided. So a run resumes inside an epoch, with the same or another number of workers, on the same
frames per step. Shuffling in windows of whole shards keeps reads local on data larger than memory.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64


def epoch_order(
    shard_sizes: Sequence[int], *, seed: int, epoch: int, shuffle_shards: int
) -> Int64[np.ndarray, "N"]:
    """Every row of a split once; rows are numbered shard by shard (shard 0 first).

    Shards are shuffled, then the rows inside each window of `shuffle_shards` shards.
    """
    assert shuffle_shards >= 1, shuffle_shards
    rng = np.random.default_rng([seed, epoch])
    starts = [0, *itertools.accumulate(shard_sizes)]
    shards = rng.permutation(len(shard_sizes))
    order = np.empty(starts[-1], dtype=np.int64)
    done = 0
    for first in range(0, len(shards), shuffle_shards):
        window = shards[first : first + shuffle_shards]
        rows = np.concatenate([np.arange(starts[shard], starts[shard + 1]) for shard in window])
        order[done : done + len(rows)] = rng.permutation(rows)
        done += len(rows)
    return order


def num_steps(num_rows: int, *, batch_size: int) -> int:
    """Steps that show `num_rows` rows once; the last one may be short."""
    return -(-num_rows // batch_size)


def step_ends(num_rows: int, *, batch_size: int) -> Int64[np.ndarray, "S"]:
    """Where in an epoch's order each step ends: `batch_size` rows each, the last may be short."""
    starts = np.arange(num_steps(num_rows, batch_size=batch_size), dtype=np.int64)
    return np.minimum((starts + 1) * batch_size, num_rows)


def step_ends_by_points(
    num_points: Int64[np.ndarray, "N"], *, points_per_batch: int
) -> Int64[np.ndarray, "S"]:
    """The same for steps of at most `points_per_batch` points; one cloud makes a step in any case.

    `num_points` counts the points of an epoch's rows, in its order.
    """
    total = np.cumsum(num_points)
    ends, end, done = [], 0, 0
    while end < len(total):
        fitting = int(np.searchsorted(total, done + points_per_batch, side="right"))
        end = max(fitting, end + 1)
        done = int(total[end - 1])
        ends.append(end)
    return np.array(ends, dtype=np.int64)


def step_rows(
    order: Int64[np.ndarray, "N"], ends: Int64[np.ndarray, "S"], *, step: int
) -> Int64[np.ndarray, "B"]:
    """Rows of global step `step` (from 0) of the epoch that `order` describes; never empty."""
    assert 0 <= step < len(ends), (step, len(ends))
    return order[(ends[step - 1] if step else 0) : ends[step]]


def rank_share(
    rows: Int64[np.ndarray, "B"], num_points: Int64[np.ndarray, "B"], *, rank: int, num_workers: int
) -> Int64[np.ndarray, "b"]:
    """The part of a step's rows that `rank` takes, in the step's order; it may be empty.

    `num_points` counts the points of each of `rows`. Greedy: the largest cloud first, each to the
    rank with the fewest points so far, so the parts are disjoint, complete and differ by at most
    one cloud.
    """
    assert 0 <= rank < num_workers, (rank, num_workers)
    loads = [(0, 0, other) for other in range(num_workers)]
    mine = []
    for position in np.argsort(-num_points, kind="stable"):
        points, frames, lightest = min(loads)
        loads[lightest] = (points + int(num_points[position]), frames + 1, lightest)
        if lightest == rank:
            mine.append(position)
    return rows[np.sort(np.asarray(mine, dtype=np.int64))]
