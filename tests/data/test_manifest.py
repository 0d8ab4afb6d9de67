"""The manifest survives a round trip and counts labels once and for all."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline.data.manifest import (
    MANIFEST,
    NO_ANOMALIES,
    LabelCounts,
    Manifest,
    SceneRecord,
    Shard,
    count_labels,
    read_manifest,
    write_manifest,
)
from pipeline.datasets.anovox.class_table import ANOVOX_FACTS


def frames() -> pd.DataFrame:
    """Train: one normal, one anomalous, one ignored frame; val: one normal; test: none."""
    return pd.DataFrame(
        {
            "split": ["train", "train", "train", "val"],
            "frame_label": [0, 1, 255, 0],
            "kind": ["normality", "static", "static", "normality"],
            "anomaly_category": ["", "animal", "home", ""],
            "num_points": [100, 110, 120, 90],
            "num_anomaly_points": [0, 20, 2, 0],
            "num_ignored_points": [10, 0, 8, 0],
        }
    )


SCENE = SceneRecord(
    archive="AnoVox_Dynamic_Mono_Town07",
    scene_id="739b5ee1-53b4-4a10-9a3c-0a8ce50e8d11",
    kind="dynamic",
    split="test",
    label_rule="kinematics",
    window=[3448, None, 3477],
    notes=["no ROUTE_MAP"],
    frames_pos=30,
    frames_neg=170,
    frames_ignored=0,
    points_pos=5123,
)


def manifest(labels: dict[str, LabelCounts]) -> Manifest:
    shards = [
        Shard(split=split, name=name, num_rows=2, num_bytes=9, sha256="ab")
        for split, name in (("train", "a"), ("val", "a"), ("train", "b"))
    ]
    return Manifest(
        blocks_hash="b",
        split_hash="s",
        inputs_hash="i",
        root="/data",
        prepare={"image_crop": [0.0, 1.0]},
        num_found=5,
        num_accepted=4,
        num_quarantined=1,
        num_refused_scenes=0,
        num_refused_archives=0,
        dataset=ANOVOX_FACTS,
        is_synthetic=True,
        image_height=4,
        image_width=6,
        shards=shards,
        labels=labels,
        scenes=[SCENE],
    )


def test_labels_are_counted_per_split():
    counts = count_labels(frames())
    assert counts["train"] == LabelCounts(
        frames_pos=1,
        frames_neg=1,
        frames_ignored=1,
        points_pos=22,
        points_neg=330 - 22 - 18,
        points_ignored=18,
        frames_by_kind={"normality": 1, "static": 2},
        pos_frames_by_category={"animal": 1},
    )
    assert counts["val"].points_neg == 90
    assert counts["test"].frames_by_kind == {}


def test_pos_weight_is_negatives_over_positives_without_ignored_points():
    balance = manifest(count_labels(frames())).point_balance("train")
    assert balance.pos_weight == 290 / 22
    assert balance.prior == 22 / 312


def test_a_split_without_anomalous_points_has_no_balance():
    with pytest.raises(ValueError, match="split val of b holds no anomalous LiDAR point"):
        manifest(count_labels(frames())).point_balance("val")


def test_a_loss_that_needs_no_anomaly_trains_without_one_and_any_other_is_refused():
    whole = manifest(count_labels(frames()))
    train = dataclasses.replace(whole.labels["train"], points_pos=0)
    without = dataclasses.replace(whole, labels=whole.labels | {"train": train})
    assert without.train_balance(needs_anomalies=False) == NO_ANOMALIES
    with pytest.raises(ValueError, match=r"prepare\.train_kinds, or use loss\.name=cross_entropy"):
        without.train_balance(needs_anomalies=True)
    for needs in (True, False):
        assert whole.train_balance(needs_anomalies=needs) == whole.point_balance("train")


def test_a_manifest_of_another_version_is_refused(tmp_path: Path):
    (tmp_path / MANIFEST).write_text('{"shards": [], "labels": {}, "colour": "red"}')
    with pytest.raises(ValueError, match="was written by another version"):
        read_manifest(tmp_path)


def test_shards_of_a_split_keep_their_order():
    names = [shard.name for shard in manifest(count_labels(frames())).shards_of("train")]
    assert names == ["a", "b"]


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path):
    written = manifest(count_labels(frames()))
    write_manifest(tmp_path, written)
    assert read_manifest(tmp_path) == written
    in_json = json.loads(json.dumps(dataclasses.asdict(written)))
    assert json.loads((tmp_path / MANIFEST).read_text()) == in_json


def test_a_manifest_of_before_there_was_another_data_set_is_anovoxs(tmp_path: Path):
    written = manifest(count_labels(frames()))
    facts = dataclasses.asdict(written)
    del facts["dataset"]
    (tmp_path / MANIFEST).write_text(json.dumps(facts))
    assert read_manifest(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]
