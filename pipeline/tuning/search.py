"""Ray Tune over a study's proposals: what is tried next, what is kept, what ends a stall.

Tune schedules and stops trials; what became of them is in the study's ledger, which outlives it.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from pipeline import storage, tracking
from pipeline.config import Config
from pipeline.failures import RunFailed
from pipeline.merging import merge, to_dict
from pipeline.tuning.asha import RememberingAsha
from pipeline.tuning.capacity import needs, num_fitting
from pipeline.tuning.ledger import ERROR, OPEN, PRUNED, UNFINISHED, Ledger, Record, Validation
from pipeline.tuning.proposals import Proposals
from pipeline.tuning.study import Study
from pipeline.tuning.trial import VALUE, make_trial, run_trial

Say = Callable[[str], None]
SWITCHES = {
    # Its own result files; MLflow and the ledger hold what counts.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C is an exception here as everywhere, not a quiet end.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}


def search(config: Config, study: Study, ledger: Ledger, proposals: Proposals, *, say: Say) -> None:
    """Run every trial that is not done; needs Ray to be up.

    Raises RunFailed when one training does not fit the cluster or nothing happens for
    `tune.stall_timeout_s`; the study can then be started again.
    """
    num_waiting = len(ledger.records(*UNFINISHED)) + proposals.num_left
    if not num_waiting:
        return
    num_parallel = num_fitting(config, asked=config.tune.num_parallel)
    say(f"up to {num_waiting} trials to run, {num_parallel} side by side")
    os.environ.update(SWITCHES)
    tuner = tune.Tuner(
        tune.with_resources(_trainable(config, study), trial_resources(config)),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(config, study, ledger, proposals),
            scheduler=make_scheduler(config, ledger),
            num_samples=num_waiting,
            max_concurrent_trials=num_parallel,
        ),
        run_config=tune.RunConfig(
            name=study.folder.name,
            storage_path=storage.place(config, "ray"),
            callbacks=[StudyWatch(config, ledger, num_waiting=num_waiting, say=say)],
            verbose=0,
        ),
    )
    with _interrupted_trials_marked(config, study, ledger):
        tuner.fit()


def trial_resources(config: Config) -> dict[str, float]:
    """Of the trial itself: with workers of its own it only waits for them."""
    if config.scaling.num_workers:
        # Tune refuses a trial that asks for nothing.
        return {"CPU": 0.01}
    return {name: amount for name, amount in needs(config).items() if amount}


def make_scheduler(config: Config, ledger: Ledger) -> TrialScheduler:
    """As `tune.scheduler` says."""
    return FIFOScheduler() if config.tune.scheduler == "none" else RememberingAsha(config, ledger)


def _trainable(config: Config, study: Study) -> Callable[[dict[str, Any]], None]:
    base = to_dict(config)

    def trial(proposal: dict[str, Any]) -> None:
        settings = dict(proposal["settings"])
        made = make_trial(merge(Config(), base), study, proposal["name"], settings)
        run_trial(made, report=tune.report)

    return trial


class StudySearcher(Searcher):
    """Hands the study's proposals to Tune: first those that an earlier start left undone."""

    def __init__(self, config: Config, study: Study, ledger: Ledger, proposals: Proposals) -> None:
        super().__init__(metric=VALUE, mode="max")
        self._config, self._study = config, study
        self._ledger, self._proposals = ledger, proposals
        self._undone = ledger.records(*UNFINISHED)
        self._names: dict[str, str] = {}

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """The study's config says all of it."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | Any:
        """Name and settings of the next trial."""
        record = self._undone.pop(0) if self._undone else self._proposals.next()
        if record is None:
            return Searcher.FINISHED
        self._ledger.write(dataclasses.replace(record, status=OPEN, message=""))
        self._names[trial_id] = record.name
        # Pairs: Tune takes a dot in a key for a path.
        return {"name": record.name, "settings": list(record.settings.items())}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Close the trial's record; one that did not end itself was pruned."""
        record = self._ledger[self._names[trial_id]]
        if error:
            record = self._ledger.write(dataclasses.replace(record, status=ERROR))
        elif record.status == OPEN:
            record = self._pruned(record)
        self._proposals.proposer.tell(record)

    def _pruned(self, record: Record) -> Record:
        run_id = tracking.find_run(
            self._config.tracking, {"cell": record.name}, parent=self._study.run_id
        )
        tags = {"pruned": "true", "pruned_epoch": record.num_epochs}
        tracking.finish(self._config.tracking, run_id, status="KILLED", tags=tags)
        return self._ledger.write(dataclasses.replace(record, status=PRUNED, run_id=run_id))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is on disk."""


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
        history = [Validation(**one) for one in result.get("history", [])]
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
                f"{self._config.tune.metric} {result[VALUE]:.3f}"
            )

    def on_trial_complete(
        self, iteration: int, trials: list, trial: TuneTrial, **info: Any
    ) -> None:
        """Tell how it ended."""
        self._ended(self._ledger[trial.config["name"]])

    def on_trial_error(self, iteration: int, trials: list, trial: TuneTrial, **info: Any) -> None:
        """Keep the reason of a trial that broke, and tell it."""
        record = self._ledger[trial.config["name"]]
        message = _last_line(trial.get_error())
        self._ended(self._ledger.write(dataclasses.replace(record, message=message)))

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """RunFailed when nothing has happened for too long."""
        limit_s = self._config.tune.stall_timeout_s
        if time.monotonic() - self._last_s > limit_s:
            raise RunFailed(_stall(self._config, trials, limit_s=limit_s), reason="stalled")

    def _ended(self, record: Record) -> None:
        self._last_s = time.monotonic()
        self._num_ended += 1
        left = self._num_waiting - self._num_ended
        eta_s = (self._last_s - self._started_s) / self._num_ended * left
        value = "" if record.value is None else f", {self._config.tune.metric} {record.value:.3f}"
        reason = f" ({record.message})" if record.message else ""
        self._say(
            f"{record.name} {record.status} after {record.num_epochs} epochs{value}{reason}; "
            f"{self._num_ended} of {self._num_waiting}, ETA {eta_s:.0f} s"
        )


@contextlib.contextmanager
def _interrupted_trials_marked(config: Config, study: Study, ledger: Ledger) -> Iterator[None]:
    """No child stays RUNNING when the study is stopped; the next start opens it again."""
    try:
        yield
    except BaseException:
        for record in ledger.records(OPEN):
            mark = {"cell": record.name}
            run_id = tracking.find_run(config.tracking, mark, parent=study.run_id)
            if run_id:
                tags = {"failure": "interrupted"}
                tracking.finish(config.tracking, run_id, status="KILLED", tags=tags)
        raise


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


def _last_line(error: BaseException | None) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
