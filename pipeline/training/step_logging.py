"""Rank-0 logging: live metrics and a progress line with an ETA."""

import resource
import time
from collections.abc import Mapping

from pipeline.config.schema import Config
from pipeline.metrics.metric import DEFINITIONS, LEVELS
from pipeline.tracking.metric_logger import MetricLogger
from pipeline.training.timing import StepClock, summary, window_costs
from pipeline.training.worker import Worker


class StepLogger:
    """Averages the steps since the last line: single steps of a rare class are mostly noise."""

    def __init__(
        self,
        config: Config,
        worker: Worker,
        metrics: MetricLogger,
        *,
        clock: StepClock,
        first_step: int,
        total_steps: int,
    ) -> None:
        self._config, self._worker, self._metrics = config, worker, metrics
        self._first_step, self._total_steps = first_step, total_steps
        self._clock = clock
        self._started_s = self._last_s = time.monotonic()
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._num_steps = 0
        self._seconds, self._num_frames = dict(clock.seconds), clock.num_frames
        self._validation_s = 0.0

    def step(self, step: int, parts: Mapping[str, float], *, epoch: int) -> None:
        """Take the metrics of optimizer step `step` (from 1, in `epoch` from 0); log means."""
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            # A step that a gradient scaler left out has no gradient norm.
            self._counts[name] = self._counts.get(name, 0) + 1
        self._num_steps += 1
        if step % self._config.train.log_every_n_steps and step != self._total_steps:
            return
        means = {name: value / self._counts[name] for name, value in self._sums.items()}
        self._metrics.log(step, means | self._costs())
        self._say(step, means["train/loss"], epoch=epoch)
        self._sums, self._counts, self._num_steps = {}, {}, 0
        self._last_s = time.monotonic()
        self._seconds, self._num_frames = dict(self._clock.seconds), self._clock.num_frames

    def end(self) -> None:
        """Say where the time of the training went."""
        self._clock.finish()
        if self._clock.num_steps:
            self._worker.progress(summary(self._clock))

    def validation(self, step: int, metrics: Mapping[str, float], *, duration_s: float) -> None:
        """Log and say the metrics of a validation after `step` steps."""
        self._validation_s, self._last_s = duration_s, self._last_s + duration_s
        self._metrics.log(step, metrics)
        ends = tuple(f"_{m.name}" for m in DEFINITIONS.values() if set(m.drawn) & set(LEVELS))
        shown = ", ".join(
            f"{name.removeprefix('val/')} {value:.3f}"
            for name, value in metrics.items()
            if name.endswith(ends)
        )
        self._worker.progress(f"train: validation at step {step}: {shown}")

    def _costs(self) -> dict[str, float]:
        window_s, clock = time.monotonic() - self._last_s, self._clock
        costs = window_costs(clock.seconds, self._seconds, num_steps=self._num_steps)
        return costs | {
            "perf/frames_per_s": (clock.num_frames - self._num_frames) / window_s,
            # Linux counts the peak resident set in kilobytes.
            "perf/peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }

    def _say(self, step: int, loss: float, *, epoch: int) -> None:
        elapsed_s = time.monotonic() - self._started_s
        rate = (step - self._first_step) / elapsed_s
        frames_per_s = self._clock.num_frames / elapsed_s
        epochs = self._config.train.num_epochs
        eta_s = (self._total_steps - step) / rate + self._validation_s
        self._worker.progress(
            f"train: epoch {epoch + 1}/{epochs}, step {step}/{self._total_steps}, "
            f"{frames_per_s:.1f} frames/s, loss {loss:.4f}, "
            f"ETA {eta_s:.0f} s"
        )
