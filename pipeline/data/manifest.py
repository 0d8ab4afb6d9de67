"""What a prepared folder says of itself: its inputs, its shards and its label statistics.

`manifest.json` is written last, so a folder with one is whole. Training reads class balances from
here; nothing is counted twice.
"""

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.schema import SPLITS
from pipeline.data.splits import scene_key
from pipeline.datasets.protocol.dataset import LabelRule, SceneView
from pipeline.datasets.protocol.facts import DatasetFacts
from pipeline.datasets.protocol.registry import recorded_facts

MANIFEST, INDEX, SPLIT_FILE, QUARANTINE = (
    "manifest.json",
    "index.parquet",
    "splits.json",
    "quarantine.json",
)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One Arrow IPC file."""

    split: str
    name: str
    """File name inside the split's folder."""
    num_rows: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Anomalous against normal items (points, cells) of a split; ignored ones are left out."""

    prior: float
    """Share of anomalous items."""
    pos_weight: float
    """Normal items per anomalous one."""


NO_ANOMALIES = Balance(prior=1e-3, pos_weight=999.0)
"""Assumed where train holds no anomaly: it sets the first bias of a logit that is not trained."""


@dataclass(frozen=True, kw_only=True)
class LabelCounts:
    """Labels of one split; pos is anomalous, neg is normal, ignored has label 255."""

    frames_pos: int
    frames_neg: int
    frames_ignored: int
    points_pos: int
    points_neg: int
    points_ignored: int
    frames_by_kind: dict[str, int]
    pos_frames_by_category: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class SceneRecord:
    """Truth of one scene: the rule of its labels and what came of it, over all its poses."""

    archive: str
    scene_id: str
    kind: str
    split: str
    label_rule: str
    """`ids`, `kinematics` or `window_guess`."""
    window: list[int | None]
    """First braking, first standing and last frame id of a dynamic scene's window; [] without."""
    notes: list[str]
    """What the scene lacks and what stands in for it."""
    frames_pos: int
    frames_neg: int
    frames_ignored: int
    points_pos: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`."""

    blocks_hash: str
    """Hash of the prepare section, the inputs and the schema; names the folder."""
    split_hash: str
    inputs_hash: str
    """Hash of the archives' scenes, frame ids and file sizes."""
    root: str
    prepare: dict[str, Any]
    """The prepare section of the config."""
    num_found: int
    """Frames of readable scenes; each is accepted or quarantined."""
    num_accepted: int
    num_quarantined: int
    num_refused_scenes: int
    """Scenes left out as a whole, for the reasons in `quarantine.json`."""
    num_refused_archives: int
    dataset: DatasetFacts
    """Of folders from before there was another data set, AnoVox's."""
    is_synthetic: bool
    """Whether the synthetic writer made the input; every figure says so."""
    image_height: int
    image_width: int
    shards: list[Shard]
    labels: dict[str, LabelCounts]
    """By split."""
    scenes: list[SceneRecord]

    @property
    def data_name(self) -> str:
        """What the data are, for tables and MLflow."""
        return f"synthetic {self.dataset.name}" if self.is_synthetic else self.dataset.name

    def shards_of(self, split: str) -> list[Shard]:
        """The split's shards in the order that numbers its rows."""
        return [shard for shard in self.shards if shard.split == split]

    def train_balance(self, *, needs_anomalies: bool) -> Balance:
        """Of train; without anomalous points, where the loss uses none, `NO_ANOMALIES`.

        Raises ValueError when the loss needs some and there are none.
        """
        if not needs_anomalies and self.labels["train"].points_pos == 0:
            return NO_ANOMALIES
        return self.point_balance("train")

    def point_balance(self, split: str) -> Balance:
        """Raises ValueError when the split holds no anomalous point."""
        pos, neg = self.labels[split].points_pos, self.labels[split].points_neg
        if pos == 0:
            raise ValueError(
                f"split {split} of {self.blocks_hash} holds no anomalous LiDAR point; points "
                "cannot be trained on: add scenes, change prepare.split_seed or "
                "prepare.train_kinds, or use loss.name=cross_entropy, which needs none"
            )
        return Balance(prior=pos / (pos + neg), pos_weight=neg / pos)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` atomically."""
    write_text(folder / MANIFEST, json.dumps(dataclasses.asdict(manifest), indent=1))


def read_manifest(folder: Path) -> Manifest:
    """Raises ValueError when `folder` was not prepared to the end, or by another version."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} has no {MANIFEST}: it is not prepared; run jobs.prepare")
    facts = json.loads(path.read_text())
    try:
        shards = [Shard(**shard) for shard in facts.pop("shards")]
        labels = {split: LabelCounts(**counts) for split, counts in facts.pop("labels").items()}
        scenes = [SceneRecord(**scene) for scene in facts.pop("scenes")]
        dataset = recorded_facts(facts.pop("dataset", None))
        return Manifest(**facts, dataset=dataset, shards=shards, labels=labels, scenes=scenes)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} was written by another version of this program ({error}); delete its folder "
            "and run jobs.prepare again"
        ) from None


def count_labels(frames: pd.DataFrame) -> dict[str, LabelCounts]:
    """Label statistics of every split from the index (one row per frame)."""
    return {split: _count(frames.query("split == @split")) for split in SPLITS}


def _count(frames: pd.DataFrame) -> LabelCounts:
    labels = frames["frame_label"].to_numpy()
    total, pos, ignored = (
        int(frames[name].to_numpy().sum())
        for name in ("num_points", "num_anomaly_points", "num_ignored_points")
    )
    return LabelCounts(
        frames_pos=int((labels == 1).sum()),
        frames_neg=int((labels == 0).sum()),
        frames_ignored=int((labels == 255).sum()),
        points_pos=pos,
        points_neg=total - pos - ignored,
        points_ignored=ignored,
        frames_by_kind=_sizes(frames["kind"].to_numpy()),
        pos_frames_by_category=_sizes(frames["anomaly_category"].to_numpy()[labels == 1]),
    )


def record_scenes(
    views: Iterable[SceneView],
    rules: Mapping[str, LabelRule],
    splits: Mapping[str, str],
    frames: pd.DataFrame,
) -> list[SceneRecord]:
    """One record per scene from the index, also of a scene whose every frame is in quarantine."""
    keys = frames["archive"] + "/" + frames["scene_id"]
    poses: dict[str, list[SceneView]] = {}
    for view in views:
        poses.setdefault(scene_key(view.archive, view.scene_id), []).append(view)
    rows = frames.groupby(keys).indices
    return [
        _record(own, rules[key], splits[key], frames.iloc[rows.get(key, [])])
        for key, own in poses.items()
    ]


def _record(poses: list[SceneView], rule: LabelRule, split: str, rows: pd.DataFrame) -> SceneRecord:
    labels = rows["frame_label"].to_numpy()
    return SceneRecord(
        archive=poses[0].archive,
        scene_id=poses[0].scene_id,
        kind=poses[0].kind,
        split=split,
        label_rule=rule.label_rule,
        window=rule.window_ids,
        notes=sorted({note for pose in poses for note in pose.notes}),
        frames_pos=int((labels == 1).sum()),
        frames_neg=int((labels == 0).sum()),
        frames_ignored=int((labels == 255).sum()),
        points_pos=int(rows["num_anomaly_points"].to_numpy().sum()),
    )


def _sizes(names: np.ndarray) -> dict[str, int]:
    return dict(sorted(Counter(names.tolist()).items()))


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, flush it to disk and rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    replace_durably(temporary, path)


def replace_durably(temporary: Path, path: Path) -> None:
    """Flush a finished file to disk, then give it its name."""
    flush_file(temporary)
    temporary.replace(path)


def flush_file(path: Path) -> None:
    """Wait until a file's content is on disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
