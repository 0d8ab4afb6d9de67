"""One frame from above: where the model sees an anomaly, and where one is."""

import math

import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from pipeline.visualization.style import (
    BLACK,
    BLUE,
    GREY,
    SCORE_COLOURS,
    SMALL_PT,
    add_score_bar,
    dress,
    far_below,
    new_figure,
    probability,
    score_scale,
    set_title,
)

RING_EVERY_M = 10
EGO_LENGTH_M = 4.9
INCHES_PER_METRE = 0.14
RING_LABEL_RAD = math.radians(20)
FAINT = "#A8A8A8"


def birdseye(
    points: Float[np.ndarray, "P C"],
    score: Float[np.ndarray, "P"],
    label: Shaped[np.ndarray, "P"],
    *,
    threshold: float,
    title: str,
    x_range_m: tuple[float, float] = (-10.0, 40.0),
    y_range_m: tuple[float, float] = (-20.0, 20.0),
    note: str = "",
) -> Figure:
    """Points in the LiDAR frame (x forward is up, y left is left), coloured by score.

    `score` and `threshold` are logits, `label` is 0, 1 or 255. Points far below the threshold are
    grey, anomalous ones have a blue rim.
    """
    height_m, width_m = np.ptp(x_range_m), np.ptp(y_range_m)
    figure = new_figure(
        float(width_m * INCHES_PER_METRE) + 1.8, float(height_m * INCHES_PER_METRE) + 1.4, note=note
    )
    axes = figure.subplots()
    inside = _inside(points, x_range_m, y_range_m)
    points, score, label = points[inside], score[inside], label[inside]
    _draw_rings(axes, furthest_m=float(np.hypot(*np.abs([x_range_m, y_range_m]).max(axis=1))))
    _draw_points(axes, points, score, threshold=threshold)
    _draw_truth(axes, points[label == 1])
    _draw_ego(axes)
    axes.set_aspect("equal")
    axes.set_xlim(y_range_m[1], y_range_m[0])
    axes.set_ylim(x_range_m)
    dress(axes, x_label="y, to the left [m]", y_label="x, forward [m]")
    axes.grid(visible=False)
    set_title(axes, title)
    add_score_bar(figure, [axes], threshold=threshold)
    figure.legend(loc="outside lower center", ncols=2, fontsize=SMALL_PT, frameon=False)
    return figure


def _inside(
    points: np.ndarray, x_range_m: tuple[float, float], y_range_m: tuple[float, float]
) -> np.ndarray:
    x, y = points[:, 0], points[:, 1]
    return (x >= x_range_m[0]) & (x <= x_range_m[1]) & (y >= y_range_m[0]) & (y <= y_range_m[1])


def _draw_points(axes: Axes, points: np.ndarray, score: np.ndarray, *, threshold: float) -> None:
    grey, coloured = far_below(score, threshold=threshold)
    axes.scatter(points[grey, 1], points[grey, 0], s=1.4, color=FAINT, linewidths=0)
    axes.scatter(
        points[coloured, 1],
        points[coloured, 0],
        s=7,
        c=score[coloured],
        cmap=SCORE_COLOURS,
        norm=score_scale(threshold=threshold),
        linewidths=0,
        zorder=3,
    )
    num = int((score >= threshold).sum())
    limit = f"threshold {probability(threshold):.2g}"
    axes.scatter(
        [], [], s=16, color=SCORE_COLOURS(0.6), label=f"{num:,} points at or above {limit}"
    )
    axes.scatter([], [], s=16, color=FAINT, label=f"{len(grey):,} points far below it")


def _draw_truth(axes: Axes, points: np.ndarray) -> None:
    """Discs under the coloured points: a rim around each, or around a dense cluster."""
    axes.scatter(
        points[:, 1],
        points[:, 0],
        s=30,
        color=BLUE,
        linewidths=0,
        zorder=2.5,
        label=f"{len(points):,} anomalous points (truth)",
    )


def _draw_rings(axes: Axes, *, furthest_m: float) -> None:
    for radius_m in range(RING_EVERY_M, int(furthest_m) + 1, RING_EVERY_M):
        axes.add_patch(Circle((0, 0), radius_m, fill=False, ec="#C9C9C9", lw=0.7, zorder=0))
        x, y = radius_m * math.cos(RING_LABEL_RAD), -radius_m * math.sin(RING_LABEL_RAD)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        text = axes.text(y, x, f"{radius_m} m", color=GREY, fontsize=SMALL_PT, bbox=box)
        text.set(ha="center", va="center", clip_on=True, zorder=2)


def _draw_ego(axes: Axes) -> None:
    """The car as an arrow of its length that points forward."""
    tail, head = (0, -EGO_LENGTH_M / 2), (0, EGO_LENGTH_M / 2)
    axes.annotate(
        "", xy=head, xytext=tail, arrowprops={"arrowstyle": "-|>", "color": BLACK, "lw": 2.2},
        zorder=5,
    )  # fmt: skip
    axes.plot([], [], color=BLACK, marker=(3, 0, 0), linestyle="", label="ego car, facing up")
