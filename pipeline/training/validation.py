"""Exact validation metrics over all ranks: counts and loss sums are added, never averaged."""

import contextlib
import functools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pipeline.config.schema import Config
from pipeline.data.batch import Batch
from pipeline.data.block_reader import BlockReader
from pipeline.losses.anomaly import entropy_of, loss_terms
from pipeline.losses.reduction import Term
from pipeline.metrics.counts import ScoreCounts
from pipeline.metrics.metric import metrics_of
from pipeline.metrics.miou import SemanticCounts, classes_of
from pipeline.models.pixels import upsampled
from pipeline.models.precision import Precision, autocast
from pipeline.models.scores import Scores
from pipeline.training.checkpoint_selection import sees_anomalies
from pipeline.training.data_loop import BatchesAhead
from pipeline.training.worker import Worker

_LEVELS = ("point", "frame", "pixel")
LOSSES = (*_LEVELS, "semantic")
"""Terms that are summed over the whole split."""
NORMAL_SPECIFICITY = 0.99
"""Share of normal items below the threshold where model choice sees normal points only."""


@torch.no_grad()
def validate(
    model: nn.Module,
    reader: BlockReader,
    worker: Worker,
    *,
    config: Config,
    precision: Precision,
    pos_weight: float,
    pixel_pos_weight: float | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics (`val/point_ap`, ...) and thresholds by level; every row is seen once.

    Thresholds are those of the best F1, or, where model choice may see normal points only, pass
    `NORMAL_SPECIFICITY` of the normal items.
    Every rank must call it; all get the same numbers. The model is left in evaluation mode.
    """
    model.eval()
    counts = {level: ScoreCounts() for level in _LEVELS}
    losses = torch.zeros(len(LOSSES), 2, dtype=torch.float64)
    semantic = SemanticCounts(reader.manifest.dataset.classes)
    for batch in _batches(reader, worker, config):
        with autocast(precision, worker.device):
            scores = model(batch)
        batch = batch.without_past()
        for level, found in _by_level(scores, batch):
            labels = getattr(batch, f"{level}_label").flatten().cpu().numpy()
            counts[level].add(found.float().flatten().cpu().numpy(), labels)
        if scores.semantic is not None:
            semantic.add(scores.semantic.argmax(dim=1).cpu().numpy(), classes_of(batch))
        terms = loss_terms(
            scores,
            batch,
            config=config.loss,
            pos_weight=pos_weight,
            pixel_pos_weight=pixel_pos_weight,
            score=config.model.score,
        )
        losses += _loss_sums(terms)
    metrics, thresholds = _metrics_over_ranks(
        counts, losses, worker, with_anomalies=sees_anomalies(config)
    )
    return metrics | _semantic_metrics(semantic, worker), thresholds


def _batches(reader: BlockReader, worker: Worker, config: Config) -> Iterator[Batch]:
    rows = range(worker.rank, reader.num_rows, worker.num_workers)
    size = config.evaluation.batch_size
    calls = (
        functools.partial(reader.batch, rows[start : start + size], augment_seed=None)
        for start in range(0, len(rows), size)
    )
    with contextlib.closing(BatchesAhead(config, worker)) as ahead:
        yield from ahead.batches(calls)


def _by_level(scores: Scores, batch: Batch) -> list[tuple[str, Tensor]]:
    """Scores of the same shape as the batch's labels of that level."""
    pixels = scores.pixel_score
    if pixels is not None:
        pixels = upsampled(pixels.float(), size=(batch.image.shape[2], batch.image.shape[3]))
    found = [("point", scores.point_score), ("frame", scores.frame_score), ("pixel", pixels)]
    return [(level, score) for level, score in found if score is not None]


def _loss_sums(terms: dict[str, Term]) -> Tensor:
    """Total and count of each loss term; zero where there is no such term."""
    sums = torch.zeros(len(LOSSES), 2, dtype=torch.float64)
    for place, level in enumerate(LOSSES):
        if level in terms:
            sums[place] = torch.stack([terms[level].total, terms[level].count]).cpu()
    return sums


def _metrics_over_ranks(
    counts: dict[str, ScoreCounts], losses: Tensor, worker: Worker, *, with_anomalies: bool
) -> tuple[dict[str, float], dict[str, float]]:
    metrics: dict[str, float] = {}
    thresholds: dict[str, float] = {}
    losses = worker.sum(losses.to(worker.device)).cpu()
    for level in _LEVELS:
        summed = worker.sum(torch.from_numpy(counts[level].to_array()).to(worker.device))
        whole = ScoreCounts.from_array(summed.cpu().numpy())
        if not whole.undefined:
            metrics |= _level_metrics(level, whole)
            thresholds[level] = (
                whole.best_f1_threshold()
                if with_anomalies
                else whole.normal_threshold(NORMAL_SPECIFICITY)
            )
    for name, (total, count) in zip(LOSSES, losses.tolist(), strict=True):
        if count:
            metrics[f"val/{name}_loss"] = total / count
    return metrics, thresholds


def _semantic_metrics(counts: SemanticCounts, worker: Worker) -> dict[str, float]:
    """mIoU, IoU per class and what the class frequencies alone would reach; {} without points."""
    summed = worker.sum(torch.from_numpy(counts.to_array()).to(worker.device))
    whole = SemanticCounts(counts.classes, summed.cpu().numpy())
    found = {f"val/{name}": value for name, value in whole.readings().items()}
    if found:
        for name, value in whole.constants().items():
            found[f"val/{name.replace('semantic_', 'semantic_constant_')}"] = value
        found["val/semantic_constant_loss"] = entropy_of(whole.class_counts.tolist())
    return found


def _level_metrics(level: str, counts: ScoreCounts) -> dict[str, float]:
    """With the prevalence beside them: what a constant predictor's AP equals."""
    names = [one.name for one in metrics_of(level)]
    found = {f"val/{level}_{name}": counts.metric(name).value for name in names}
    return found | {f"val/{level}_prevalence": counts.prevalence}
