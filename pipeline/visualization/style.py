"""What all figures share: paper, type, a palette for colour-blind readers, a scale for scores.

Figures are matplotlib's own objects on an Agg canvas: no pyplot, hence no global state, no display
and no figure that stays in memory after its last use.
"""

import math
import textwrap
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pipeline.datasets.protocol.frames import FrameKey

# Okabe and Ito, "Color Universal Design" (2008): told apart with every common colour blindness.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#8A8A8A"
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
NORMAL, ANOMALOUS = SKY, VERMILION

DPI = 130
TITLE_PT, TEXT_PT, SMALL_PT = 11, 9, 8
MARGIN_PT = 5
CHARACTERS_PER_INCH = 12.5
"""Of a title; measured on DejaVu Sans at TITLE_PT, rounded down."""

FAR_BELOW = 2.0
"""Logits under the threshold (7 times smaller odds) from which scores are shown in grey."""
FAR_ABOVE = 4.0
"""Logits over the threshold at which the scale of scores ends."""
SCORE_COLOURS = ListedColormap(colormaps["YlOrRd"](np.linspace(0.25, 1.0, 256)))
TICK_PROBABILITIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 0.997, 0.999)


def new_figure(width_in: float, height_in: float, *, note: str) -> Figure:
    """An empty figure; `note` (e.g. "synthetic data") is stamped into its upper right corner."""
    strip = (SMALL_PT + MARGIN_PT) / 72 / height_in if note else 0.0
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - strip))
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    if note:
        x, y = 1 - MARGIN_PT / 72 / width_in, 1 - MARGIN_PT / 72 / height_in
        figure.text(x, y, note, ha="right", va="top", color=GREY, fontsize=SMALL_PT, style="italic")
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a PNG at 130 dpi, its folder with it; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=DPI)
    return path


def colours(num: int) -> tuple[str, ...]:
    """That many colours that can be told apart; ValueError beyond 7."""
    if num > len(PALETTE):
        raise ValueError(
            f"{num} curves in one figure; it takes at most {len(PALETTE)}: draw several figures"
        )
    return PALETTE[:num]


def set_title(axes: Axes, sentence: str) -> None:
    """A left-aligned title, broken into lines that fit the figure."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    width = int((figure.get_figwidth() - 1.0) * CHARACTERS_PER_INCH)
    lines = [textwrap.fill(line, width) for line in sentence.split("\n")]
    axes.set_title("\n".join(lines), loc="left", fontsize=TITLE_PT)


def dress(axes: Axes, *, x_label: str, y_label: str) -> None:
    """Labels with units, a quiet grid, no box."""
    axes.set_xlabel(x_label, fontsize=TEXT_PT)
    axes.set_ylabel(y_label, fontsize=TEXT_PT)
    axes.tick_params(labelsize=SMALL_PT)
    axes.grid(color="#E2E2E2", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def frame_title(key: FrameKey, *, frame_label: int, frame_score: float) -> str:
    """Which frame, what it is and what the model says, on two lines; the score is a logit."""
    truth = {0: "normal", 1: "anomalous", 255: "ignored (too little of an anomaly is seen)"}
    return (
        f"{key.archive}, scene {key.scene_id[:8]}, frame {key.frame_id}\n"
        f"truth: {truth[frame_label]}; frame score {probability(frame_score):.3f}"
    )


def probability(logit: float) -> float:
    """Sigmoid of a raw score."""
    return 0.5 * (1 + math.tanh(0.5 * logit))


def logit(probability: float) -> float:
    """Inverse of `probability`."""
    return math.log(probability / (1 - probability))


def far_below(score: Float[np.ndarray, "P"], *, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of points shown in grey, and of those shown in colour with the highest score last."""
    order = np.argsort(score, kind="stable")
    num_grey = int(np.searchsorted(score[order], threshold - FAR_BELOW))
    return order[:num_grey], order[num_grey:]


def score_scale(*, threshold: float) -> Normalize:
    """Colours lie over logits around the threshold: probabilities of rare things crowd at 0."""
    return Normalize(threshold - FAR_BELOW, threshold + FAR_ABOVE, clip=True)


def add_score_bar(figure: Figure, axes: list[Axes], *, threshold: float) -> Colorbar:
    """Colour bar in probabilities with the threshold marked."""
    scale = score_scale(threshold=threshold)
    bar = figure.colorbar(
        ScalarMappable(scale, SCORE_COLOURS), ax=axes, extend="max", shrink=0.8, pad=0.02
    )
    low, high = threshold - FAR_BELOW, threshold + FAR_ABOVE
    ticks = {logit(p): f"{p:g}" for p in TICK_PROBABILITIES if low <= logit(p) <= high}
    bar.set_ticks(list(ticks), labels=list(ticks.values()))
    bar.ax.tick_params(labelsize=SMALL_PT)
    bar.ax.axhline(threshold, color=BLACK, linewidth=1.5)
    bar.set_label("score as a probability (line: threshold)", fontsize=TEXT_PT)
    return bar
