"""Work done ahead of whoever waits for it, in one thread and in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Calls made in a thread, up to `depth` of them before their results are asked for.

    The calls themselves are taken from their iterator by whoever asks for results, so what must
    happen in his thread (a collective, above all) can. With depth 0 everything happens there.
    """

    def __init__(self, *, depth: int, name: str) -> None:
        self._depth = depth
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name) if depth else None

    def results(self, calls: Iterable[Callable[[], T]]) -> Generator[T, None, None]:
        """Each call's result, in order; what a call raises is raised here, in its place."""
        if self._pool is None:
            yield from (call() for call in calls)
            return
        pending: deque[Future[T]] = deque()
        try:
            for call in calls:
                pending.append(self._pool.submit(call))
                if len(pending) > self._depth:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            # Whoever stops early (a failure, a limit of steps) leaves nothing to be done.
            for future in pending:
                future.cancel()

    def close(self) -> None:
        """Wait for the call that is being made, drop the others, end the thread."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
