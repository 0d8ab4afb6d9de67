"""One record makes a metric: it is computed, shown, checked and compared wherever metrics are."""

import dataclasses
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from pipeline.config.load import merge, to_dict
from pipeline.config.schema import Config
from pipeline.data.readers import open_reader
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.evaluation.baselines import beats
from pipeline.evaluation.results_table import result_rows
from pipeline.experiments.search.metric import check_metric
from pipeline.metrics.counts import ScoreCounts
from pipeline.metrics.metric import (
    DEFINITIONS,
    MetricDefinition,
    add_metric,
    definition_of,
    level_of,
    names_of,
)
from pipeline.metrics.tally import SplitCounts
from pipeline.models.detector import build_detector
from pipeline.models.scores import Scores
from pipeline.training.checkpoint_selection import checkpoint_metric, choice_sees, is_new_best
from pipeline.training.checkpoints import CheckpointMeta, Position
from pipeline.training.validation import validate
from pipeline.training.worker import single_worker
from tests.helpers.small_model import SMALL

MODULE = '''
import numpy as np

from pipeline.metrics.metric import MetricDefinition, add_metric


def misses(neg, pos):
    """Least share of anomalous items missed with at most 5 % false alarms."""
    allowed = neg.cumsum(-1) <= 0.05 * neg.sum(-1, keepdims=True)
    total = pos.sum(-1)
    found = (pos.cumsum(-1) * allowed).max(-1) / np.maximum(total, 1)
    return np.where((total > 0) & (neg.sum(-1) > 0), 1 - found, np.nan)


add_metric(
    MetricDefinition(
        name="misses",
        values=misses,
        constant=lambda prevalence: 1.0,
        higher_is_better=False,
        levels=("point", "frame"),
        chooses_checkpoint=("point",),
        ranks_search=("point",),
    )
)
'''


@pytest.fixture
def _misses(tmp_path: Path) -> Iterator[None]:
    """A metric of which lower is better, from a module that the product does not know."""
    before = dict(DEFINITIONS)
    (tmp_path / "misses.py").write_text(MODULE)
    spec = importlib.util.spec_from_file_location("misses", tmp_path / "misses.py")
    assert spec
    assert spec.loader
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    yield
    DEFINITIONS.clear()
    DEFINITIONS.update(before)


@pytest.fixture(scope="module")
def split(make_split):
    return make_split(num_scenes=20, frames_per_scene=2, num_points=300, seed=0)


def tally_of(split) -> SplitCounts:
    batch = split.batch(list(range(split.num_rows)))
    generator = torch.Generator().manual_seed(0)
    scores = Scores(
        point_score=torch.randn(len(batch.points), generator=generator) + (batch.point_label == 1),
        frame_score=torch.randn(split.num_rows, generator=generator) + batch.frame_label,
    )
    tally = SplitCounts(
        split="test", split_hash="abc", lookalike_classes=[20], classes=ANOVOX_CLASSES
    )
    tally.update(scores, batch, split.index)
    return tally


def meta_of(config: Config) -> CheckpointMeta:
    return CheckpointMeta(
        position=Position(epoch=1, step_in_epoch=0, step=1),
        config=to_dict(config),
        run_id="r",
        split_hash="abc",
        revision="",
        prior=0.01,
        metrics={},
        thresholds={},
        best={},
        history=[],
        epoch_loss=[],
        largest_grad_norm=0.0,
        precision="fp32",
        grad_scaler={},
    )


@pytest.mark.usefixtures("_misses")
def test_a_validation_has_the_metric_at_its_levels(tiny_config: Config, tiny_blocks: Path):
    config = merge(tiny_config, {"train": {"monitor": "point_misses"}})
    found, _ = validate(
        build_detector(SMALL, prior=0.01),
        open_reader(config, tiny_blocks, "val", num_sweeps=1, say=lambda line: None),
        single_worker(lambda line: None, use_gpu=False),
        config=config,
        precision="fp32",
        pos_weight=1.0,
    )
    assert 0 <= found["val/point_misses"] <= 1
    assert {name for name in found if name.endswith("misses")} == {
        "val/point_misses",
        "val/frame_misses",
    }
    assert checkpoint_metric(config) == "val/point_misses"
    assert choice_sees(config) == "anomaly labels of the validation split"


@pytest.mark.usefixtures("_misses")
def test_the_results_table_has_its_rows_with_interval_constant_and_baseline(split):
    config = merge(Config(), {"evaluation": {"num_bootstraps": 100}})
    tally = tally_of(split)
    rows = result_rows(config, meta_of(config), tally, tally.constant(), probes={})
    found = {row.metric: row for row in rows if row.metric.endswith("_misses")}
    slices = {name for name in tally.slices if level_of(name) in ("point", "frame")}
    assert found.keys() == {f"test/{name}_misses" for name in slices}
    row = found["test/point_misses"]
    assert (row.constant, row.baseline) == (1.0, 1.0)
    assert row.low < row.value < row.high


@pytest.mark.usefixtures("_misses")
def test_its_value_is_that_of_scikit_learn_and_its_bounds_hold_it():
    rng = np.random.default_rng(0)
    labels = (rng.random(3000) < 0.2).astype(np.uint8)
    scores = (rng.normal(size=3000) + labels).astype(np.float32)
    counts = ScoreCounts()
    counts.add(scores, labels)
    false_pos, recall, _ = roc_curve(labels, scores, drop_intermediate=False)
    metric = counts.metric("misses")
    assert metric.low <= 1 - recall[false_pos <= 0.05].max() <= metric.high
    assert metric.low <= metric.value <= metric.high


@pytest.mark.usefixtures("_misses")
def test_settings_take_its_name_where_its_record_says_so():
    check_metric(merge(Config(), {"tune": {"metric": "point_misses"}}))
    with pytest.raises(ValueError, match=r"tune.metric: Invalid value 'frame_misses'"):
        merge(Config(), {"tune": {"metric": "frame_misses"}})
    with pytest.raises(ValueError, match=r"train.monitor: Invalid value 'frame_misses'"):
        merge(Config(), {"train": {"monitor": "frame_misses"}})


def test_settings_do_not_take_names_that_no_record_has():
    with pytest.raises(ValueError, match=r"tune.metric: Invalid value 'point_misses', expected"):
        merge(Config(), {"tune": {"metric": "point_misses"}})
    with pytest.raises(ValueError, match=r"ablate.metrics=point_map ends in no metric; there are"):
        merge(Config(), {"ablate": {"metrics": ["point_ap", "point_map"]}})
    assert names_of("chooses_checkpoint") == ["point_ap", "frame_ap", "semantic_miou"]
    assert names_of("ranks_search") == ["point_ap", "frame_ap", "pixel_ap", "semantic_miou"]


@pytest.mark.usefixtures("_misses")
def test_of_a_metric_of_which_lower_is_better_the_lowest_value_is_the_best():
    assert beats("point_misses", 0.2, ScoreCounts().metric("misses")) is False
    key, best = "val/point_misses", {"value": 0.3}
    assert is_new_best(key, {key: 0.9}, {})
    assert is_new_best(key, {key: 0.2}, best)
    assert not is_new_best(key, {key: 0.4}, best)
    assert not is_new_best(key, {key: float("nan")}, best)
    assert not is_new_best(key, {"val/point_ap": 0.2}, best)
    assert not is_new_best("val/point_ap", {"val/point_ap": 0.2}, best)


def test_a_name_is_given_once_and_found_at_the_end_of_full_names():
    taken = dataclasses.replace(DEFINITIONS["ap"])
    with pytest.raises(ValueError, match="metric ap is defined twice"):
        add_metric(taken)
    assert definition_of("test/frame_static_20in_view_auroc") is DEFINITIONS["auroc"]
    assert definition_of("fpr95") is DEFINITIONS["fpr95"]
    assert isinstance(definition_of("val/semantic_miou"), MetricDefinition)
    with pytest.raises(ValueError, match="point_map ends in no metric"):
        definition_of("point_map")
