"""Curves and bars of a training and of an evaluation, from plain arrays.

A title says what the figure shows in words and numbers, and what a worthless model would reach
(constant predictor, prevalence) is drawn beside every result.
"""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from pipeline.visualization.style import (
    ANOMALOUS,
    BLACK,
    BLUE,
    GREY,
    NORMAL,
    SMALL_PT,
    TEXT_PT,
    VERMILION,
    colours,
    dress,
    logit,
    new_figure,
    set_title,
)

NUM_SCORE_BINS = 80
SMOOTH_FROM = 40
"""Train losses from which their running median is drawn over them."""
LOG_FROM_RATIO = 30.0
"""Losses that span more than this factor are drawn on a logarithmic axis."""
AXIS_PROBABILITIES = (1e-9, 1e-6, 1e-3, 0.03, 0.5, 0.97, 1 - 1e-3, 1 - 1e-6, 1 - 1e-9)


@dataclass(frozen=True, kw_only=True)
class RankingCurve:
    """One model's precision-recall or ROC curve with its area and 95 % interval (nan = none)."""

    name: str
    x: Num[np.ndarray, "N"]
    y: Num[np.ndarray, "N"]
    area: float
    low: float
    high: float


def loss_curve(
    steps: Num[np.ndarray, "N"],
    losses: Num[np.ndarray, "N"],
    *,
    val_steps: Num[np.ndarray, "M"],
    val_losses: Num[np.ndarray, "M"],
    constant_loss: float | None,
    note: str = "",
) -> Figure:
    """Train loss per step with its running median, validation loss, best constant predictor's loss.

    `constant_loss` is None for a loss without such a bound; validation arrays may be empty.
    """
    figure = new_figure(7.0, 4.2, note=note)
    axes = figure.subplots()
    if len(losses) >= SMOOTH_FROM:
        axes.plot(steps, losses, color=BLUE, alpha=0.3, linewidth=0.8)
    smooth = running_median(losses) if len(losses) >= SMOOTH_FROM else losses
    axes.plot(steps, smooth, color=BLUE, linewidth=1.8, label="train")
    if len(val_losses):
        axes.plot(val_steps, val_losses, "o-", color=VERMILION, markersize=4, label="validation")
    if constant_loss is not None:
        axes.axhline(
            constant_loss, color=BLACK, linestyle="--", linewidth=1.2, label="best constant"
        )
    _log_if_wide(axes, [losses, val_losses])
    set_title(axes, _loss_title(losses, constant_loss))
    dress(axes, x_label="optimizer step", y_label="loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.legend(fontsize=SMALL_PT)
    return figure


def running_median(values: Num[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Median over a centred window of a twentieth of the curve; non-finite values are left out."""
    half = max(1, len(values) // 40)
    finite = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    padded = np.pad(finite, half, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    empty = np.isnan(windows).all(axis=1)
    medians = np.full(len(values), np.nan)
    medians[~empty] = np.nanmedian(windows[~empty], axis=1)
    return medians


def _loss_title(losses: np.ndarray, constant_loss: float | None) -> str:
    finite = losses[np.isfinite(losses)]
    if len(finite) == 0:
        return "Loss: no finite value"
    end = float(np.median(finite[-max(1, len(finite) // 10) :]))
    title = f"Loss: {end:.3g} at the end"
    if constant_loss is None:
        title += f", {finite[0]:.3g} at the start"
    elif constant_loss > 0:
        share = 1 - end / constant_loss
        side = "below" if share >= 0 else "above"
        title += f", {100 * abs(share):.0f} % {side} the best constant predictor"
    num_bad = len(losses) - len(finite)
    return f"{title}; non-finite steps left out: {num_bad:,}" if num_bad else title


def _log_if_wide(axes: Axes, curves: Sequence[np.ndarray]) -> None:
    values = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    if len(values) and values.min() > 0 and values.max() / values.min() > LOG_FROM_RATIO:
        axes.set_yscale("log")


def validation_curves(
    epochs: Num[np.ndarray, "N"],
    metrics: Mapping[str, Num[np.ndarray, "N"]],
    *,
    chosen_by: str,
    constants: Mapping[str, float],
    lower_is_better: bool = False,
    note: str = "",
) -> Figure:
    """Validation metrics over epochs; the epoch with the best `chosen_by` is ringed.

    `constants` holds what a constant predictor reaches in some of the metrics. A metric that is
    nan throughout (point metrics of a model that scores frames only) is left out.
    """
    figure = new_figure(7.0, 4.2, note=note)
    axes = figure.subplots()
    for colour, (name, values) in zip(colours(len(metrics)), metrics.items(), strict=True):
        if not np.isfinite(values).any():
            continue
        axes.plot(epochs, values, "o-", color=colour, markersize=4, label=name)
        if name in constants:
            label = f"{name}, constant predictor: {constants[name]:.2g}"
            axes.axhline(constants[name], color=colour, linestyle=":", linewidth=1.2, label=label)
    best_at = np.nanargmin if lower_is_better else np.nanargmax
    set_title(axes, _mark_best(axes, epochs, metrics[chosen_by], name=chosen_by, best_at=best_at))
    dress(axes, x_label="epoch", y_label="metric on the validation split")
    axes.set_ylim(-0.02, 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.lines:
        figure.legend(loc="outside lower center", ncols=3, fontsize=SMALL_PT, frameon=False)
    return figure


def _mark_best(
    axes: Axes,
    epochs: np.ndarray,
    values: np.ndarray,
    *,
    name: str,
    best_at: Callable[[np.ndarray], np.intp],
) -> str:
    if not np.isfinite(values).any():
        return f"Validation: {name} is undefined in every epoch"
    best = int(best_at(values))
    axes.plot(epochs[best], values[best], "o", markersize=12, mfc="none", mec=BLACK, mew=1.5)
    return f"Validation: best {name} {values[best]:.3f} after epoch {epochs[best]:g}"


def score_histogram(
    counts: Int[np.ndarray, "2 bins"],
    *,
    low: float,
    high: float,
    split: str,
    level: str,
    threshold: float | None,
    note: str = "",
) -> Figure:
    """How scores of normal (row 0) and anomalous (row 1) items are spread; counts on a log axis.

    `counts` lies over even bins of logits from `low` to `high`; only the occupied part is drawn.
    `threshold` is a logit, None for none.
    """
    figure = new_figure(7.0, 4.2, note=note)
    axes = figure.subplots()
    edges, coarse = _rebinned(counts, low=low, high=high)
    for row, (name, colour) in enumerate((("normal", NORMAL), ("anomalous", ANOMALOUS))):
        axes.stairs(
            coarse[row], edges, fill=True, baseline=0.5, color=colour, alpha=0.55, label=name
        )
        axes.stairs(coarse[row], edges, baseline=0.5, color=colour, linewidth=1.2)
    if threshold is not None:
        label = f"threshold {threshold:.2f}"
        axes.axvline(threshold, color=BLACK, linestyle="--", linewidth=1.2, label=label)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.5)
    neg, pos = counts.sum(axis=1)
    dress(axes, x_label="score (logit)", y_label=f"{level}s per bin")
    _probability_axis(axes, edges)
    set_title(axes, f"{split.capitalize()} scores of {neg:,} normal and {pos:,} anomalous {level}s")
    axes.legend(fontsize=SMALL_PT)
    return figure


def _rebinned(counts: np.ndarray, *, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Edges and counts of about NUM_SCORE_BINS even bins over the occupied part."""
    edges = np.linspace(low, high, counts.shape[1] + 1)
    occupied = np.flatnonzero(counts.any(axis=0))
    if len(occupied) == 0:
        return edges[[0, -1]], np.zeros((2, 1))
    first, last = int(occupied[0]), int(occupied[-1]) + 1
    starts = np.arange(first, last, max(1, math.ceil((last - first) / NUM_SCORE_BINS)))
    coarse = np.add.reduceat(counts[:, :last], starts, axis=1)
    return np.append(edges[starts], edges[last]), coarse


def _probability_axis(axes: Axes, edges: np.ndarray) -> None:
    """The same scores as probabilities, along the top."""
    top = axes.twiny()
    left, right = axes.get_xlim()
    top.set_xlim(left, right)
    shown = [p for p in AXIS_PROBABILITIES if left <= logit(p) <= right]
    top.set_xticks([logit(p) for p in shown], labels=[_probability_text(p) for p in shown])
    top.tick_params(labelsize=SMALL_PT, colors=GREY)
    top.set_xlabel("as a probability", fontsize=SMALL_PT, color=GREY)
    top.spines[["right", "left"]].set_visible(False)
    top.spines["top"].set_color(GREY)


def _probability_text(p: float) -> str:
    return f"{p:g}" if p < 0.9999 else f"1 - {1 - p:.1g}"


def precision_recall(
    curves: Sequence[RankingCurve],
    *,
    split: str,
    level: str,
    num_positive: int,
    prevalence: float,
    note: str = "",
) -> Figure:
    """Precision (y) over recall (x) of one or more models, with the prevalence as the floor.

    x ascends; precision holds back to the recall before, as average precision is defined.
    """
    figure = new_figure(6.4, 5.0, note=note)
    axes = figure.subplots()
    for colour, curve in zip(colours(len(curves)), curves, strict=True):
        label = f"{curve.name}: AP {_area(curve)}"
        x, y = np.append(0.0, curve.x), np.append(curve.y[:1], curve.y)
        axes.plot(x, y, color=colour, drawstyle="steps-pre", linewidth=1.6, label=label)
    label = f"constant predictor: {prevalence:.2g}"
    axes.axhline(prevalence, color=BLACK, linestyle="--", linewidth=1.2, label=label)
    _unit_square(axes)
    dress(axes, x_label="recall", y_label="precision")
    title = (
        f"{split.capitalize()} precision-recall: {num_positive:,} anomalous {level}s, prevalence"
    )
    set_title(axes, f"{title} {_percent(prevalence)}")
    axes.legend(fontsize=SMALL_PT, loc="best")
    return figure


def roc(
    curves: Sequence[RankingCurve],
    *,
    split: str,
    level: str,
    num_positive: int,
    num_negative: int,
    note: str = "",
) -> Figure:
    """True positive rate (y) over false positive rate (x), with chance as the diagonal."""
    figure = new_figure(6.4, 5.0, note=note)
    axes = figure.subplots()
    for colour, curve in zip(colours(len(curves)), curves, strict=True):
        label = f"{curve.name}: AUROC {_area(curve)}"
        axes.plot(curve.x, curve.y, color=colour, linewidth=1.6, label=label)
    axes.plot([0, 1], [0, 1], color=BLACK, linestyle="--", linewidth=1.2, label="chance: 0.5")
    _unit_square(axes)
    dress(axes, x_label="false positive rate", y_label="true positive rate")
    counts = f"{num_positive:,} anomalous and {num_negative:,} normal {level}s"
    set_title(axes, f"{split.capitalize()} ROC: {counts}")
    axes.legend(fontsize=SMALL_PT, loc="lower right")
    return figure


def _unit_square(axes: Axes) -> None:
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)


def _area(curve: RankingCurve) -> str:
    if math.isnan(curve.area):
        return "undefined"
    interval = "" if math.isnan(curve.low) else f" [{curve.low:.3f}, {curve.high:.3f}]"
    return f"{curve.area:.3f}{interval}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def comparison(
    models: Sequence[str],
    metrics: Sequence[str],
    values: Float[np.ndarray, "M K"],
    *,
    low: Float[np.ndarray, "M K"],
    high: Float[np.ndarray, "M K"],
    whiskers: str,
    constants: Float[np.ndarray, "K"],
    title: str,
    note: str = "",
) -> Figure:
    """Bars of M models side by side for each of K metrics, with spreads; nan = undefined.

    `whiskers` says what `low` and `high` are; `constants` is what a constant predictor reaches in
    each metric, drawn across its bars.
    """
    width_in = max(6.4, 1.2 + 0.52 * len(metrics) * (len(models) + 1))
    figure = new_figure(width_in, 4.4, note=note)
    axes = figure.subplots()
    width = 0.8 / len(models)
    places = np.arange(len(metrics))
    for i, (model, colour) in enumerate(zip(models, colours(len(models)), strict=True)):
        x = places + (i - (len(models) - 1) / 2) * width
        axes.bar(x, values[i], 0.92 * width, color=colour, label=model)
        spread = np.stack([values[i] - low[i], high[i] - values[i]]).clip(min=0)
        axes.errorbar(x, values[i], spread, fmt="none", ecolor=BLACK, capsize=3)
        _write_values(axes, x, values[i], tops=np.nan_to_num(values[i] + np.nan_to_num(spread[1])))
    axes.hlines(constants, places - 0.45, places + 0.45, color=BLACK, linestyle="--", linewidth=1.2)
    axes.plot([], [], color=BLACK, linestyle="--", linewidth=1.2, label="constant predictor")
    dress(axes, x_label="", y_label=f"metric (whiskers: {whiskers})")
    names = [textwrap.fill(name.replace("_", " "), 6 * len(models)) for name in metrics]
    axes.set_xticks(places, labels=names, fontsize=TEXT_PT)
    axes.set_ylim(0, 1.08)
    set_title(axes, title)
    figure.legend(
        loc="outside lower center", ncols=len(models) + 1, fontsize=SMALL_PT, frameon=False
    )
    return figure


def _write_values(axes: Axes, x: np.ndarray, values: np.ndarray, *, tops: np.ndarray) -> None:
    for place, value, top in zip(x, values, tops, strict=True):
        text = "n/a" if math.isnan(value) else f"{value:.2f}"
        axes.text(place, top + 0.015, text, ha="center", va="bottom", fontsize=SMALL_PT)
