"""Intersection over union of the normal classes, exact over ranks: a confusion matrix that adds up.

Points without a class (anomalous, ignored) are left out of it.
"""

import math

import numpy as np
from jaxtyping import Float, Int64

from pipeline.data.batch import Batch
from pipeline.datasets.protocol.classes import NO_CLASS, ClassTable
from pipeline.metrics.metric import SEMANTIC, metrics_of


def classes_of(batch: Batch) -> Int64[np.ndarray, "P"]:
    """True class of every point of a batch, `NO_CLASS` of points that no class describes."""
    return batch.known_classes.semantic_class(
        batch.point_class.cpu().numpy(), batch.point_label.cpu().numpy()
    )


class SemanticCounts:
    """Points by true class (row) and answered class (column)."""

    def __init__(self, classes: ClassTable, counts: Int64[np.ndarray, "K K"] | None = None) -> None:
        self.classes = classes
        shape = (len(classes.semantic_names), len(classes.semantic_names))
        self._counts = np.zeros(shape, np.int64) if counts is None else counts

    def add(self, answer: Int64[np.ndarray, "P"], truth: Int64[np.ndarray, "P"]) -> None:
        """Count points; `truth` may be `NO_CLASS`."""
        known = truth != NO_CLASS
        places = truth[known] * len(self._counts) + answer[known]
        found = np.bincount(places, minlength=self._counts.size)
        self._counts += found.reshape(self._counts.shape)

    def __add__(self, other: "SemanticCounts") -> "SemanticCounts":
        return SemanticCounts(self.classes, self._counts + other._counts)

    def to_array(self) -> Int64[np.ndarray, "K K"]:
        """The counts themselves, so that ranks can add them up."""
        return self._counts

    @property
    def class_counts(self) -> Int64[np.ndarray, "K"]:
        """Points of each true class."""
        return self._counts.sum(axis=1)

    def iou(self) -> Float[np.ndarray, "K"]:
        """TP / (TP + FP + FN) of each class; nan for classes that no point belongs to.

        What is answered for an absent class counts against the classes it was taken from.
        """
        own = np.diag(self._counts)
        union = self.class_counts + self._counts.sum(axis=0) - own
        return np.where(self.class_counts > 0, own / np.maximum(union, 1), math.nan)

    def miou(self) -> float:
        """Mean IoU over the classes that occur; nan without points."""
        return float(np.nanmean(self.iou())) if self._counts.any() else math.nan

    def constant_miou(self) -> float:
        """mIoU of always answering the commonest class; nan without points."""
        counts = self.class_counts
        if not counts.any():
            return math.nan
        return float(counts.max() / counts.sum() / (counts > 0).sum())

    def constants(self) -> dict[str, float]:
        """`semantic_miou` of always answering the commonest class."""
        return {f"{SEMANTIC}_{one.name}": one.constant(self) for one in metrics_of(SEMANTIC)}

    def readings(self) -> dict[str, float]:
        """`semantic_miou` and `semantic_iou_NAME` of the classes that occur; {} without points."""
        if not self._counts.any():
            return {}
        iou = zip(self.classes.semantic_names, self.iou().tolist(), strict=True)
        found = {f"semantic_iou_{name}": value for name, value in iou}
        found = {name: value for name, value in found.items() if not math.isnan(value)}
        return {f"{SEMANTIC}_{one.name}": one.values(self) for one in metrics_of(SEMANTIC)} | found
