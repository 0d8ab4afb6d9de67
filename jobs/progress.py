"""A progress line with rate and ETA, printed at most every two seconds."""

import sys
import time


class ProgressLine:
    """Callable `(done, total)`; state is the start time and the time of the last line."""

    def __init__(self, what: str, unit: str, *, every_s: float = 2.0) -> None:
        self._what, self._unit, self._every_s = what, unit, every_s
        self._start = self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._last < self._every_s:
            return
        self._last = now
        print(f"{self._what}: {self.text(done, total, now - self._start)}", file=sys.stderr)

    def text(self, done: int, total: int, elapsed_s: float) -> str:
        """`120/900 frames, 61.0/s, ETA 13 s`."""
        rate = done / elapsed_s if elapsed_s > 0 else 0.0
        eta = f"ETA {(total - done) / rate:.0f} s" if rate > 0 else "ETA unknown"
        return f"{done}/{total} {self._unit}, {rate:.1f}/s, {eta}"
