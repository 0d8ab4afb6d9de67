"""The audit on real shards of the tiny synthetic world."""

import json
from pathlib import Path

import pytest

from jobs.audit import work
from pipeline.config.schema import Config
from pipeline.evaluation.audit import Audit, audit, sample_split
from pipeline.evaluation.parallel_inference import OpenSplit
from pipeline.evaluation.point_features import FEATURES
from pipeline.evaluation.probes import FACTS


@pytest.fixture(scope="module")
def splits(tiny_config: Config, tiny_blocks: Path) -> tuple[OpenSplit, OpenSplit]:
    train, test = (OpenSplit.open(tiny_config, tiny_blocks, split) for split in ("train", "test"))
    return train, test


@pytest.fixture(scope="module")
def audited(splits) -> Audit:
    return audit(*splits, watch=lambda phase: lambda done, total: None)


def test_every_probe_has_a_line_and_aurocs_are_shares(audited):
    assert audited.features["feature"].tolist() == list(FEATURES)
    assert audited.shortcuts["probe"].tolist() == list(FACTS)
    read = audited.features[["all_monotone", "all_binned"]].to_numpy()
    assert ((read >= 0) & (read <= 1)).all()


def test_the_baseline_saw_every_test_frame_once(audited, splits):
    test = splits[1].reader
    assert audited.baseline.frames()["row"].tolist() == list(range(test.num_rows))
    assert audited.baseline.split_hash == test.manifest.split_hash
    assert audited.baseline.metrics("baseline")["baseline/point_ap"] > 0


def test_a_sample_stands_for_all_points_outside_the_ego_box(splits):
    sample = sample_split(splits[0], progress=lambda done, total: None)
    train = splits[0].reader
    batch = train.batch(range(train.num_rows), augment_seed=None)
    num_counted = int((batch.point_label != 255).sum())
    assert sample.weight.sum() == pytest.approx(num_counted)  # few points, so all are kept
    assert int((sample.label == 1).sum()) == int((batch.point_label == 1).sum())


def test_the_job_prints_its_tables_and_returns_plain_facts(tiny_config, capsys):
    facts = json.loads(json.dumps(work(tiny_config)))
    printed = capsys.readouterr().out
    for word in ("abs_y_m", "small_binned", "archive + frame_index", "baseline/point_ap"):
        assert word in printed
    assert facts["split_hash"]
    assert set(facts) >= {"shortcuts", "baseline/point_ap", "baseline/small_object_ap"}
