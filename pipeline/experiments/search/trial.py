"""One trial: a training whose validations go to a scheduler that may stop it.

A trial that was killed goes on from its newest checkpoint in its own MLflow run, and tells only the
validations that are new.
"""

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config.load import override
from pipeline.config.schema import Config
from pipeline.experiments.search.space import words
from pipeline.experiments.search.trial_store import ERROR, FINISHED, OPEN
from pipeline.experiments.study import Study
from pipeline.experiments.variant_runs import GUARDS, LOCK
from pipeline.metrics.metric import names_of
from pipeline.runtime.errors import Pruned, RunFailed
from pipeline.runtime.file_lock import file_lock
from pipeline.training import checkpoints
from pipeline.training.trainer import ParentRun, Trained, fit
from pipeline.training.worker import Validated

logger = logging.getLogger(__name__)
EPOCH, VALUE = "epoch", "value"
"""What a scheduler compares: `tune.metric` at equal epochs."""
Report = Callable[[dict[str, Any]], None]
"""Raises SystemExit where the scheduler has stopped the trial."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting of the study's config."""

    name: str
    config: Config
    study: Study

    @property
    def child(self) -> ParentRun:
        """Its place in the study."""
        return ParentRun(
            study=self.study.run_id,
            name=self.name,
            tag="trial",
            folder=self.study.folder / self.name,
        )

    @property
    def metric(self) -> str:
        """Full name of `tune.metric`."""
        return f"val/{self.config.tune.metric}"


def make_trial(config: Config, study: Study, name: str, settings: Mapping[str, str]) -> Trial:
    """The trial of these settings of the study's config."""
    return Trial(name=name, config=override(config, words(settings)), study=study)


def run_trial(trial: Trial, *, report: Report) -> None:
    """Train to the end, reporting each validation; the last report has a status other than open.

    A report is `epoch`, `value` (of that epoch), `history` (every validation so far: epoch, step,
    value), `status`, and at the end `run_id`, `best_step` and `message`. An error is a report too:
    tried again at once it would come again, the next start of the study may do better. Raises
    Pruned where `report` raised SystemExit.
    """

    def validated(history: list[dict[str, float]]) -> None:
        try:
            report(_result(trial, history) | {"status": OPEN})
        except SystemExit:
            raise Pruned from None

    fitted = _fit_in_thread if trial.config.scaling.num_workers else _fit_here
    trial.child.folder.mkdir(parents=True, exist_ok=True)
    try:
        # What a killed driver started may outlive it by moments.
        with file_lock(trial.child.folder / LOCK):
            trained = fitted(trial, validated)
    except Exception as error:  # the trial's edge
        report(_failed(error))
        return
    best_step = checkpoints.read_meta(trained.checkpoint).position.step
    ended = {"status": FINISHED, "run_id": trained.run_id, "best_step": best_step}
    report(_result(trial, trained.history) | ended)


def _fit_here(trial: Trial, validated: Validated) -> Trained:
    """In this thread: the training waits while the scheduler decides."""
    return fit(trial.config, say=_quiet, child=trial.child, validated=validated)


def _fit_in_thread(trial: Trial, validated: Validated) -> Trained:
    """Beside this thread, which alone may report to Tune and be stopped by it.

    Ray's own bridge (TuneReportCallback) can wait for ever at the end of a trial.
    """
    reports: queue.Queue[list[dict[str, float]] | None] = queue.Queue()
    results: list[Trained] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(fit(trial.config, say=_quiet, child=trial.child, validated=reports.put))
        except BaseException as error:  # the thread's edge: raised again below
            errors.append(error)
        finally:
            reports.put(None)

    # A daemon, as it must not outlive a trial that was stopped.
    threading.Thread(target=work, name=trial.name, daemon=True).start()
    while (history := reports.get()) is not None:
        validated(history)
    if errors:
        raise errors[0]
    return results[0]


def _result(trial: Trial, history: list[dict[str, float]]) -> dict[str, Any]:
    if trial.metric not in history[-1]:
        names = [f"val/{name}" for name in names_of("ranks_search")]
        known = ", ".join(name for name in names if name in history[-1])
        raise ValueError(
            f"trial {trial.name} has no {trial.metric} to be ranked by, only {known}; set "
            "tune.metric to one of these"
        )
    compact = [
        {EPOCH: int(one["epoch"]), "step": int(one["step"]), VALUE: one[trial.metric]}
        for one in history
    ]
    return {EPOCH: compact[-1][EPOCH], VALUE: compact[-1][VALUE], "history": compact}


def _failed(error: Exception) -> dict[str, Any]:
    """Epoch 0 is on no rung: a scheduler learns nothing from a training that broke."""
    facts = {EPOCH: 0, VALUE: 0.0, "message": str(error) or type(error).__name__}
    if isinstance(error, RunFailed) and error.reason in GUARDS:
        return facts | {"status": error.reason, "run_id": str(error.facts["run_id"])}
    logger.error("a trial broke", exc_info=error)
    return facts | {"status": ERROR}


def _quiet(line: str) -> None:
    """Progress of single steps is too much of a study; its metrics are in MLflow."""
