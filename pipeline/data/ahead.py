"""Work done ahead of whoever waits for it, in one thread and in order."""

import threading
import weakref
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class _Results(Generic[_T]):
    """What the calls of one iteration gave, in their order, or what they raised."""

    def __init__(self) -> None:
        self.wanted = True
        self._outcomes: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def make(self, call: Callable[[], _T]) -> None:
        """Called by the thread; what a call raises is raised by `take`."""
        try:
            if not self.wanted:
                raise CancelledError
            self._outcomes.put((call(), None))
        except BaseException as error:
            self._outcomes.put((None, error))

    def take(self) -> _T:
        """The next result, which may have to be waited for."""
        result, error = self._outcomes.get()
        if error is None:
            return result
        try:
            raise error
        finally:
            # The error knows this call's variables: with itself among them it would not be freed.
            del error


class Ahead(Generic[_T]):
    """Calls made in a thread, up to `depth` of them before their results are asked for.

    The calls themselves are taken from their iterator by whoever asks for results, so what must
    happen in his thread (a collective, above all) can. With depth 0 everything happens there. Two
    queues lead to the thread and back: futures take three times as much of his time per call.
    """

    def __init__(self, *, depth: int, name: str) -> None:
        self._depth = depth
        self._thread: threading.Thread | None = None
        if depth:
            self._calls, ending = SimpleQueue[Any](), threading.Event()
            # A daemon that knows nothing of `self`: without `close` it ends with `self` or Python.
            self._thread = threading.Thread(
                target=_work, args=(self._calls, ending), name=name, daemon=True
            )
            self._end = weakref.finalize(self, _end, self._calls, ending, self._thread)
            self._thread.start()

    def results(self, calls: Iterable[Callable[[], _T]]) -> Generator[_T, None, None]:
        """Each call's result, in order; what a call raises is raised here, in its place."""
        if self._thread is None:
            yield from (call() for call in calls)
            return
        results, pending = _Results[_T](), 0
        try:
            for call in calls:
                assert self._thread.is_alive(), "closed"
                self._calls.put((results, call))
                pending += 1
                if pending > self._depth:
                    yield results.take()
                    pending -= 1
            for _ in range(pending):
                yield results.take()
        finally:
            # Whoever stops early (a failure, a limit of steps) leaves nothing to be done.
            results.wanted = False

    def close(self) -> None:
        """Wait for the call that is being made, drop the others, end the thread."""
        if self._thread is not None:
            self._end()


def _work(calls: SimpleQueue[Any], ending: threading.Event) -> None:
    """Make calls until None comes."""
    while (given := calls.get()) is not None:
        results, call = given
        if ending.is_set():
            results.wanted = False
        results.make(call)
        # Or the thread would hold the last batch's memory while it waits.
        del given, results, call


def _end(calls: SimpleQueue[Any], ending: threading.Event, thread: threading.Thread) -> None:
    ending.set()
    calls.put(None)
    if thread is not threading.current_thread():
        thread.join()
