"""Curves and histogram of every level that a model scores, the baseline's beside its own."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.metrics.counts import MAX_LOGIT, ScoreCounts
from pipeline.metrics.tally import SplitCounts
from pipeline.visualization.plots import RankingCurve, precision_recall, roc, score_histogram
from pipeline.visualization.style import save_figure
from pipeline.visualization.tables import Row

_LEVELS = ("point", "voxel", "pixel", "frame")


def draw_levels(
    tally: SplitCounts,
    baseline: SplitCounts,
    rows: Sequence[Row],
    folder: Path,
    *,
    name: str,
    plain: str,
    thresholds: Mapping[str, float],
    note: str,
) -> list[Path]:
    """Precision-recall, ROC and scores of each level with both classes; the paths of the figures.

    `rows` hold the metrics with their intervals, `thresholds` logits by level; `name` and `plain`
    are what the model and the baseline are called.
    """
    values, paths = {row.metric: row for row in rows}, []
    for level in _LEVELS:
        if level not in tally.slices or tally.counts(level).undefined:
            continue
        # The baseline scores points, so it has no pixels.
        shown = {name: tally} | ({plain: baseline} if level in baseline.slices else {})
        counts = {who: each.counts(level) for who, each in shown.items()}
        ap, auroc = (values[f"test/{level}_{metric}"] for metric in ("ap", "auroc"))
        paths += [
            _precision_recall(counts, folder, level=level, row=ap, note=note),
            _roc(counts, folder, level=level, row=auroc, note=note),
            _scores(tally, folder, level=level, threshold=thresholds.get(level), note=note),
        ]
    return paths


def _precision_recall(
    counts: Mapping[str, ScoreCounts], folder: Path, *, level: str, row: Row, note: str
) -> Path:
    """`counts` by name, the model's first; `row` holds its area."""
    own, *others = counts.items()
    figure = precision_recall(
        [
            _curve(own[0], own[1].precision_recall(), row),
            *(_bare(n, c.precision_recall(), c.metric("ap").value) for n, c in others),
        ],
        split="test",
        level=level,
        num_positive=own[1].num_pos,
        prevalence=own[1].prevalence,
        note=note,
    )
    return save_figure(figure, folder / f"{level}_precision_recall.png")


def _roc(
    counts: Mapping[str, ScoreCounts], folder: Path, *, level: str, row: Row, note: str
) -> Path:
    own, *others = counts.items()
    figure = roc(
        [
            _curve(own[0], own[1].roc(), row),
            *(_bare(name, each.roc(), each.metric("auroc").value) for name, each in others),
        ],
        split="test",
        level=level,
        num_positive=own[1].num_pos,
        num_negative=own[1].num_neg,
        note=note,
    )
    return save_figure(figure, folder / f"{level}_roc.png")


def _scores(
    tally: SplitCounts, folder: Path, *, level: str, threshold: float | None, note: str
) -> Path:
    figure = score_histogram(
        tally.counts(level).to_array(),
        low=-MAX_LOGIT,
        high=MAX_LOGIT,
        split="test",
        level=level,
        threshold=threshold,
        note=note,
    )
    return save_figure(figure, folder / f"{level}_scores.png")


def _curve(name: str, xy: tuple, row: Row) -> RankingCurve:
    return RankingCurve(name=name, x=xy[0], y=xy[1], area=row.value, low=row.low, high=row.high)


def _bare(name: str, xy: tuple, area: float) -> RankingCurve:
    return RankingCurve(name=name, x=xy[0], y=xy[1], area=area, low=math.nan, high=math.nan)
