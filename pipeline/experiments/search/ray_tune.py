"""Ray Tune over a study's proposals: what is tried next, what is kept, what ends a stall.

Tune schedules and stops trials; what became of them is in the study's ledger, which outlives it.
"""

import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from pipeline.config.load import merge, to_dict
from pipeline.config.schema import Config
from pipeline.experiments.resources import num_fitting
from pipeline.experiments.search.asha import ResumableASHA
from pipeline.experiments.search.callbacks import StudyWatch, first_line
from pipeline.experiments.search.metric import lower_is_better
from pipeline.experiments.search.sampler import Proposals
from pipeline.experiments.search.trial import VALUE, make_trial, run_trial
from pipeline.experiments.search.trial_store import ERROR, OPEN, PRUNED, UNFINISHED, Ledger, Record
from pipeline.experiments.study import Study
from pipeline.runtime import remote_storage
from pipeline.runtime.errors import Pruned, RunFailed
from pipeline.runtime.progress import Say
from pipeline.runtime.ray_cluster import worker_bundle
from pipeline.tracking import runs

SWITCHES = {
    # Its own result files; MLflow and the ledger hold what counts.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C is an exception here as everywhere, not a quiet end.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Its tables on stdout; a job prints its own result there.
    "RAY_AIR_NEW_OUTPUT": "0",
}

CLEAN_UP_S = "600"
"""For a pruned trial to come to its end before its process is given to the next (Ray's default, 2,
is too short on a busy machine, and the next trial would fail for it)."""
CLEAR_REFS = Path("/proc/self/clear_refs")
"""Linux: writing 5 sets a process's highest memory to what it has now."""


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
    # It warns of every trial whose result files, see above, are not there.
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
    searcher = StudySearcher(config, study, ledger, proposals)
    tuner = tune.Tuner(
        tune.with_resources(
            functools.partial(_trial, base=to_dict(config), study=study), trial_resources(config)
        ),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=make_scheduler(config, ledger),
            num_samples=num_waiting,
            max_concurrent_trials=num_parallel,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
            # A new process imports for 10 s. Where a trial has workers of its own, a thread of its
            # process trains on when it is pruned, which nothing but the process's end stops.
            reuse_actors=not config.scaling.num_workers,
        ),
        run_config=tune.RunConfig(
            name=study.folder.name,
            storage_path=remote_storage.place(config, "ray"),
            callbacks=[StudyWatch(config, ledger, num_waiting=num_waiting, say=say)],
            # A trial that loses its process goes on from its checkpoint.
            failure_config=tune.FailureConfig(max_failures=config.scaling.max_failures),
            verbose=0,
        ),
    )
    with _interrupted_trials_marked(config, study, ledger):
        _fit(tuner)
    if config.scaling.num_workers:
        # Their workers were killed, which a trial's last moments may have noted as a failure.
        for record in searcher.pruned:
            runs.reopen(config.tracking, record.run_id)
            mark_pruned(config, record)


def mark_pruned(config: Config, record: Record) -> None:
    """End the run of a trial that the scheduler has stopped."""
    tags = {"pruned": "true", "pruned_epoch": record.num_epochs}
    runs.finish(config.tracking, record.run_id, status="KILLED", tags=tags)


def _fit(tuner: tune.Tuner) -> None:
    """RunFailed for what Tune cannot stand, such as a process killed while it starts."""
    try:
        tuner.fit()
    except RunFailed:
        raise
    except (RuntimeError, RayError, TuneError) as error:
        raise RunFailed(
            f"Ray Tune gave up ({first_line(str(error))}); what the trials did is kept: start the "
            "same command again",
            reason="worker_error",
        ) from error


def trial_resources(config: Config) -> dict[str, float]:
    """Of the trial itself: with workers of its own it only waits for them."""
    scaling = config.scaling
    if scaling.num_workers:
        # Tune refuses a trial that asks for nothing.
        return {"CPU": 0.01}
    return worker_bundle(scaling)


def make_scheduler(config: Config, ledger: Ledger) -> TrialScheduler:
    """As `tune.scheduler` says."""
    return SCHEDULER_MAKERS[config.tune.scheduler](config, ledger)


SCHEDULER_MAKERS: dict[str, Callable[[Config, Ledger], TrialScheduler]] = {
    "none": lambda config, ledger: FIFOScheduler(),
    "asha": ResumableASHA,
}


def _trial(proposal: dict[str, Any], *, base: dict[str, Any], study: Study) -> None:
    """Entry point of a trial, in a process that may have run others before."""
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = CLEAN_UP_S
    _forget_peak_memory()
    config, settings = merge(Config(), base), dict(proposal["settings"])
    try:
        run_trial(make_trial(config, study, proposal["name"], settings), report=tune.report)
    except Pruned:
        # Tune takes any other code for a failure.
        raise SystemExit(0) from None


def _forget_peak_memory() -> None:
    """So that `perf/peak_memory_gb` is this trial's; Linux alone can do it."""
    if CLEAR_REFS.exists():
        CLEAR_REFS.write_text("5")


def _trial_name(trial: TuneTrial) -> str:
    return trial.config["name"]


class StudySearcher(Searcher):
    """Hands the study's proposals to Tune: first those that an earlier start left undone."""

    def __init__(self, config: Config, study: Study, ledger: Ledger, proposals: Proposals) -> None:
        super().__init__(metric=VALUE, mode="min" if lower_is_better(config) else "max")
        self._config, self._study = config, study
        self._ledger, self._proposals = ledger, proposals
        self._undone = ledger.records(*UNFINISHED)
        self._names: dict[str, str] = {}
        self.pruned: list[Record] = []
        """Since this start of the study."""

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
        run_id = runs.find_run(
            self._config.tracking, {"trial": record.name}, parent=self._study.run_id
        )
        record = dataclasses.replace(record, status=PRUNED, run_id=run_id)
        mark_pruned(self._config, record)
        self.pruned.append(record)
        return self._ledger.write(record)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is on disk."""


@contextlib.contextmanager
def _interrupted_trials_marked(config: Config, study: Study, ledger: Ledger) -> Iterator[None]:
    """No child stays RUNNING when the study is stopped; the next start opens it again."""
    try:
        yield
    except BaseException:
        for record in ledger.records(OPEN):
            mark = {"trial": record.name}
            run_id = runs.find_run(config.tracking, mark, parent=study.run_id)
            if run_id:
                tags = {"failure": "interrupted"}
                runs.finish(config.tracking, run_id, status="KILLED", tags=tags)
        raise
