"""The recipes of docs/extend.md work as they are written, with no more files than they name."""

import re
import sys
import types
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from sklearn.metrics import precision_recall_curve

from pipeline.config.experiments import SCHEDULER_NAMES
from pipeline.config.load import merge
from pipeline.config.model import FUSIONS, LOSS_NAMES, LossConfig
from pipeline.config.schema import Config
from pipeline.data.batch import Batch
from pipeline.experiments.search.metric import check_metric
from pipeline.experiments.search.ray_tune import SCHEDULER_MAKERS, make_scheduler
from pipeline.experiments.search.trial import EPOCH, VALUE
from pipeline.experiments.search.trial_store import Ledger
from pipeline.losses.anomaly import POINT_LOSSES, constant_predictor_loss, loss_terms
from pipeline.metrics.counts import ScoreCounts
from pipeline.metrics.metric import DEFINITIONS
from pipeline.models.detector import build_detector
from pipeline.models.scores import Scores
from tests.helpers.repository import REPOSITORY
from tests.helpers.small_model import SMALL
from tests.helpers.streets import street_batch

PAGE = (REPOSITORY / "docs" / "extend.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MAX_FILES = {"Fusion": 2, "Loss": 2, "Metric": 1, "Search scheduler": 2}
TABLES: list[Any] = [FUSIONS, LOSS_NAMES, POINT_LOSSES, DEFINITIONS]
TABLES += [SCHEDULER_NAMES, SCHEDULER_MAKERS]


def blocks(recipe: str) -> list[tuple[str, str]]:
    """Path and code of each block under a heading."""
    return BLOCK.findall(PAGE.partition(f"\n## {recipe}\n")[2].partition("\n## ")[0])


@pytest.fixture(autouse=True)
def _tables_as_they_were() -> Iterator[None]:
    before = [type(table)(table) for table in TABLES]
    yield
    for table, old in zip(TABLES, before, strict=True):
        table.clear()
        (table.update if isinstance(table, dict) else table.extend)(old)


def follow(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add its blocks: to a copy of what a file holds, or as a new module."""
    for path, code in blocks(recipe):
        name = path.removesuffix(".py").replace("/", ".")
        if (REPOSITORY / path).exists():
            exec(compile(code, path, "exec"), dict(vars(import_module(name))))
        else:
            module = types.ModuleType(name)
            monkeypatch.setitem(sys.modules, name, module)
            exec(compile(code, path, "exec"), vars(module))


@pytest.mark.parametrize("recipe", MAX_FILES)
def test_a_recipe_touches_no_more_files_than_promised(recipe: str) -> None:
    paths = [path for path, _ in blocks(recipe)]
    assert 1 <= len(set(paths)) == len(paths) <= MAX_FILES[recipe]


def test_every_block_of_code_belongs_to_a_recipe_that_is_tested() -> None:
    found = [block for recipe in MAX_FILES for block in blocks(recipe)]
    assert len(found) == len(re.findall(r"^```python$", PAGE, re.MULTILINE)) == 7


def test_the_fusion_scores_by_both_modalities_and_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"model.fusion: Invalid value 'maximum', expected one of"):
        merge(Config(), {"model": {"fusion": "maximum"}})
    follow("Fusion", monkeypatch)
    config = merge(Config(), {"model": vars(SMALL) | {"fusion": "maximum"}}).model
    torch.manual_seed(0)
    model, batch = build_detector(config, prior=1e-2), street_batch()
    score = model(batch).point_score
    assert score.shape == (len(batch.points),)
    score.square().mean().backward()
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert {"camera", "fusion", "lidar", "head"} <= learning


def test_the_loss_is_that_of_numpy_and_no_constant_beats_its_constant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match=r"loss.name: Invalid value 'hinge', expected one of"):
        LossConfig(name="hinge")
    follow("Loss", monkeypatch)
    config = merge(Config(), {"loss": {"name": "hinge"}}).loss
    batch = street_batch()
    known, sign = batch.point_label <= 1, np.where(batch.point_label == 1, 1.0, -1.0)
    score = torch.randn(len(batch.points))
    found = term_of(score, batch, config)
    weight = np.where(batch.point_label == 1, 7.0, 1.0)
    expected = (weight * np.maximum(0, 1 - score.numpy() * sign))[known].mean()
    assert found == pytest.approx(expected, rel=1e-5)
    prevalence = float((batch.point_label == 1).sum() / known.sum())
    least = constant_predictor_loss(prevalence, config=config, pos_weight=7.0)
    constants = [
        term_of(torch.full_like(score, value), batch, config) for value in np.linspace(-3, 3, 61)
    ]
    assert min(constants) == pytest.approx(least, rel=1e-5)


def term_of(score: torch.Tensor, batch: Batch, config: LossConfig) -> float:
    """The point term, positives weighing 7."""
    scores = Scores(point_score=score, frame_score=torch.zeros(len(batch.sizes())))
    term = loss_terms(scores, batch, config=config, pos_weight=7.0)["point"]
    return float(term.total / term.count)


def test_the_metric_is_that_of_scikit_learn_and_a_choice_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match=r"tune.metric: Invalid value 'point_best_f1'"):
        merge(Config(), {"tune": {"metric": "point_best_f1"}})
    follow("Metric", monkeypatch)
    use = {"tune": {"metric": "point_best_f1"}, "train": {"monitor": "frame_best_f1"}}
    check_metric(merge(Config(), use))
    rng = np.random.default_rng(0)
    labels = (rng.random(2000) < 0.1).astype(np.uint8)
    scores = rng.integers(-40, 40, 2000) / 16 + labels
    counts = ScoreCounts()
    counts.add(scores, labels)
    precision, recall, _ = precision_recall_curve(labels, scores)
    best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
    found = counts.metric("best_f1")
    assert found.value == pytest.approx(best)
    assert found.low <= found.value <= found.high
    constant = DEFINITIONS["best_f1"].constant(counts.prevalence)
    alike = ScoreCounts()
    alike.add(np.zeros(2000), labels)
    assert alike.metric("best_f1").value == pytest.approx(constant)


def test_the_scheduler_stops_a_trial_below_the_median_and_lets_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    follow("Search scheduler", monkeypatch)
    config = merge(Config(), {"tune": {"scheduler": "median"}})
    scheduler = make_scheduler(config, Ledger(config, tmp_path))
    controller: Any = None
    decisions = {}
    for name, value in (("good", 0.5), ("better", 0.6), ("best", 0.7), ("bad", 0.1), ("new", 0.9)):
        trial = Trial("any", trial_id=name, stub=True)
        scheduler.on_trial_add(controller, trial)
        for epoch in (1, 2):
            result = {EPOCH: epoch, VALUE: value}
            decisions[name] = scheduler.on_trial_result(controller, trial, result)
            if decisions[name] == TrialScheduler.STOP:
                break
    goes_on = TrialScheduler.CONTINUE
    assert decisions["bad"] == TrialScheduler.STOP
    assert decisions["good"] == decisions["best"] == decisions["new"] == goes_on
