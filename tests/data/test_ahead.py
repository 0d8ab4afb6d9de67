"""Work ahead of its use: in order, errors in their place, no thread left behind."""

import gc
import threading
import time
import weakref
from concurrent.futures import CancelledError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.ahead import Ahead
from pipeline.data.memory import Memory


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "ahead-test" in thread.name]


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(0, 5))
def test_results_come_in_order_whatever_the_depth(num, depth):
    ahead = Ahead[int](depth=depth, name="ahead-test")
    assert list(ahead.results(lambda i=i: i for i in range(num))) == list(range(num))
    ahead.close()
    assert threads() == []


def test_calls_are_made_ahead_in_a_thread_and_no_further_than_the_depth():
    made: list[tuple[int, str]] = []

    def call(number: int) -> int:
        made.append((number, threading.current_thread().name))
        return number

    ahead = Ahead[int](depth=2, name="ahead-test")
    results = ahead.results((lambda i=i: call(i)) for i in range(9))
    assert next(results) == 0
    deadline = time.monotonic() + 10
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert [number for number, _ in made] == [0, 1, 2]
    assert all("ahead-test" in name for _, name in made)
    ahead.close()


def test_what_must_happen_in_the_callers_thread_does():
    where: list[str] = []

    def calls():
        for number in range(4):
            where.append(threading.current_thread().name)
            yield lambda number=number: number

    ahead = Ahead[int](depth=2, name="ahead-test")
    assert list(ahead.results(calls())) == [0, 1, 2, 3]
    ahead.close()
    assert set(where) == {threading.current_thread().name}


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_arrives_in_its_place_with_its_own_sentence(depth):
    def fail() -> int:
        raise ValueError("the stored image of frame 7 is damaged")

    ahead = Ahead[int](depth=depth, name="ahead-test")
    results = ahead.results([lambda: 0, lambda: 1, fail, lambda: 3])
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="the stored image of frame 7 is damaged"):
        next(results)
    ahead.close()
    assert threads() == []


def test_who_stops_early_leaves_neither_work_nor_thread():
    done: list[int] = []
    ahead = Ahead[None](depth=3, name="ahead-test")
    slow = ((lambda i=i: (time.sleep(0.05), done.append(i))[1]) for i in range(50))
    results = ahead.results(slow)
    next(results)
    results.close()
    ahead.close()
    assert threads() == []
    assert len(done) <= 4


def test_results_that_are_dropped_by_closing_are_not_waited_for():
    ahead, begun = Ahead[int](depth=3, name="ahead-test"), threading.Event()

    def slow() -> int:
        begun.set()
        time.sleep(0.2)
        return 1

    results = ahead.results([lambda: 0, slow, lambda: 2, lambda: 3])
    assert next(results) == 0
    assert begun.wait(10)
    ahead.close()
    assert next(results) == 1
    with pytest.raises(CancelledError):
        next(results)
    with pytest.raises(AssertionError, match="closed"):
        next(ahead.results([lambda: 5]))


def test_the_thread_ends_with_who_forgets_to_close():
    ahead = Ahead[int](depth=2, name="ahead-test")
    assert list(ahead.results([lambda: 0])) == [0]
    assert threads() != []
    del ahead
    gc.collect()
    assert threads() == []


def test_a_result_is_held_by_nobody_once_it_is_let_go_of():
    ahead = Ahead[np.ndarray](depth=2, name="ahead-test")
    results = ahead.results([lambda: np.zeros(9) for _ in range(2)])
    last = weakref.ref(next(results))
    for array in results:
        last = weakref.ref(array)
        del array
    time.sleep(0.05)
    assert last() is None
    ahead.close()


def test_buffers_are_never_lent_twice_at_once_by_many_threads():
    memory, failures = Memory(), []

    def use(seed: int) -> None:
        rng, held = np.random.default_rng(seed), []
        for number in range(300):
            array = memory.take(int(rng.integers(1, 4000)))
            array[:] = mark = (seed * 31 + number) % 251
            held.append((array[: len(array) // 2 + 1], mark))
            del array
            if len(held) > 3:
                view, mark = held.pop(int(rng.integers(len(held))))
                if not (view == mark).all():
                    failures.append((seed, number))

    workers = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    gc.collect()
    assert failures == []
