"""The first signal ends the work; none cuts its end short."""

import signal
import threading
from collections.abc import Iterator

import pytest

from pipeline.runtime.signals import arm_again, first_signal_ends, held


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Those of before, whatever a test does; what a shell starts with `&` ignores Ctrl-C."""
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def noted(calls: list[int]):
    return lambda number, frame: calls.append(number)


def ended_by(sent: signal.Signals, cleaned: list[bool]) -> None:
    """Work that gets a signal, and two more while it cleans up."""
    with first_signal_ends():
        try:
            signal.raise_signal(sent)
        finally:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            cleaned.append(True)


@pytest.mark.parametrize(
    ("sent", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_the_first_signal_raises_and_the_clean_up_hears_of_no_other(sent, error):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cleaned: list[bool] = []
    with pytest.raises(error):
        ended_by(sent, cleaned)
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def around(cleaned: list[bool]) -> None:
    with first_signal_ends():
        try:
            ended_by(signal.SIGTERM, cleaned)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned.append(True)


def test_a_block_inside_another_leaves_the_signals_to_the_outer_one():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cleaned: list[bool] = []
    with pytest.raises(SystemExit):
        around(cleaned)
    assert cleaned == [True, True]


def theirs(number: int, frame: object) -> None:
    raise SystemExit(7)


def with_their_handler(cleaned: list[bool]) -> None:
    with first_signal_ends():
        signal.signal(signal.SIGTERM, theirs)
        arm_again()
        ended_by(signal.SIGTERM, cleaned)


def test_a_handler_that_came_inside_is_asked_and_stays_afterwards():
    cleaned: list[bool] = []
    with pytest.raises(SystemExit) as ended:
        with_their_handler(cleaned)
    assert (ended.value.code, cleaned) == (7, [True])
    assert signal.getsignal(signal.SIGTERM) is theirs


def test_a_handler_that_does_not_end_the_work_is_asked_each_time():
    calls: list[int] = []
    signal.signal(signal.SIGTERM, noted(calls))
    with first_signal_ends():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert calls == [signal.SIGTERM] * 2


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with first_signal_ends():
        signal.raise_signal(signal.SIGINT)
    with held():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_held_signal_comes_at_the_end_of_the_block():
    calls: list[int] = []
    signal.signal(signal.SIGTERM, noted(calls))
    with held():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert calls == []
    assert calls == [signal.SIGTERM]


def test_other_threads_leave_the_handlers_alone():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with first_signal_ends(), held():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
