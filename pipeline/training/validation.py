"""Exact validation metrics over all ranks: counts and loss sums are added, never averaged."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pipeline.config import Config
from pipeline.data.batches import Batch, BlockReader
from pipeline.evaluation.metrics import ScoreCounts
from pipeline.losses import Term, loss_terms
from pipeline.models.pixels import upsampled
from pipeline.models.scores import Scores
from pipeline.training.worker import Worker

LEVELS = ("point", "frame", "pixel")


@torch.no_grad()
def validate(
    model: nn.Module,
    reader: BlockReader,
    worker: Worker,
    *,
    config: Config,
    pos_weight: float,
    pixel_pos_weight: float | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics (`val/point_ap`, ...) and best-F1 thresholds by level; every row is seen once.

    Every rank must call it; all get the same numbers. The model is left in evaluation mode.
    """
    model.eval()
    counts = {level: ScoreCounts() for level in LEVELS}
    losses = torch.zeros(len(LEVELS), 2, dtype=torch.float64)
    for batch in _batches(reader, worker, batch_size=config.evaluation.batch_size):
        with worker.autocast(config.train.precision):
            scores = model(batch)
        batch = batch.without_past()
        for level, found in _by_level(scores, batch):
            labels = getattr(batch, f"{level}_label").flatten().cpu().numpy()
            counts[level].add(found.float().flatten().cpu().numpy(), labels)
        terms = loss_terms(
            scores,
            batch,
            config=config.loss,
            pos_weight=pos_weight,
            pixel_pos_weight=pixel_pos_weight,
        )
        losses += _loss_sums(terms)
    return _metrics_over_ranks(counts, losses, worker)


def _batches(reader: BlockReader, worker: Worker, *, batch_size: int) -> Iterator[Batch]:
    rows = range(worker.rank, reader.num_rows, worker.num_workers)
    for start in range(0, len(rows), batch_size):
        chosen = list(rows[start : start + batch_size])
        yield reader.batch(chosen, augment_seed=None).to(worker.device)


def _by_level(scores: Scores, batch: Batch) -> list[tuple[str, Tensor]]:
    """Scores of the same shape as the batch's labels of that level."""
    pixels = scores.pixel_score
    if pixels is not None:
        pixels = upsampled(pixels.float(), size=(batch.image.shape[2], batch.image.shape[3]))
    found = [("point", scores.point_score), ("frame", scores.frame_score), ("pixel", pixels)]
    return [(level, score) for level, score in found if score is not None]


def _loss_sums(terms: dict[str, Term]) -> Tensor:
    """Total and count of each level's loss term; zero where there is no such term."""
    sums = torch.zeros(len(LEVELS), 2, dtype=torch.float64)
    for place, level in enumerate(LEVELS):
        if level in terms:
            sums[place] = torch.stack([terms[level].total, terms[level].count]).cpu()
    return sums


def _metrics_over_ranks(
    counts: dict[str, ScoreCounts], losses: Tensor, worker: Worker
) -> tuple[dict[str, float], dict[str, float]]:
    metrics: dict[str, float] = {}
    thresholds: dict[str, float] = {}
    losses = worker.sum(losses.to(worker.device)).cpu()
    for place, level in enumerate(LEVELS):
        summed = worker.sum(torch.from_numpy(counts[level].to_array()).to(worker.device))
        whole = ScoreCounts.from_array(summed.cpu().numpy())
        if not whole.undefined:
            metrics |= _level_metrics(level, whole)
            thresholds[level] = whole.best_f1_threshold()
        if losses[place, 1]:
            metrics[f"val/{level}_loss"] = float(losses[place, 0] / losses[place, 1])
    return metrics, thresholds


def _level_metrics(level: str, counts: ScoreCounts) -> dict[str, float]:
    """With the prevalence beside them: what a constant predictor's AP equals."""
    return {
        f"val/{level}_ap": counts.average_precision().value,
        f"val/{level}_auroc": counts.auroc().value,
        f"val/{level}_fpr95": counts.fpr95().value,
        f"val/{level}_prevalence": counts.prevalence,
    }
