"""Tune callback: records results, prints progress, detects stalls."""

import dataclasses
import time
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from pipeline.config.schema import Config
from pipeline.experiments.resources import needs
from pipeline.experiments.search.trial import VALUE
from pipeline.experiments.search.trial_store import OPEN, Ledger, Record, Validation
from pipeline.runtime.errors import RunFailed
from pipeline.runtime.progress import Say
from pipeline.visualization.tables import sensible


class StudyWatch(tune.Callback):
    """Keeps what trials report, tells it, and ends a study in which nothing happens."""

    def __init__(self, config: Config, ledger: Ledger, *, num_waiting: int, say: Say) -> None:
        self._config, self._ledger, self._say = config, ledger, say
        self._num_waiting, self._num_ended = num_waiting, 0
        self._started_s = self._last_s = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list, trial: TuneTrial, **info: Any) -> None:
        """A sign of life."""
        self._last_s = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list, trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        """Keep the report."""
        self._last_s = time.monotonic()
        record = self._ledger[trial.config["name"]]
        known = {one.epoch: one for one in record.history}
        history = [
            known.get(one["epoch"]) or Validation(**one, time_s=time.time())
            for one in result.get("history", [])
        ]
        kept = {
            key: result[key]
            for key in ("status", "message", "run_id", "best_step")
            if key in result
        }
        record = dataclasses.replace(record, history=history or record.history, **kept)
        self._ledger.write(record)
        if record.status == OPEN:
            self._say(
                f"{record.name}: epoch {record.num_epochs} of {self._config.train.num_epochs}, "
                f"{self._config.tune.metric} {sensible(result[VALUE])}"
            )

    def on_trial_complete(
        self, iteration: int, trials: list, trial: TuneTrial, **info: Any
    ) -> None:
        """Tell how it ended."""
        self._ended(self._ledger[trial.config["name"]])

    def on_trial_error(self, iteration: int, trials: list, trial: TuneTrial, **info: Any) -> None:
        """Keep the reason why a trial has lost its process once too often, and tell it."""
        record = self._ledger[trial.config["name"]]
        assert trial.error_file
        message = _told_by_ray(Path(trial.error_file))
        self._ended(self._ledger.write(dataclasses.replace(record, message=message)))

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """RunFailed when nothing has happened for too long."""
        limit_s = self._config.tune.stall_timeout_s
        if time.monotonic() - self._last_s > limit_s:
            raise RunFailed(_stall(self._config, trials, limit_s=limit_s), reason="stalled")

    def _ended(self, record: Record) -> None:
        self._last_s = time.monotonic()
        self._num_ended += 1
        value = (
            "" if record.value is None else f", {self._config.tune.metric} {sensible(record.value)}"
        )
        reason = f" ({record.message})" if record.message else ""
        self._say(
            f"{record.name} {record.status} after {record.num_epochs} epochs{value}{reason}; "
            f"{self._num_ended} of {self._num_waiting}, ETA {self._eta_s():.0f} s"
        )

    def _eta_s(self) -> float:
        """By the trials that ended and the share of their epochs that the running ones have."""
        num_epochs = sum(one.num_epochs for one in self._ledger.records(OPEN))
        num_done = self._num_ended + num_epochs / self._config.train.num_epochs
        return (self._last_s - self._started_s) / num_done * (self._num_waiting - num_done)


def _stall(config: Config, trials: list[TuneTrial], *, limit_s: float) -> str:
    import ray

    pending = [one.config["name"] for one in trials if one.status == TuneTrial.PENDING]
    running = [one.config["name"] for one in trials if one.status == TuneTrial.RUNNING]
    need = {name: amount for name, amount in needs(config).items() if amount}
    have, free = ray.cluster_resources(), ray.available_resources()
    shown = ", ".join(
        f"{amount:g} {name} each of which {free.get(name, 0.0):g} of {have.get(name, 0.0):g} free"
        for name, amount in need.items()
    )
    return (
        f"no trial started, reported or ended for {limit_s:g} s: {', '.join(pending) or 'none'} "
        f"waiting and {', '.join(running) or 'none'} running, which need {shown}; free the "
        "cluster, lower tune.num_parallel or raise tune.stall_timeout_s, then start the same "
        "command again"
    )


def _told_by_ray(error_file: Path) -> str:
    """The line under the last heading ("Failure # 2 ...") of a trial's error file."""
    *_, last = error_file.read_text().split("Failure #")
    return first_line(last.partition("\n")[2])


def first_line(text: str) -> str:
    """Of one of Ray's messages, which fill a page."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "no message")
