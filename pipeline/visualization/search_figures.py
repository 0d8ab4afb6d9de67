"""Figures of a search: every trial's curve, what the search cost, which settings mattered."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.visualization.style import (
    BLACK,
    BLUE,
    GREY,
    SMALL_PT,
    TEXT_PT,
    VERMILION,
    dress,
    new_figure,
    set_title,
)
from pipeline.visualization.tables import sensible

VALUE_COLOURS = colormaps["viridis_r"]
NOT_SET = "not set"
MAX_TICK_CHARACTERS = 16


@dataclass(frozen=True, kw_only=True)
class TrialCurve:
    """One trial as the figures see it."""

    name: str
    epochs: Int[np.ndarray, "N"]
    values: Float[np.ndarray, "N"]
    """Validation metric after each of these epochs."""
    value: float
    """At the checkpoint that counts."""
    pruned: bool
    lower_is_better: bool = False
    """Of the metric."""

    @property
    def merit(self) -> float:
        """The value with the sign that makes a better trial's the greater one."""
        return -self.value if self.lower_is_better else self.value


@dataclass(frozen=True, kw_only=True)
class Coordinate:
    """One dimension over all trials."""

    name: str
    texts: list[str]
    """Setting of each trial; empty where it has none."""
    is_number: bool
    is_log: bool


def learning_curves(
    trials: Sequence[TrialCurve], *, metric: str, constant: float, note: str = ""
) -> Figure:
    """Validation metric over epochs: a cross ends a pruned trial, the best one stands out.

    `constant` is what a constant predictor reaches; nan for none.
    """
    figure = new_figure(7.0, 4.4, note=note)
    axes = figure.subplots()
    best = max((one for one in trials if not one.pruned), key=lambda one: one.merit)
    for one in trials:
        colour = VERMILION if one.pruned else BLUE
        axes.plot(one.epochs, one.values, color=colour, alpha=0.6, linewidth=1.2)
        marker = "x" if one.pruned else "o"
        axes.plot(one.epochs[-1], one.values[-1], marker, color=colour, markersize=6, mew=1.8)
    axes.plot(best.epochs, best.values, color=BLACK, linewidth=2.4, zorder=3)
    axes.plot([], [], color=BLACK, linewidth=2.4, label=f"best: {best.name.partition('-')[0]}")
    axes.plot([], [], "o-", color=BLUE, label="finished")
    axes.plot([], [], "x-", color=VERMILION, mew=1.8, label="pruned")
    if not math.isnan(constant):
        label = f"constant predictor: {constant:.2g}"
        axes.axhline(constant, color=GREY, linestyle="--", linewidth=1.2, label=label)
    num_pruned = sum(one.pruned for one in trials)
    set_title(
        axes, f"{len(trials)} trials, {num_pruned} of them pruned: best {_label(best, metric)}"
    )
    dress(axes, x_label="epoch", y_label=f"{metric} on the validation split")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=4, fontsize=SMALL_PT, frameon=False)
    return figure


def best_so_far(
    epochs: Int[np.ndarray, "N"],
    values: Float[np.ndarray, "N"],
    *,
    metric: str,
    num_planned: int,
    lower_is_better: bool = False,
    note: str = "",
) -> Figure:
    """Best validation so far over the epochs trained by all trials together.

    `epochs` counts them in the order in which they were validated, `values` are those validations;
    `num_planned` is what the same trials would have cost without pruning.
    """
    figure = new_figure(7.0, 4.0, note=note)
    axes = figure.subplots()
    axes.plot(epochs, values, ".", color=GREY, markersize=5, label="a validation")
    best, first_of = (np.minimum, np.argmin) if lower_is_better else (np.maximum, np.argmax)
    reached, first = best.accumulate(values), int(first_of(values))
    axes.plot(epochs, reached, drawstyle="steps-post", color=BLUE, linewidth=2, label="best so far")
    axes.plot(epochs[first], values[first], "o", markersize=12, mfc="none", mec=BLACK, mew=1.5)
    set_title(
        axes,
        f"Best {metric} {sensible(float(reached[-1]))} after {epochs[first]} of {epochs[-1]} "
        f"trained epochs; without pruning the trials take {num_planned}",
    )
    dress(axes, x_label="epochs trained, all trials", y_label=f"{metric} on validation")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=2, fontsize=SMALL_PT, frameon=False)
    return figure


def parallel_coordinates(
    trials: Sequence[TrialCurve],
    coordinates: Sequence[Coordinate],
    *,
    metric: str,
    note: str = "",
) -> Figure:
    """A line per trial over its settings to its value; dashed where it was pruned."""
    figure = new_figure(max(6.4, 1.9 * (len(coordinates) + 1)), 4.4, note=note)
    axes = figure.subplots()
    places = list(range(len(coordinates) + 1))
    values = np.array([one.value for one in trials])
    scale = Normalize(float(values.min()), float(max(values.max(), values.min() + 1e-9)))
    columns = [_column(axes, place, one) for place, one in zip(places, coordinates, strict=False)]
    columns.append(_value_column(axes, places[-1], values, scale))
    # The best on top.
    for row in np.argsort([one.merit for one in trials]):
        axes.plot(
            places,
            [column[row] for column in columns],
            color=VALUE_COLOURS(scale(values[row])),
            linestyle="--" if trials[row].pruned else "-",
            linewidth=1.2 if trials[row].pruned else 2.0,
            marker="o",
            markersize=3,
        )
    names = [one.name.replace(".", ".\n", 1) for one in coordinates] + [f"val\n{metric}"]
    axes.set_xticks(places, labels=names, fontsize=TEXT_PT)
    axes.set_yticks([])
    axes.set_xlim(-0.3, places[-1] + 0.6)
    axes.set_ylim(-0.08, 1.08)
    axes.spines[["left", "right", "top", "bottom"]].set_visible(False)
    axes.vlines(places, 0, 1, color=BLACK, linewidth=0.8)
    bar = figure.colorbar(ScalarMappable(scale, VALUE_COLOURS), ax=axes, shrink=0.8, pad=0.02)
    bar.set_label(f"{metric} on validation (dashed: pruned)", fontsize=TEXT_PT)
    bar.ax.tick_params(labelsize=SMALL_PT)
    set_title(axes, f"Settings of {len(trials)} trials and what they reached")
    return figure


def importance(
    shares: Mapping[str, float],
    spreads: Mapping[str, float],
    *,
    title: str,
    is_predictive: bool = True,
    note: str = "",
) -> Figure:
    """Bars of what shuffling one setting costs a model of the trials; whiskers are deviations.

    Grey unless the model predicts (`is_predictive`) trials that it was not fitted to.
    """
    figure = new_figure(7.0, 1.4 + 0.4 * len(shares), note=note)
    axes = figure.subplots()
    order = sorted(shares, key=lambda name: shares[name])
    places = np.arange(len(order))
    colour = BLUE if is_predictive else GREY
    axes.barh(places, [shares[name] for name in order], color=colour, height=0.6)
    axes.errorbar(
        [shares[name] for name in order],
        places,
        xerr=[spreads[name] for name in order],
        fmt="none",
        ecolor=BLACK,
        capsize=3,
    )
    axes.axvline(0, color=BLACK, linewidth=0.8)
    axes.set_yticks(places, labels=order, fontsize=TEXT_PT)
    dress(axes, x_label="loss of R2 when the setting is shuffled among the trials", y_label="")
    set_title(axes, title)
    return figure


def no_importance(reason: str, *, note: str = "") -> Figure:
    """The same place in a report, with the reason why there is no number."""
    figure = new_figure(7.0, 1.4, note=note)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.text(0, 0.5, reason, fontsize=TEXT_PT, va="center")
    set_title(axes, "Importance of settings: none given")
    return figure


def _label(trial: TrialCurve, metric: str) -> str:
    return f"{metric} {sensible(trial.value)} by trial {trial.name.partition('-')[0]}"


def _column(axes: Axes, place: int, coordinate: Coordinate) -> list[float]:
    """Heights in [0, 1] of a dimension's settings; writes its ticks beside its line."""
    known = [text for text in coordinate.texts if text]
    if coordinate.is_number:
        numbers = [float(text) for text in known]
        scaled = [math.log(number) for number in numbers] if coordinate.is_log else numbers
        low, high = min(scaled), max(scaled)
        heights = {
            text: (value - low) / (high - low) if high > low else 0.5
            for text, value in zip(known, scaled, strict=True)
        }
        ends = (known[scaled.index(low)], known[scaled.index(high)])
        ticks = {text: heights[text] for text in ends}
    else:
        names = sorted(set(known), key=_category_order)
        heights = {name: (i + 1) / (len(names) + 1) for i, name in enumerate(names)}
        ticks = heights
    # Below the others, as no value is neither low nor high.
    if len(known) < len(coordinate.texts):
        heights, ticks = heights | {"": -0.05}, ticks | {NOT_SET: -0.05}
    for text, height in ticks.items():
        _tick(axes, place, height, text)
    return [heights[text] for text in coordinate.texts]


def _category_order(text: str) -> tuple[float, str]:
    """Numbers by size, then words by the alphabet."""
    try:
        return float(text), ""
    except ValueError:
        return math.inf, text


def _value_column(axes: Axes, place: int, values: np.ndarray, scale: Normalize) -> list[float]:
    heights = [float(scale(value)) for value in values]
    for value in (values.min(), values.max()):
        _tick(axes, place, float(scale(value)), sensible(float(value)))
    return heights


def _tick(axes: Axes, place: int, height: float, text: str) -> None:
    shown = text if len(text) <= MAX_TICK_CHARACTERS else f"{text[: MAX_TICK_CHARACTERS - 2]}.."
    axes.text(
        place + 0.05,
        height,
        shown,
        fontsize=SMALL_PT,
        va="center",
        zorder=4,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8},
    )
