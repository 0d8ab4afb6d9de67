"""The figures of a search from its ledger, for the study's folder and its MLflow run."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pipeline.config.schema import Config
from pipeline.experiments.search.leaderboard import ranked
from pipeline.experiments.search.metric import lower_is_better
from pipeline.experiments.search.space import LISTS, Dimension
from pipeline.experiments.search.trial_store import PRUNED, Record
from pipeline.visualization.search_figures import (
    Coordinate,
    TrialCurve,
    best_so_far,
    importance,
    learning_curves,
    no_importance,
    parallel_coordinates,
)
from pipeline.visualization.style import save_figure

FIGURES = "figures"
MIN_TRIALS = 10
"""Fewer trials say nothing about which setting mattered."""
NUM_TREES = 300
NUM_SHUFFLES = 30


def draw_study(
    config: Config,
    dimensions: Sequence[Dimension],
    records: Sequence[Record],
    folder: Path,
    *,
    constant: float,
    note: str,
) -> list[Path]:
    """Write the figures of the trials that finished or were pruned; return their paths.

    `constant` is what a constant predictor reaches in the metric, nan for none.
    """
    trials, metric = ranked(records), config.tune.metric
    curves = [_curve(one) for one in trials]
    columns = [_coordinate(one, trials) for one in dimensions]
    epochs, values = progress(trials)
    figures = {
        "learning_curves": learning_curves(curves, metric=metric, constant=constant, note=note),
        "best_so_far": best_so_far(
            epochs,
            values,
            metric=metric,
            num_planned=len(trials) * config.train.num_epochs,
            lower_is_better=lower_is_better(config),
            note=note,
        ),
        "parallel_coordinates": parallel_coordinates(curves, columns, metric=metric, note=note),
        "importance": importance_figure(
            trials, columns, metric=metric, seed=config.tune.seed, note=note
        ),
    }
    return [save_figure(figure, folder / f"{name}.png") for name, figure in figures.items()]


def progress(trials: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs trained by all trials together at each validation, and its value, in their order."""
    steps = []
    for one in trials:
        before = 0
        for validation in one.history:
            steps.append((validation.time_s, validation.epoch - before, validation.value))
            before = validation.epoch
    steps.sort()
    return np.cumsum([step[1] for step in steps]), np.array([step[2] for step in steps])


def importances(
    columns: Sequence[Coordinate], values: np.ndarray, *, seed: int
) -> tuple[dict[str, float], dict[str, float], float]:
    """Mean and deviation of R2 lost by shuffling each setting, and the forest's out-of-bag R2.

    Permutation importance (Breiman, "Random forests", 2001) of a forest fitted to the same trials;
    numbers searched on a log scale enter as logarithms, categories as codes.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    table = np.stack([_codes(one) for one in columns], axis=1)
    forest = RandomForestRegressor(NUM_TREES, oob_score=True, random_state=seed)
    forest.fit(table, values)
    found = permutation_importance(forest, table, values, n_repeats=NUM_SHUFFLES, random_state=seed)
    names = [one.name for one in columns]
    means = dict(zip(names, found["importances_mean"].tolist(), strict=True))
    deviations = dict(zip(names, found["importances_std"].tolist(), strict=True))
    return means, deviations, float(forest.oob_score_)


def importance_figure(
    trials: Sequence[Record], columns: Sequence[Coordinate], *, metric: str, seed: int, note: str
) -> Figure:
    """What the validation depends on; says so where the trials do not tell."""
    if len(trials) < MIN_TRIALS:
        reason = f"too few trials: {len(trials)} of at least {MIN_TRIALS} that trained"
        return no_importance(reason, note=note)
    # Values after different numbers of epochs would make the pruned settings look worse than they
    # are, so all are read where the first pruned one ended.
    epoch = min(one.num_epochs for one in trials)
    values = np.array([_at(one, epoch) for one in trials])
    means, deviations, oob = importances(columns, values, seed=seed)
    what = f"{metric} after epoch {epoch}"
    forest = f"random forest over {len(trials)} trials, R2 on trials left out {oob:.2f}"
    # A mean of the trials reaches 0: below it the forest has learned nothing to be asked about.
    title = (
        f"What {what} depends on, by permutation importance:\n{forest}"
        if oob > 0
        else f"These trials do not tell what {what} depends on:\n{forest}"
    )
    return importance(means, deviations, title=title, is_predictive=oob > 0, note=note)


def _at(record: Record, epoch: int) -> float:
    """The last validation up to an epoch."""
    return [one.value for one in record.history if one.epoch <= epoch][-1]


def _curve(record: Record) -> TrialCurve:
    return TrialCurve(
        name=record.name,
        epochs=np.array([one.epoch for one in record.history]),
        values=np.array([one.value for one in record.history]),
        value=record.value or 0.0,
        pruned=record.status == PRUNED,
        lower_is_better=record.lower_is_better,
    )


def _coordinate(dimension: Dimension, trials: Sequence[Record]) -> Coordinate:
    texts = [one.settings.get(dimension.key, "") for one in trials]
    is_number = all(_is_number(text) for text in texts if text) and any(texts)
    return Coordinate(
        name=dimension.key,
        texts=texts,
        is_number=is_number and dimension.kind not in LISTS,
        is_log=dimension.kind == "loguniform",
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _codes(column: Coordinate) -> np.ndarray:
    if column.is_number:
        numbers = np.array([float(text or math.nan) for text in column.texts])
        numbers = np.log(numbers) if column.is_log else numbers
        # A trial without the setting stands apart, below all that have it.
        low, high = np.nanmin(numbers), np.nanmax(numbers)
        return np.where(np.isnan(numbers), low - max(high - low, 1.0), numbers)
    return np.unique(column.texts, return_inverse=True)[1].astype(np.float64)
