"""Metrics of a training loop, sent to MLflow beside it."""

import math
import threading
import time
from collections.abc import Mapping
from typing import SupportsFloat

from mlflow import MlflowClient
from mlflow.entities import Metric

from pipeline.tracking.store import client_of

MAX_METRICS_PER_CALL = 1000


class MetricLogger:
    """Sends metrics from a background thread, so that a training step never waits for a database.

    Made again after a restart, it leaves out every step up to the last one logged of each metric:
    replayed steps make no duplicates. Call `flush` before writing a checkpoint: then whatever a
    crash loses from the queue is replayed from that checkpoint, and there are no gaps either.
    """

    def __init__(self, uri: str, run_id: str) -> None:
        self._client, self._run_id = client_of(uri), run_id
        self._last_step = _last_steps(self._client, run_id)
        self._unsent: list[Metric] = []
        self._error: Exception | None = None
        self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="MetricLogger", daemon=True).start()

    def log(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Queue values of one step; returns at once. Raises what the thread failed of, if it did.

        Steps of one metric must ascend; a step that was logged before is left out.
        """
        self._raise_error()
        if self._closed:
            raise ValueError("this MetricLogger is closed; log before close()")
        fresh = {k: v for k, v in metrics.items() if step > self._last_step.get(k, -math.inf)}
        self._last_step |= dict.fromkeys(fresh, step)
        with self._changed:
            self._unsent += metric_entities(step, fresh)
            self._changed.notify_all()

    def flush(self, *, timeout_s: float = 60.0) -> None:
        """Wait until everything logged is in the store; RuntimeError if it cannot be in time."""
        with self._changed:
            over = self._changed.wait_for(lambda: not self._unsent or self._error, timeout_s)
        self._raise_error()
        if not over:
            raise RuntimeError(
                f"{len(self._unsent)} metrics of run {self._run_id} were not in the tracking store "
                f"after {timeout_s:g} s; look at tracking.uri"
            )

    def close(self, *, timeout_s: float = 60.0) -> None:
        """`flush`, then end the thread; a second call does nothing."""
        if self._closed:
            return
        try:
            self.flush(timeout_s=timeout_s)
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise RuntimeError(
                f"metrics of run {self._run_id} could not be logged: {self._error}"
            ) from self._error

    def _work(self) -> None:
        while batch := self._next_batch():
            try:
                self._client.log_batch(self._run_id, metrics=batch)
            except Exception as error:  # this thread's edge: the next log, flush or close raises it
                self._error = error
            with self._changed:
                # Only now, so that "nothing unsent" means that everything is in the store.
                del self._unsent[: len(batch)]
                self._changed.notify_all()

    def _next_batch(self) -> list[Metric]:
        """Many steps in one call; empty when the logger was closed or has failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._unsent or self._closed or self._error)
            return [] if self._error else self._unsent[:MAX_METRICS_PER_CALL]


def metric_entities(step: int, metrics: Mapping[str, SupportsFloat]) -> list[Metric]:
    """As MLflow takes them, of this moment."""
    now_ms = int(time.time() * 1000)
    return [Metric(key, float(value), now_ms, step) for key, value in metrics.items()]


def _last_steps(client: MlflowClient, run_id: str) -> dict[str, int]:
    """Last logged step of every metric; a run's record already holds them, histories are long."""
    return {metric.key: metric.step for metric in client.get_run(run_id).data._metric_objs}
