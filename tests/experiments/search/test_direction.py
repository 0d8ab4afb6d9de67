"""A search by a metric of which lower is better ranks, prunes and draws the other way round."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.experiments.search.asha import ResumableASHA
from pipeline.experiments.search.leaderboard import board, ranked
from pipeline.experiments.search.ray_tune import StudySearcher
from pipeline.experiments.search.sampler import OptunaProposer, Proposals
from pipeline.experiments.search.space import parse_space
from pipeline.experiments.search.trial import EPOCH, VALUE
from pipeline.experiments.search.trial_store import FINISHED, PRUNED, Ledger, Record, Validation
from pipeline.experiments.study import Study
from pipeline.metrics.metric import DEFINITIONS
from pipeline.visualization.search_figures import TrialCurve, best_so_far, learning_curves

SPACE = ["model.dropout uniform 0 0.9"]


@pytest.fixture(autouse=True)
def _fpr95_may_rank() -> Iterator[None]:
    before = DEFINITIONS["fpr95"]
    DEFINITIONS["fpr95"] = dataclasses.replace(before, ranks_search=("point",))
    yield
    DEFINITIONS["fpr95"] = before


@pytest.fixture
def config() -> Config:
    tune = {"metric": "point_fpr95", "space": SPACE, "reduction_factor": 3}
    return merge(Config(), {"train": {"num_epochs": 9}, "tune": tune})


def record(number: int, status: str, *values: float) -> Record:
    return Record(
        number=number,
        name=f"t{number}",
        drawn={"model.dropout": f"0.{number}"},
        settings={},
        status=status,
        history=[Validation(epoch=n, step=n, value=v) for n, v in enumerate(values, start=1)],
        lower_is_better=True,
    )


def test_proposals_of_the_study_know_the_direction_and_keep_it(config: Config, tmp_path: Path):
    ledger = Ledger(config, tmp_path)
    made = Proposals(config, parse_space(config, SPACE), ledger).next()
    assert made
    assert made.lower_is_better
    assert Ledger(config, tmp_path).records() == [made]
    assert not Record(number=0, name="", drawn={}, settings={}).lower_is_better


def test_the_lowest_value_counts_and_ranks_first():
    records = [record(0, FINISHED, 0.4, 0.3), record(1, FINISHED, 0.5, 0.1, 0.2)]
    records += [record(2, PRUNED, 0.9), record(3, PRUNED, 0.05)]
    assert [one.value for one in records] == [0.3, 0.1, 0.9, 0.05]
    assert [one.name for one in ranked(records)] == ["t1", "t0", "t3", "t2"]
    assert "0.100" in board(records, metric="point_fpr95").splitlines()[2]


def test_asha_stops_the_trial_with_the_higher_value(config: Config, tmp_path: Path):
    ledger = Ledger(config, tmp_path)
    ledger.write(record(0, FINISHED, 0.5, 0.4, 0.3))
    ledger.write(record(1, PRUNED, 0.6))
    asha, controller = ResumableASHA(config, ledger), None
    decisions = {}
    for name, value in (("worse", 0.7), ("better", 0.4)):
        trial = Trial("any", trial_id=name, config={"name": name}, stub=True)
        asha.on_trial_add(controller, trial)
        result: dict[str, Any] = {EPOCH: 1, VALUE: value}
        decisions[name] = asha.on_trial_result(controller, trial, result)
    assert decisions == {"worse": TrialScheduler.STOP, "better": TrialScheduler.CONTINUE}


def test_ray_tune_is_told_the_direction(config: Config, tmp_path: Path):
    ledger = Ledger(config, tmp_path)
    proposals = Proposals(config, parse_space(config, SPACE), ledger)
    study = Study(run_id="r", folder=tmp_path)
    assert StudySearcher(config, study, ledger, proposals).mode == "min"
    usual = merge(config, {"tune": {"metric": "point_ap"}})
    assert StudySearcher(usual, study, ledger, proposals).mode == "max"


def test_optuna_draws_where_the_value_is_low(config: Config):
    proposer = OptunaProposer(parse_space(config, SPACE), seed=0, known=[])
    drawn = []
    for number in range(40):
        settings = proposer.ask(number)
        drawn.append(float(settings["model.dropout"]))
        one = record(number, FINISHED, (drawn[-1] - 0.7) ** 2)
        proposer.tell(dataclasses.replace(one, drawn=settings))
    assert sum(abs(x - 0.7) < 0.1 for x in drawn[20:]) > 10


def test_the_figures_name_the_lowest_as_the_best():
    curves = [
        TrialCurve(
            name=f"{number:03d}-x",
            epochs=np.arange(1, 3),
            values=np.array(values),
            value=min(values),
            pruned=False,
            lower_is_better=True,
        )
        for number, values in enumerate([(0.5, 0.4), (0.3, 0.2)])
    ]
    title = learning_curves(curves, metric="point_fpr95", constant=1.0).axes[0].get_title("left")
    assert "best point_fpr95 0.200 by trial 001" in title
    figure = best_so_far(
        np.array([1, 2, 3]),
        np.array([0.5, 0.2, 0.4]),
        metric="point_fpr95",
        num_planned=4,
        lower_is_better=True,
    )
    reached = np.asarray(figure.axes[0].lines[1].get_ydata()).tolist()
    assert reached == [0.5, 0.2, 0.2]
