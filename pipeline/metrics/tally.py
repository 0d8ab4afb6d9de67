"""Scores of a split counted per slice, once for exact metrics and once per scene for intervals.

Voxels and pixels are counted where a batch holds their truth; `slices` says what counts where.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from pipeline.config.schema import VoxelScore
from pipeline.data.batch import Batch
from pipeline.datasets.protocol.classes import ClassTable, class_table, is_one_of
from pipeline.datasets.protocol.registry import recorded_facts
from pipeline.metrics.anovox_metrics import benchmark_metrics
from pipeline.metrics.counts import Metric, ScoreCounts, average_precision_of, bins_of
from pipeline.metrics.frame_truth import FrameTruth, frame_truths
from pipeline.metrics.frame_view import FrameView
from pipeline.metrics.metric import level_of, metrics_of
from pipeline.metrics.miou import SemanticCounts, classes_of
from pipeline.metrics.pixels import pixel_items
from pipeline.metrics.scene_counts import SCENE_BIN, SceneCounts
from pipeline.metrics.slices import category_slices, frame_slices, slice_names
from pipeline.metrics.voxels import VOXEL_SLICES, voxel_items
from pipeline.models.scores import Scores

ABOUT = ("split", "split_hash", "classes", "lookalike_classes", "held_out", "voxel_score")
"""What two tallies must share to be added or compared."""


class SplitCounts:
    """Counts and the table of frames of one model on one split; every row must be seen once."""

    def __init__(
        self,
        *,
        split: str,
        split_hash: str,
        classes: ClassTable,
        lookalike_classes: Sequence[int],
        held_out: Sequence[str] = (),
        voxel_score: VoxelScore | None = None,
    ) -> None:
        self.split, self.split_hash = split, split_hash
        self.classes = classes
        self.lookalike_classes, self.held_out = tuple(lookalike_classes), tuple(held_out)
        self.voxel_score: VoxelScore | None = voxel_score
        """How points are pooled in voxels; None counts no voxels."""
        self._is_near = is_one_of(self.lookalike_classes)
        self._categories = category_slices(classes)
        self._counts: dict[str, ScoreCounts] = {}
        self._scene_counts: dict[str, SceneCounts] = {}
        self._frames: list[dict[str, Any]] = []
        self._rows: set[int] = set()
        self.semantic = SemanticCounts(classes)
        """Of models with a semantic head; without points for others."""

    def truths(self, batch: Batch, index: pd.DataFrame) -> list[FrameTruth]:
        """What `update` finds in the batch before it looks at scores."""
        return frame_truths(
            batch,
            index,
            classes=self.classes,
            is_near=self._is_near,
            held_out=self.held_out,
        )

    def update(
        self,
        scores: Scores,
        batch: Batch,
        index: pd.DataFrame,
        truths: Sequence[FrameTruth] | None = None,
    ) -> None:
        """Count a batch; `index` holds the split's metadata in global row order.

        Scores are raw logits. A NaN score or a row seen before raises ValueError. `truths` are
        those of the batch, where they are known from another tally of the same classes.
        """
        self._note_rows(batch.row.tolist())
        truths = self.truths(batch, index) if truths is None else truths
        frame_score = scores.frame_score.cpu().numpy()
        bins_of(frame_score)
        if scores.semantic is not None:
            answer = scores.semantic.argmax(dim=1).cpu().numpy()
            self.semantic.add(answer, classes_of(batch))
        point_score = None if scores.point_score is None else scores.point_score.cpu().numpy()
        start = 0
        for truth, score in zip(truths, frame_score.tolist(), strict=True):
            record = self._record(truth.view, truth.meta, score)
            if point_score is not None:
                own = point_score[start : start + len(truth.view.points)]
                record |= _point_record(own, truth.places["point"])
                self._count_points(own, truth)
            self._count_frame(record, scene_of(truth.meta))
            self._frames.append(record)
            start += len(truth.view.points)
        scenes = {truth.view.row: scene_of(truth.meta) for truth in truths}
        self._count_grids(point_score, scores.pixel_score, batch, index, scenes)

    def _note_rows(self, rows: Iterable[int]) -> None:
        for row in rows:
            if row in self._rows:
                raise ValueError(f"row {row} of split {self.split} is counted twice; see each once")
            self._rows.add(row)

    def _record(self, view: FrameView, meta: dict[Hashable, Any], score: float) -> dict[str, Any]:
        anomalous = view.point_label == 1
        return {
            "row": view.row,
            "archive": meta["archive"],
            "scene_id": meta["scene_id"],
            "frame_id": int(meta["frame_id"]),
            "kind": meta["kind"],
            "anomaly_category": meta["anomaly_category"],
            "anomaly_distance_m": float(meta["anomaly_distance_m"]),
            "frame_label": view.frame_label,
            "frame_score": score,
            "num_points": len(view.points),
            "num_anomaly_points": int(anomalous.sum()),
            "num_anomaly_points_in_view": int((anomalous & view.in_view).sum()),
        }

    def _count_points(self, scores: Float[np.ndarray, "P"], truth: FrameTruth) -> None:
        bins, scene = bins_of(scores), scene_of(truth.meta)
        coarse = SCENE_BIN[bins]
        for name, places in truth.places.items():
            fine, per_scene = self._slice(name)
            for label, own in enumerate(places):
                fine.add_label(label, bins[own])
                per_scene.add_label(scene, label, coarse[own])

    def _count_frame(self, record: dict[str, Any], scene: str) -> None:
        bins, labels = bins_of(np.array([record["frame_score"]])), np.array([record["frame_label"]])
        for name in frame_slices(record, held_out=self.held_out):
            self._count(name, scene, bins, labels)

    def _count(
        self, name: str, scene: str, bins: Int64[np.ndarray, "N"], labels: Shaped[np.ndarray, "N"]
    ) -> None:
        fine, per_scene = self._slice(name)
        fine.add_bins(bins, labels)
        per_scene.add_bins(scene, bins, labels)

    def _slice(self, name: str) -> tuple[ScoreCounts, SceneCounts]:
        """Its counts; of nothing (which is two megabytes) only where there are none yet."""
        if name not in self._counts:
            self._counts[name], self._scene_counts[name] = ScoreCounts(), SceneCounts()
        return self._counts[name], self._scene_counts[name]

    def _count_grids(
        self,
        point_score: Float[np.ndarray, "P"] | None,
        pixel_score: Tensor | None,
        batch: Batch,
        index: pd.DataFrame,
        scenes: Mapping[int, str],
    ) -> None:
        """Voxels and pixels, where both a score and the truth are there; `scenes` by row."""
        items = []
        if point_score is not None and batch.voxels is not None and self.voxel_score:
            items.append(voxel_items(point_score, batch, index, how=self.voxel_score))
        if pixel_score is not None and batch.pixel_label is not None:
            items.append(pixel_items(pixel_score, batch, index))
        for name, row, score, label in itertools.chain(*items):
            self._count(name, scenes[row], bins_of(score), label)

    def __add__(self, other: "SplitCounts") -> "SplitCounts":
        """Counts of both, e.g. of two ranks; ValueError where a row would count twice."""
        self.demand_same_split(other)
        merged = SplitCounts(**self._about())
        merged._note_rows([*self._rows, *other._rows])
        for name in self._counts | other._counts:
            parts = [tally for tally in (self, other) if name in tally._counts]
            merged._counts[name] = sum((t._counts[name] for t in parts), ScoreCounts())
            merged._scene_counts[name] = sum((t._scene_counts[name] for t in parts), SceneCounts())
        merged._frames = self._frames + other._frames
        merged.semantic = self.semantic + other.semantic
        return merged

    def rescored(self, frame_score: Mapping[int, float]) -> "SplitCounts":
        """The frames alone, each with another score (by row): a control on the same slices."""
        other = SplitCounts(**self._about())
        other._note_rows(self._rows)
        for record in self._frames:
            changed = record | {"frame_score": frame_score[record["row"]]}
            other._count_frame(changed, scene_of(record))
            other._frames.append(changed)
        return other

    def constant(self) -> "SplitCounts":
        """The same items, all with score 0: what a constant predictor reaches on every slice."""
        other = self.rescored(dict.fromkeys(self._rows, 0.0))
        (zero,) = bins_of(np.zeros(1)).tolist()
        for name, counts in self._counts.items():
            array = np.zeros_like(counts.to_array())
            array[:, zero] = counts.to_array().sum(axis=1)
            other._counts[name] = ScoreCounts(array)
            other._scene_counts[name] = self._scene_counts[name].constant(zero)
        return other

    def demand_same_split(self, other: "SplitCounts") -> None:
        """ValueError unless both tallies are of the same split and compare the same classes."""
        for what, ours in self._about().items():
            theirs = getattr(other, what)
            if ours != theirs:
                raise ValueError(
                    f"{what} is {ours} in one tally and {theirs} in the other; compare models that "
                    "were evaluated on the same split with the same "
                    "evaluation.lookalike_classes and evaluation.voxel_score"
                )

    def _about(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ABOUT}

    @property
    def slices(self) -> tuple[str, ...]:
        """Slices that hold any item, in a fixed order; none of points for frame-only models."""
        return tuple(name for name in slice_names(self.classes) if name in self._counts)

    @property
    def scenes(self) -> list[str]:
        """Scenes of the split (`archive/scene_id`), sorted."""
        return sorted({scene_of(frame) for frame in self._frames})

    def counts(self, name: str) -> ScoreCounts:
        """Exact counts of a slice."""
        if name not in self._categories:
            return self._counts[name]
        static, own = self._counts["point_static"].to_array(), self._counts[name].to_array()
        return ScoreCounts(np.stack([static[0], own[1]]))

    def scene_counts(self, name: str) -> Int64[np.ndarray, "S 2 bins"]:
        """Coarse counts of a slice per scene, in the order of `scenes`."""
        array = self._scene_counts[name].to_array(self.scenes)
        if name in self._categories:
            array[:, 0] = self._scene_counts["point_static"].to_array(self.scenes)[:, 0]
        return array

    def readings(self) -> dict[str, Metric]:
        """`point_ap`, `point_auroc`, `point_fpr95`, `small_object_ap`, ... with their bounds."""
        return {
            f"{name}_{metric.name}": self.counts(name).metric(metric.name)
            for name in self.slices
            for metric in metrics_of(level_of(name))
        }

    def benchmark(self) -> dict[str, float]:
        """`voxel_specificity`, `voxel_f1`, ...: AnoVox's own metrics of the slices of voxels."""
        return {
            f"{name}_{metric}": value
            for name in self.slices
            if name in VOXEL_SLICES
            for metric, value in benchmark_metrics(self.counts(name)).items()
        }

    def metrics(self, prefix: str) -> dict[str, float]:
        """`prefix/point_ap` and its kin, and each slice's prevalence: a constant predictor's AP.

        Undefined metrics are left out; `undefined` says why.
        """
        found = {f"{prefix}/{n}_prevalence": self.counts(n).prevalence for n in self.slices}
        found |= {f"{prefix}/{name}": metric.value for name, metric in self.readings().items()}
        found |= {f"{prefix}/{name}": value for name, value in self.benchmark().items()}
        found |= {f"{prefix}/{name}": value for name, value in self.semantic.readings().items()}
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def undefined(self, prefix: str) -> dict[str, str]:
        """Reasons of the metrics that cannot be computed, by name."""
        readings = self.readings().items()
        return {f"{prefix}/{name}": metric.reason for name, metric in readings if metric.reason}

    def frames(self) -> pd.DataFrame:
        """One line per frame, by row: its key, label, score, anomalous points, AP within it."""
        return pd.DataFrame(self._frames).sort_values("row", ignore_index=True)

    def to_file(self, path: Path) -> None:
        """Write everything to an .npz, so that runs can be compared later."""
        about = self._about() | dataclasses.asdict(self.classes)
        arrays = {"about": np.array(json.dumps(about)), "scenes": np.array(self.scenes)}
        arrays |= _sparse("semantic", self.semantic.to_array())
        for name in self._counts:
            arrays |= _sparse(f"counts/{name}", self._counts[name].to_array())
            per_scene = self._scene_counts[name].to_array(self.scenes)
            arrays |= _sparse(f"scene_counts/{name}", per_scene)
        for column, values in self.frames().items():
            arrays[f"frames/{column}"] = np.array(values.tolist())
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def from_file(cls, path: Path) -> "SplitCounts":
        """Inverse of `to_file`."""
        if not path.is_file():
            raise ValueError(f"{path} does not exist; evaluate that run first (jobs.evaluate)")
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file.items())
        tally = cls(**_about_of(str(arrays["about"])))
        scenes = arrays["scenes"].tolist()
        for name in _names(arrays, "counts"):
            tally._counts[name] = ScoreCounts(_dense(f"counts/{name}", arrays))
            per_scene = _dense(f"scene_counts/{name}", arrays)
            tally._scene_counts[name] = SceneCounts.from_array(scenes, per_scene)
        tally.semantic = SemanticCounts(tally.classes, _dense("semantic", arrays))
        table = {column: arrays[f"frames/{column}"].tolist() for column in _names(arrays, "frames")}
        tally._frames = pd.DataFrame(table).to_dict("records")
        tally._note_rows(table["row"])
        return tally


def _about_of(text: str) -> dict[str, Any]:
    """What a file says it is about; of before there was another data set, none has a table."""
    about = json.loads(text)
    listed = about.pop("classes", None)
    return about | {"classes": class_table(listed) if listed else recorded_facts(None).classes}


def scene_of(meta: Mapping[Any, Any]) -> str:
    """`archive/scene_id` of a line of metadata."""
    return f"{meta['archive']}/{meta['scene_id']}"


def _point_record(
    scores: Float[np.ndarray, "P"],
    places: tuple[Int64[np.ndarray, "N"], Int64[np.ndarray, "M"]],
) -> dict[str, float]:
    """What the table of frames tells of the scores of a frame's normal and anomalous points."""
    normal, anomalous = (scores[own] for own in places)
    greatest = float(anomalous.max(initial=-math.inf))
    return {
        "max_point_score": max(greatest, float(normal.max(initial=-math.inf))),
        "max_anomaly_score": greatest,
        "point_ap": average_precision_of(normal, anomalous),
    }


def _sparse(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """An array of counts as the places and values that are not zero."""
    places = np.flatnonzero(array)
    shape = np.array(array.shape)
    return {f"{name}/shape": shape, f"{name}/at": places, f"{name}/count": array.flat[places]}


def _dense(name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    array = np.zeros(arrays[f"{name}/shape"], np.int64)
    array.flat[arrays[f"{name}/at"]] = arrays[f"{name}/count"]
    return array


def _names(arrays: dict[str, np.ndarray], group: str) -> list[str]:
    """Second parts of the keys `group/NAME...`, in order."""
    return list(dict.fromkeys(key.split("/")[1] for key in arrays if key.startswith(f"{group}/")))
