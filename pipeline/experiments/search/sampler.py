"""Which settings a study tries: drawn at random or by Optuna, and judged before they are trained.

A setting that the config refuses, or that trains what another one trains, is kept as skipped with
its reason: it costs nothing, and its place in the order is not given to another.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.config.load import override
from pipeline.config.schema import Config
from pipeline.experiments.search.metric import check_metric, lower_is_better
from pipeline.experiments.search.space import LISTS, Dimension, active, words
from pipeline.experiments.search.trial_store import FINISHED, OPEN, PRUNED, SKIPPED, Ledger, Record
from pipeline.training.trainer import config_hash


class RandomProposer:
    """Proposal n is a pure function of (seed, n): a restart draws what was drawn before."""

    def __init__(self, dimensions: Sequence[Dimension], *, seed: int) -> None:
        self._dimensions, self._seed = dimensions, seed
        grids = [one for one in dimensions if one.kind == "grid"]
        self._combinations = [
            dict(zip([one.key for one in grids], values, strict=True))
            for values in itertools.product(*(one.values for one in grids))
        ]

    @property
    def num_combinations(self) -> int:
        """Proposals per sample: the product of the grid dimensions."""
        return len(self._combinations)

    def ask(self, number: int) -> dict[str, str]:
        """A value for every dimension."""
        sample, combination = divmod(number, self.num_combinations)
        rng = np.random.default_rng([self._seed, sample])
        drawn = {one.key: one.draw(rng) for one in self._dimensions}
        return drawn | self._combinations[combination]

    def tell(self, record: Record) -> None:
        """Nothing is learned from a result."""


class OptunaProposer:
    """Tree-structured Parzen estimator over the results so far (Bergstra et al., NeurIPS 2011)."""

    def __init__(
        self, dimensions: Sequence[Dimension], *, seed: int, known: Sequence[Record]
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._dimensions = dimensions
        self._distributions = {one.key: _distribution(one) for one in dimensions}
        # Not the seed alone: after a restart the first draws would come again.
        sampler = optuna.samplers.TPESampler(seed=seed + len(known))
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._asked: dict[int, Any] = {}
        for record in known:
            if record.status in (FINISHED, PRUNED):
                self._study.add_trial(self._frozen(record))

    num_combinations = 1

    def ask(self, number: int) -> dict[str, str]:
        """A value for every dimension."""
        trial = self._asked[number] = self._study.ask(self._distributions)
        return {one.key: _text(one, trial.params[one.key]) for one in self._dimensions}

    def tell(self, record: Record) -> None:
        """Learn what became of a proposal; one without a value teaches nothing."""
        import optuna

        trial = self._asked.pop(record.number, None)
        if trial is None:
            if record.value is not None:
                self._study.add_trial(self._frozen(record))
        elif record.value is None or record.status not in (FINISHED, PRUNED):
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, record.merit)

    def _frozen(self, record: Record) -> Any:
        import optuna

        params = {one.key: _value(one, record.drawn[one.key]) for one in self._dimensions}
        return optuna.trial.create_trial(
            params=params, distributions=self._distributions, value=record.merit
        )


Proposer = RandomProposer | OptunaProposer


class Proposals:
    """The proposals of a study in order, each judged and kept in the ledger."""

    def __init__(self, config: Config, dimensions: Sequence[Dimension], ledger: Ledger) -> None:
        known, tune = ledger.records(), config.tune
        self._config, self._dimensions, self._ledger = config, dimensions, ledger
        self.proposer: Proposer = RandomProposer(dimensions, seed=tune.seed)
        if tune.searcher == "optuna":
            self.proposer = OptunaProposer(dimensions, seed=tune.seed, known=known)
        self.total = tune.num_samples * self.proposer.num_combinations
        self._next = len(known)
        self._hashes = {_hash_of(one): one.name for one in known if one.status != SKIPPED}

    @property
    def num_left(self) -> int:
        """Proposals that were not made yet."""
        return max(0, self.total - self._next)

    def next(self) -> Record | None:
        """The next proposal that makes sense, in the ledger as open; None after the last."""
        while self._next < self.total:
            number, self._next = self._next, self._next + 1
            record = self._judged(number, self.proposer.ask(number))
            self._ledger.write(record)
            if record.status == OPEN:
                return record
            self.proposer.tell(record)
        return None

    def _judged(self, number: int, drawn: dict[str, str]) -> Record:
        settings = active(self._dimensions, drawn)
        record = Record(
            number=number,
            name=f"{number:03d}",
            drawn=drawn,
            settings=settings,
            lower_is_better=lower_is_better(self._config),
        )
        try:
            config = override(self._config, words(settings))
            check_metric(config)
        except ValueError as error:
            return dataclasses.replace(record, status=SKIPPED, message=str(error))
        digest = config_hash(config)
        other = self._hashes.get(digest)
        if other:
            return dataclasses.replace(record, status=SKIPPED, message=f"trains what {other} does")
        # The hash makes the name that of these settings, and the child run found by it theirs.
        name = f"{number:03d}-{digest}"
        self._hashes[digest] = name
        return dataclasses.replace(record, name=name)


def _hash_of(record: Record) -> str:
    return record.name.partition("-")[2]


def _distribution(dimension: Dimension) -> Any:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if dimension.kind in LISTS:
        return CategoricalDistribution(dimension.values)
    low, high, log = dimension.low, dimension.high, dimension.kind == "loguniform"
    if dimension.whole:
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(low, high, log=log)


def _text(dimension: Dimension, value: Any) -> str:
    return value if dimension.kind in LISTS else dimension.number(float(value))


def _value(dimension: Dimension, text: str) -> Any:
    if dimension.kind in LISTS:
        return text
    return int(text) if dimension.whole else float(text)
