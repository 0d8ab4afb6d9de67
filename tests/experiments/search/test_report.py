"""The figures of a study from its records."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.experiments.search.report import draw_study, importance_figure, importances, progress
from pipeline.experiments.search.space import parse_space
from pipeline.experiments.search.trial_store import FINISHED, PRUNED, Record, Validation
from pipeline.visualization.search_figures import Coordinate

TEXTS = ["train.lr loguniform 1e-4 1e-2", "model.fusion choice late concat"]


def record(number: int, *values: float, status: str = FINISHED, first_s: float = 0.0) -> Record:
    history = [
        Validation(epoch=2 * n, step=n, value=value, time_s=first_s + n)
        for n, value in enumerate(values, start=1)
    ]
    lr, fusion = f"{1e-4 * (number + 1):.4g}", ("late", "concat")[number % 2]
    return Record(
        number=number,
        name=f"{number:03d}-x",
        drawn={},
        settings={"train.lr": lr, "model.fusion": fusion},
        status=status,
        history=history,
    )


def test_epochs_of_trials_side_by_side_are_counted_as_they_came():
    first = record(0, 0.1, 0.2, first_s=0.0)
    second = record(1, 0.3, status=PRUNED, first_s=0.5)
    epochs, values = progress([first, second])
    assert epochs.tolist() == [2, 4, 6]
    assert values.tolist() == [0.1, 0.3, 0.2]


def test_the_setting_that_decides_is_the_important_one():
    rng = np.random.default_rng(0)
    lr = [f"{10 ** rng.uniform(-4, -2):.4g}" for _ in range(40)]
    fusion = list(rng.choice(["late", "concat", "gated"], 40))
    values = np.array([np.log10(float(one)) for one in lr]) + 0.01 * rng.normal(size=40)
    columns = [
        Coordinate(name="train.lr", texts=lr, is_number=True, is_log=True),
        Coordinate(name="model.fusion", texts=fusion, is_number=False, is_log=False),
    ]
    means, deviations, oob = importances(columns, values, seed=0)
    assert means["train.lr"] > 1.0
    assert abs(means["model.fusion"]) < 0.05
    assert deviations.keys() == means.keys()
    assert oob > 0.9


def test_a_setting_that_some_trials_lack_keeps_its_order():
    rng = np.random.default_rng(2)
    texts = ["", *(repr(float(10**n)) for n in rng.uniform(-5, 5, 39))]
    values = np.array([0.0, *(np.log10(float(text)) for text in texts[1:])])
    column = Coordinate(name="loss.focal_gamma", texts=texts, is_number=True, is_log=True)
    _, _, oob = importances([column], values, seed=0)
    assert oob > 0.9


@pytest.mark.parametrize(("noise", "first_words"), [(0.0, "What"), (9.0, "These trials do not")])
def test_importance_is_claimed_only_where_trials_left_out_bear_it(noise: float, first_words: str):
    rng = np.random.default_rng(1)
    trials = [record(n, n + noise * rng.normal()) for n in range(20)]
    lr = Coordinate(
        name="train.lr",
        texts=[one.settings["train.lr"] for one in trials],
        is_number=True,
        is_log=True,
    )
    figure = importance_figure(trials, [lr], metric="point_ap", seed=0, note="synthetic data")
    title = figure.axes[0].get_title(loc="left")
    assert title.startswith(first_words)
    assert "R2 on trials left out" in title.replace("\n", " ")


@pytest.mark.parametrize("num_trials", [1, 12])
def test_every_study_gets_its_four_figures(tmp_path: Path, num_trials: int):
    config = merge(Config(), {"tune": {"space": TEXTS}})
    trials = [record(n, 0.1 + 0.01 * n, 0.3) for n in range(num_trials)]
    trials += [dataclasses.replace(record(50), status="skipped")]
    paths = draw_study(
        config, parse_space(config, TEXTS), trials, tmp_path, constant=0.01, note="synthetic data"
    )
    assert [path.name for path in paths] == [
        "learning_curves.png",
        "best_so_far.png",
        "parallel_coordinates.png",
        "importance.png",
    ]
    assert all(path.stat().st_size > 5000 for path in paths)
