"""After a restart ASHA decides as if it had seen all that the study saw."""

from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.experiments.search.asha import ResumableASHA
from pipeline.experiments.search.trial import EPOCH, VALUE
from pipeline.experiments.search.trial_store import (
    FINISHED,
    OPEN,
    PRUNED,
    Ledger,
    Record,
    Validation,
)

CONFIG = merge(
    Config(), {"train": {"num_epochs": 9}, "tune": {"reduction_factor": 3, "scheduler": "asha"}}
)


def write(ledger: Ledger, number: int, values: list[float], status: str) -> None:
    history = [Validation(epoch=n, step=n, value=v) for n, v in enumerate(values, start=1)]
    ledger.write(
        Record(
            number=number, name=f"t{number}", drawn={}, settings={}, status=status, history=history
        )
    )


def tell(asha: ResumableASHA, name: str, epoch: int, value: float) -> str:
    """The decision on a trial that Tune has under an id of its own."""
    trial = Trial("any", trial_id=f"tune-{name}", config={"name": name}, stub=True)
    controller: Any = None
    if trial.trial_id not in asha._trial_info:
        asha.on_trial_add(controller, trial)
    return asha.on_trial_result(controller, trial, {EPOCH: epoch, VALUE: value})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Config(), tmp_path)


def test_a_study_that_begins_lets_the_first_trial_pass(ledger: Ledger):
    assert tell(ResumableASHA(CONFIG, ledger), "t0", 1, 0.1) == TrialScheduler.CONTINUE


def test_a_validation_whose_report_was_lost_is_judged_with_the_next(ledger: Ledger):
    write(ledger, 0, [0.3, 0.3, 0.3], FINISHED)
    asha = ResumableASHA(CONFIG, ledger)
    trial = Trial("any", trial_id="tune-t1", config={"name": "t1"}, stub=True)
    controller: Any = None
    asha.on_trial_add(controller, trial)
    history = [{EPOCH: 1, VALUE: 0.4}, {EPOCH: 2, VALUE: 0.1}]
    told = history[-1] | {"history": history}
    assert asha.on_trial_result(controller, trial, told) == TrialScheduler.CONTINUE
    assert asha.on_trial_result(controller, trial, told) == TrialScheduler.CONTINUE


def test_trials_that_ended_before_a_restart_still_set_the_bar(ledger: Ledger):
    write(ledger, 0, [0.5, 0.6, 0.7], FINISHED)
    write(ledger, 1, [0.4], PRUNED)
    asha = ResumableASHA(CONFIG, ledger)
    assert tell(asha, "t2", 1, 0.3) == TrialScheduler.STOP
    assert tell(asha, "t3", 1, 0.6) == TrialScheduler.CONTINUE
    assert tell(asha, "t3", 3, 0.6) == TrialScheduler.STOP


def test_a_trial_that_goes_on_is_not_judged_again_at_a_rung_it_has_passed(ledger: Ledger):
    write(ledger, 0, [0.3, 0.3], OPEN)
    write(ledger, 1, [0.9, 0.9, 0.9], FINISHED)
    asha = ResumableASHA(CONFIG, ledger)
    # Epoch 2 is no rung, and it stands on the rung of epoch 1 already.
    assert tell(asha, "t0", 2, 0.3) == TrialScheduler.CONTINUE
    assert tell(asha, "t0", 3, 0.3) == TrialScheduler.STOP


def test_before_the_grace_is_over_nothing_is_pruned(ledger: Ledger):
    config = merge(CONFIG, {"tune": {"grace_period": 2}})
    write(ledger, 0, [0.9] * 9, FINISHED)
    asha = ResumableASHA(config, ledger)
    assert tell(asha, "t1", 1, 0.0) == TrialScheduler.CONTINUE
    assert tell(asha, "t1", 2, 0.0) == TrialScheduler.STOP


def test_a_training_that_a_guard_ended_sets_no_bar(ledger: Ledger):
    asha = ResumableASHA(CONFIG, ledger)
    assert tell(asha, "t0", 0, 0.0) == TrialScheduler.CONTINUE
    write(ledger, 0, [], "collapsed")
    assert tell(ResumableASHA(CONFIG, ledger), "t1", 1, -1.0) == TrialScheduler.CONTINUE
