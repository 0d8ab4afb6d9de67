"""The order of an epoch is complete, reproducible and blind to the number of workers."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.order import (
    epoch_order,
    num_steps,
    rank_share,
    step_ends,
    step_ends_by_points,
    step_rows,
)

shard_sizes = st.lists(st.integers(0, 7), max_size=9)
seeds = st.integers(0, 2**31)
clouds = st.lists(st.integers(0, 100_000), max_size=12)


def shares(num_points: list[int], num_workers: int) -> list[np.ndarray]:
    rows = np.arange(len(num_points)) * 3 + 1
    counts = np.array(num_points, dtype=np.int64)
    return [rank_share(rows, counts, rank=r, num_workers=num_workers) for r in range(num_workers)]


@given(shard_sizes, seeds, st.integers(0, 5), st.integers(1, 12))
def test_every_row_comes_once_per_epoch(sizes, seed, epoch, window):
    order = epoch_order(sizes, seed=seed, epoch=epoch, shuffle_shards=window)
    assert sorted(order) == list(range(sum(sizes)))


@given(shard_sizes, seeds, st.integers(1, 12), st.integers(1, 6))
def test_the_order_is_a_pure_function(sizes, seed, window, epoch):
    first, again = (
        epoch_order(sizes, seed=seed, epoch=epoch, shuffle_shards=window) for _ in range(2)
    )
    assert np.array_equal(first, again)


@given(st.integers(0, 40), seeds, st.integers(1, 9))
def test_steps_show_every_row_once_whatever_the_batch_size(num_rows, seed, batch_size):
    order = epoch_order([num_rows], seed=seed, epoch=0, shuffle_shards=1)
    ends = step_ends(num_rows, batch_size=batch_size)
    assert len(ends) == num_steps(num_rows, batch_size=batch_size)
    rows = [step_rows(order, ends, step=step) for step in range(len(ends))]
    assert all(len(part) == batch_size for part in rows[:-1])
    assert all(len(part) > 0 for part in rows)
    assert np.array_equal(np.concatenate([*rows, np.empty(0, np.int64)]), order)


@given(clouds, st.integers(1, 250_000))
def test_steps_by_points_show_every_row_once_and_hold_what_fits(num_points, limit):
    counts = np.array(num_points, dtype=np.int64)
    order = np.arange(len(counts))[::-1].copy()
    ends = step_ends_by_points(counts[order], points_per_batch=limit)
    rows = [step_rows(order, ends, step=step) for step in range(len(ends))]
    assert np.array_equal(np.concatenate([*rows, np.empty(0, np.int64)]), order)
    assert all(len(part) > 0 for part in rows)
    assert all(len(part) == 1 or counts[part].sum() <= limit for part in rows)
    # Greedy: the next step's first cloud would not have fitted.
    for part, after in itertools.pairwise(rows):
        assert counts[part].sum() + counts[after[0]] > limit


@given(clouds, st.integers(1, 5))
def test_ranks_share_a_step_without_loss_or_overlap(num_points, num_workers):
    parts = shares(num_points, num_workers)
    rows = np.arange(len(num_points)) * 3 + 1
    assert sorted(np.concatenate(parts)) == sorted(rows)
    assert all(np.array_equal(part, rows[np.isin(rows, part)]) for part in parts)


@given(clouds, st.integers(1, 5))
def test_ranks_differ_by_at_most_one_cloud(num_points, num_workers):
    rows_to_points = dict(zip(np.arange(len(num_points)) * 3 + 1, num_points, strict=True))
    loads = [sum(rows_to_points[row] for row in part) for part in shares(num_points, num_workers)]
    assert max(loads) - min(loads) <= max(num_points, default=0)


def test_equal_clouds_are_dealt_evenly():
    assert [len(part) for part in shares([500] * 7, 3)] == [3, 2, 2]


def test_empty_clouds_are_dealt_evenly_too():
    assert [len(part) for part in shares([0] * 4, 2)] == [2, 2]


def test_a_rank_may_get_nothing():
    assert [len(part) for part in shares([10], 3)] == [1, 0, 0]


def test_epochs_and_seeds_change_the_order():
    orders = [
        tuple(epoch_order([8] * 8, seed=seed, epoch=epoch, shuffle_shards=2))
        for seed in range(3)
        for epoch in range(3)
    ]
    assert len(set(orders)) == 9


def test_rows_of_a_window_come_from_its_shards_only():
    order = epoch_order([4] * 6, seed=1, epoch=0, shuffle_shards=2)
    for start in range(0, 24, 8):
        assert len(set(order[start : start + 8] // 4)) == 2
