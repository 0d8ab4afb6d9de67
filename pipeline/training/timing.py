"""Where the time of a training goes, phase by phase, and a profiler's trace of some steps."""

import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

PHASES: tuple[str, ...] = ("data", "forward", "all_reduce", "backward", "optimizer", "tracking")
"""In the order in which a step goes through them. The sums of gradients over ranks run inside the
backward pass; `all_reduce` is that of the losses alone."""
ON_HOST = ("data", "tracking")
"""Phases whose time is the host's on a GPU too."""
TRACE = "profile.json"
WAIT_STEPS, WARMUP_STEPS = 2, 1
"""Steps before those that are profiled: the first ones load kernels and fill caches."""


class StepClock:
    """Seconds of each phase; `lap` is called at the end of each, in whatever order they come.

    On a GPU the host runs ahead of the work, so phases are timed by events of its stream, which are
    read when they have passed: nothing waits for them.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self.seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        """Of each phase, since the training began."""
        self.num_steps = self.num_frames = 0
        """Steps begun and their frames over all ranks, since the training began."""
        self._started_s = self._last_s = time.perf_counter()
        self._last_event = self._event()
        self._running: deque[tuple[str, Any, Any]] = deque()

    @property
    def elapsed_s(self) -> float:
        """Since the training began, validations and checkpoints included."""
        return time.perf_counter() - self._started_s

    def skip(self) -> None:
        """What has passed since the last lap belongs to no phase (validation, checkpoint)."""
        self._last_s, self._last_event = time.perf_counter(), self._event()

    def begin(self, num_frames: int) -> None:
        """The batch of a step with that many frames, over all ranks, has come."""
        self.lap("data")
        self.num_steps += 1
        self.num_frames += num_frames

    def lap(self, phase: str) -> None:
        """What has passed since the last lap was `phase`."""
        now_s, event = time.perf_counter(), self._event()
        if self._on_gpu and phase not in ON_HOST:
            self._running.append((phase, self._last_event, event))
        else:
            self.seconds[phase] += now_s - self._last_s
        self._last_s, self._last_event = now_s, event
        while self._running and self._running[0][2].query():
            self._add(*self._running.popleft())

    def finish(self) -> None:
        """Wait for the phases whose time is not known yet; at the end of a training only."""
        while self._running:
            self._running[0][2].synchronize()
            self._add(*self._running.popleft())

    def _add(self, phase: str, start: Any, end: Any) -> None:
        self.seconds[phase] += start.elapsed_time(end) / 1000

    def _event(self) -> Any:
        if not self._on_gpu:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def summary(clock: StepClock) -> str:
    """One line: how the time of a training divides, and what waiting for batches cost.

    The rate with batches that are always ready is that of the same training less its waits.
    """
    elapsed_s, seconds = clock.elapsed_s, clock.seconds
    shares = ", ".join(
        f"{name.replace('_', '-')} {100 * seconds[name] / elapsed_s:.1f} %" for name in PHASES
    )
    rest = 100 * (1 - sum(seconds.values()) / elapsed_s)
    in_steps_s = sum(seconds.values())
    ready = 1 - seconds["data"] / in_steps_s if in_steps_s else 1.0
    return (
        f"train: {clock.num_steps} steps in {elapsed_s:.1f} s: {shares}, validation, checkpoints "
        f"and the rest {rest:.1f} %; steps waited {seconds['data']:.2f} s for their batches and "
        f"ran at {ready:.3f} of the rate with batches that are always ready"
    )


def window_costs(
    now: Mapping[str, float], before: Mapping[str, float], *, num_steps: int
) -> dict[str, float]:
    """Live metrics of the steps between two readings of `StepClock.seconds`."""
    spent = {name: now[name] - before[name] for name in PHASES}
    total_s = sum(spent.values())
    return {
        "perf/data_wait_share": spent["data"] / total_s if total_s else 0.0,
        "perf/step_ms": 1000 * total_s / num_steps,
    }


class StepProfile:
    """torch's profiler over `train.profile_steps` steps; the trace lies in the run folder."""

    def __init__(self, folder: Path, *, num_steps: int) -> None:
        self.trace = folder / TRACE
        """What it writes, once the last of its steps is over."""
        self._profiler: torch.profiler.profile | None = None
        if num_steps:
            self._profiler = torch.profiler.profile(
                schedule=torch.profiler.schedule(
                    wait=WAIT_STEPS, warmup=WARMUP_STEPS, active=num_steps, repeat=1
                ),
                on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(self.trace)),
                record_shapes=True,
            )

    def __enter__(self) -> "StepProfile":
        if self._profiler:
            self._profiler.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the profile; a training that ends early leaves the trace of what it got to."""
        if self._profiler:
            self._profiler.stop()

    def step(self) -> None:
        """A step is over."""
        if self._profiler:
            self._profiler.step()
