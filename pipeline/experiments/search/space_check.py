"""Refuses a search space that could waste a night, before anything is trained."""

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.config.load import override
from pipeline.config.schema import Config
from pipeline.experiments.search.metric import check_metric
from pipeline.experiments.search.sampler import RandomProposer
from pipeline.experiments.search.space import Dimension, active, words
from pipeline.training.trainer import config_hash

STUDY_WIDE = (
    "train.num_epochs",
    "train.max_steps",
    "train.lr_restart_epochs",
    "train.patience",
    "train.validate_every_n_epochs",
)
UNSEEN = ("train.num_threads", "train.log_every_n_steps", "train.checkpoint_every_n_steps")
"""Of a training's course, not of its result."""
JUDGES = ("train.monitor", "train.resume")
NUM_COMBINATIONS_TRIED = 32
"""Random settings in which a value that the config alone refuses is tried."""


def check_space(config: Config, dimensions: Sequence[Dimension]) -> None:
    """ValueError in one sentence unless the space makes sense.

    Every value of a list, both ends and the middle of a range must be taken by the config, alone or
    in some combination; each dimension must change the training; and some of the proposals must
    make sense.
    """
    _check_kinds(config, dimensions)
    rng = np.random.default_rng(config.tune.seed)
    for dimension in dimensions:
        _check_key(dimension)
        taken = [_taken(config, dimensions, dimension, value, rng) for value in dimension.probes()]
        same = len({config_hash(one) for one in taken}) == 1
        if dimension.key in UNSEEN or (len(taken) > 1 and same):
            raise ValueError(
                f"tune.space {dimension.text!r} changes nothing in a training; leave it out"
            )
    _check_some_make_sense(config, dimensions)


def check_study(config: Config) -> None:
    """ValueError when trials could not be compared by `tune.metric`, or never be pruned."""
    if config.train.resume:
        raise ValueError(
            f"train.resume={config.train.resume} would start every trial from the same run; leave "
            "it out, a study goes on by itself"
        )
    check_metric(config)
    grace = grace_epochs(config)
    if config.tune.scheduler == "asha" and grace >= config.train.num_epochs:
        raise ValueError(
            f"tune.grace_period={config.tune.grace_period} is {grace} epochs, so none of "
            f"train.num_epochs={config.train.num_epochs} is left to prune; lower it or set "
            "tune.scheduler=none"
        )


def grace_epochs(config: Config) -> int:
    """Epochs before which no trial is pruned."""
    return config.tune.grace_period * config.train.validate_every_n_epochs


def _check_kinds(config: Config, dimensions: Sequence[Dimension]) -> None:
    grids = [one for one in dimensions if one.kind == "grid"]
    if grids and config.tune.searcher == "optuna":
        raise ValueError(
            f"tune.searcher=optuna draws every value itself, so it takes no grid as in "
            f"{grids[0].text!r}; write choice, or use tune.searcher=random"
        )
    if len(grids) == len(dimensions) and config.tune.num_samples > 1:
        raise ValueError(
            f"tune.space holds grids only, so tune.num_samples={config.tune.num_samples} would "
            "train the same settings again; set it to 1"
        )


def _check_key(dimension: Dimension) -> None:
    key = dimension.key
    if key.startswith(("prepare.", "health_checks.")) or key in (*STUDY_WIDE, *JUDGES):
        raise ValueError(
            f"tune.space {dimension.text!r} would compare trials of other data, length or rules; "
            f"set {key} once for the whole study instead"
        )


def _taken(
    config: Config,
    dimensions: Sequence[Dimension],
    dimension: Dimension,
    value: str,
    rng: np.random.Generator,
) -> Config:
    """A config that takes this value; ValueError with the reason when none does."""
    try:
        return override(config, [f"{dimension.key}={value}"])
    except ValueError as error:
        alone = error
    for settings in _combinations(dimensions, dimension, value, rng):
        try:
            return override(config, words(settings))
        except ValueError:
            continue
    raise ValueError(f"tune.space {dimension.text!r}: {alone}") from alone


def _combinations(
    dimensions: Sequence[Dimension], dimension: Dimension, value: str, rng: np.random.Generator
) -> Iterator[dict[str, str]]:
    """Different settings in which the dimension counts and has this value."""
    seen = set()
    for _ in range(NUM_COMBINATIONS_TRIED):
        drawn = {one.key: one.draw(rng) for one in dimensions} | {dimension.key: value}
        if dimension.condition:
            values = dimension.condition.values
            drawn[dimension.condition.key] = values[int(rng.integers(len(values)))]
        settings = active(dimensions, drawn)
        key = tuple(settings.items())
        if dimension.key in settings and key not in seen:
            seen.add(key)
            yield settings


def _check_some_make_sense(config: Config, dimensions: Sequence[Dimension]) -> None:
    proposer = RandomProposer(dimensions, seed=config.tune.seed)
    num = config.tune.num_samples * proposer.num_combinations
    first: ValueError | None = None
    for number in range(num):
        try:
            check_metric(override(config, words(active(dimensions, proposer.ask(number)))))
            return
        except ValueError as error:
            first = first or error
    raise ValueError(
        f"all {num} settings drawn from tune.space are refused, the first because {first}"
    )
