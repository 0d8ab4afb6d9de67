"""SIGTERM and Ctrl-C: the first one ends the work, no further one cuts its end short.

`ray job stop` and `timeout` reach a job more than once, and people press Ctrl-C twice. Python runs
a handler between any two steps of the main thread, so without this a second signal would interrupt
what the first one has begun, and leave a run RUNNING in MLflow for ever.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_before: dict[int, Any] = {}
"""Handlers that ours stands before; empty outside of `first_signal_ends`."""


@contextmanager
def first_signal_ends() -> Iterator[None]:
    """Inside, the first signal raises (SystemExit, KeyboardInterrupt) and later ones are ignored.

    So the block's clean-up comes to its end. Only in the main thread, as Python demands; inside
    another such block it changes nothing.
    """
    if not _in_main_thread() or _before:
        yield
        return
    _arm()
    try:
        yield
    finally:
        for number, handler in _before.items():
            if signal.getsignal(number) in (_first, signal.SIG_IGN):
                signal.signal(number, handler)
        _before.clear()


def arm_again() -> None:
    """Stand before a handler that somebody (Ray) has installed inside `first_signal_ends`."""
    if _in_main_thread() and _before:
        _arm()


@contextmanager
def held() -> Iterator[None]:
    """Signals that come inside are dealt with at the end of the block, as if they came then."""
    if not _in_main_thread():
        yield
        return
    came: list[int] = []
    before = {number: handler for number in SIGNALS if (handler := signal.getsignal(number))}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _arm() -> None:
    for number in SIGNALS:
        handler = signal.getsignal(number)
        # None is a handler that was not installed from Python.
        if handler not in (_first, signal.SIG_IGN, None):
            _before[number] = handler
            signal.signal(number, _first)


def _first(number: int, frame: FrameType | None) -> None:
    for one in _before:
        signal.signal(one, signal.SIG_IGN)
    handler = _before[number]
    if not callable(handler):
        raise SystemExit(128 + number)
    handler(number, frame)
    # It did not raise, so the work goes on.
    for one in _before:
        signal.signal(one, _first)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
