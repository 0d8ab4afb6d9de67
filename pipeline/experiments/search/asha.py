"""ASHA that remembers: its rungs are filled again when a study goes on.

Ray does not store the state of a scheduler with a study, so after a restart its own ASHA would
promote whatever comes first.
"""

from typing import Any, cast

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler

from pipeline.config.schema import Config
from pipeline.experiments.search.metric import lower_is_better
from pipeline.experiments.search.space_check import grace_epochs
from pipeline.experiments.search.trial import EPOCH, VALUE
from pipeline.experiments.search.trial_store import UNFINISHED, Ledger, Validation


class ResumableASHA(ASHAScheduler):
    """Asynchronous successive halving (Li et al., MLSys 2020) over epochs."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        tune, train = config.tune, config.train
        super().__init__(
            time_attr=EPOCH,
            metric=VALUE,
            mode="min" if lower_is_better(config) else "max",
            max_t=train.num_epochs,
            grace_period=grace_epochs(config),
            reduction_factor=tune.reduction_factor,
        )
        self._going_on = {one.name: one.history for one in ledger.records(*UNFINISHED)}
        for record in ledger.records():
            if record.history and record.status not in UNFINISHED:
                ended = Trial("ended", trial_id=record.name, stub=True)
                super().on_trial_add(cast(Any, None), ended)
                self._remember(ended, record.history)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """A trial that goes on stands on the rungs that it had reached."""
        super().on_trial_add(tune_controller, trial)
        self._remember(trial, self._going_on.pop(trial.config["name"], []))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """By every validation so far: a kill may have swallowed the report of one.

        Each fills its rung once, whatever is told again.
        """
        results = result.get("history") or [result]
        decisions = [
            super(ResumableASHA, self).on_trial_result(tune_controller, trial, one)
            for one in results
        ]
        return self.STOP if self.STOP in decisions else self.CONTINUE

    def _remember(self, trial: Trial, history: list[Validation]) -> None:
        for one in history:
            self.on_trial_result(cast(Any, None), trial, {EPOCH: one.epoch, VALUE: one.value})
