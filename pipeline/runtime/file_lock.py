"""Locks between processes that share a folder: the kernel lifts those of a killed one."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(lock: Path, *, refusal: Exception | None = None) -> Iterator[None]:
    """Wait until no other process holds `lock`, an empty file that stays, and hold it.

    With a `refusal`, that is raised instead of waiting.
    """
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if refusal else fcntl.LOCK_EX)
        except BlockingIOError:
            assert refusal
            raise refusal from None
        yield
