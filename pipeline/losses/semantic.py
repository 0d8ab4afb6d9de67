"""Losses of the semantic head: cross-entropy, Lovasz-softmax, outlier exposure.

Points of synthetic outliers, anomalies and ignored points have no class and take no part in the
first two.
"""

import functools
import math

import torch
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from pipeline.data.batch import Batch
from pipeline.datasets.protocol.classes import NO_CLASS, NORMAL_LABEL, ClassTable
from pipeline.losses.reduction import Term
from pipeline.models.scores import ScoreName


def targets(batch: Batch) -> Int64[Tensor, "P"]:
    """Class of every point labelled normal, `NO_CLASS` of all others (as `semantic_class`)."""
    known = _class_of_id(batch.known_classes, batch.point_class.device).index_select(
        0, batch.point_class.int()
    )
    return torch.where(batch.point_label == NORMAL_LABEL, known, NO_CLASS)


def class_counts(batch: Batch) -> Float64[Tensor, "classes"]:
    """Points labelled normal of each class."""
    place = targets(batch) - NO_CLASS
    num_classes = len(batch.known_classes.semantic_names)
    counts = torch.zeros(num_classes + 1, dtype=torch.float64, device=place.device)
    return counts.scatter_add_(0, place, torch.ones_like(place, dtype=torch.float64))[1:]


@functools.cache
def _class_of_id(classes: ClassTable, device: torch.device) -> Int64[Tensor, "ids"]:
    return torch.from_numpy(classes.semantic_of_id).to(device)


def cross_entropy(
    logits: Float32[Tensor, "P classes"], target: Int64[Tensor, "P"], *, weight: float
) -> Term:
    """-log softmax at the target, summed; count = points that have a class."""
    total = F.cross_entropy(logits, target, ignore_index=NO_CLASS, reduction="sum")
    return Term(total=total, count=(target != NO_CLASS).sum().to(logits.dtype), weight=weight)


def lovasz(
    logits: Float32[Tensor, "P classes"],
    target: Int64[Tensor, "P"],
    counts: list[int],
    *,
    weight: float,
) -> Term:
    """Lovasz-softmax (arXiv 1705.08790, eq. 9 and 11), mean over the classes present in a frame.

    The Jaccard loss is one of a set of points, not a sum over them. The set is a frame's points
    (`counts` of each frame): a frame is never divided between ranks, so the sum over frames adds
    up over ranks, and two ranks equal one. Count = frames with at least one point of known class.
    """
    known = target != NO_CLASS
    losses = [
        _lovasz_of_frame(frame[mask].softmax(1), own[mask])
        for frame, own, mask in zip(
            logits.split(counts), target.split(counts), known.split(counts), strict=True
        )
        if mask.any()
    ]
    total = torch.stack([logits.sum() * 0, *losses]).sum()
    return Term(total=total, count=logits.new_full((), len(losses)), weight=weight)


def _lovasz_of_frame(
    probability: Float32[Tensor, "N classes"], target: Int64[Tensor, "N"]
) -> Float32[Tensor, ""]:
    present = target.unique()
    is_own = target[:, None] == present
    errors = (is_own.float() - probability.index_select(1, present)).abs()
    errors, order = errors.sort(dim=0, descending=True)
    return (errors * jaccard_steps(is_own.gather(0, order))).sum(0).mean()


def jaccard_steps(is_own: Bool[Tensor, "N K"]) -> Float32[Tensor, "N K"]:
    """By how much the Jaccard loss rises when the points, from the first on, are got wrong.

    `is_own` says which points belong to the class of each column.
    """
    own = is_own.float()
    num_own = own.sum(0)
    intersection = num_own - own.cumsum(0)
    union = num_own + (1 - own).cumsum(0)
    loss = 1 - intersection / union
    return torch.diff(loss, dim=0, prepend=torch.zeros_like(loss[:1]))


def outlier(
    score: Float32[Tensor, "N"],
    is_outlier: Bool[Tensor, "N"],
    *,
    how: ScoreName,
    num_classes: int,
    weight: float,
) -> Term:
    """Pushes the scores of outliers up; count = outliers (outlier exposure, arXiv 1812.04606).

    softplus(-s) for `supervised`, `max_logit` and `energy`: for `energy`, with `known`, that is the
    cross-entropy of a softmax with one more class whose logit is fixed at 0. For `entropy`, which
    ends at log(classes), it is what is missing to it: log(classes) - s (arXiv 2505.16985, eq. 7).
    """
    score, own = torch.where(is_outlier, score, 0.0), is_outlier.to(score.dtype)
    missing = math.log(num_classes) - score if how == "entropy" else F.softplus(-score)
    return Term(total=(missing * own).sum(), count=own.sum(), weight=weight)


def known(score: Float32[Tensor, "P"], label: UInt8[Tensor, "P"], *, weight: float) -> Term:
    """softplus(s) of normal points, the other side of `outlier`; count = normal points.

    Each side is divided by its own count, so that few outliers weigh as much as all the road.
    """
    is_normal = label == NORMAL_LABEL
    pushed = F.softplus(torch.where(is_normal, score, 0.0)) * is_normal
    return Term(total=pushed.sum(), count=is_normal.sum().to(score.dtype), weight=weight)
