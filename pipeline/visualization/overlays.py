"""One frame through the camera: the image, the truth and the scores, with a zoom on the anomaly.

Uses the projection of the stored image, so a wrong calibration or a mirrored cloud shows at once.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.datasets.protocol.geometry import in_view
from pipeline.visualization.style import (
    BLACK,
    BLUE,
    SCORE_COLOURS,
    SMALL_PT,
    TEXT_PT,
    add_score_bar,
    far_below,
    new_figure,
    score_scale,
)

WIDE = 1.6
"""Images wider than this times their height are stacked, others lie side by side."""
SMALL_SHARE = 0.25
"""An anomaly that spans less than this share of the image's width gets a zoomed inset."""
INSET = 0.42
"""Height of the inset as a share of the panel's."""
POINT_SIZE = 3.0
Draw = Callable[[Axes, float], None]


def camera_overlay(
    image: UInt8[np.ndarray, "H W 3"],
    uv: Float[np.ndarray, "P 2"],
    depth: Float[np.ndarray, "P"],
    score: Float[np.ndarray, "P"],
    label: Shaped[np.ndarray, "P"],
    *,
    pixel_label: UInt8[np.ndarray, "H W"] | None,
    threshold: float,
    title: str,
    note: str = "",
) -> Figure:
    """Three panels: image, truth (pixels tinted, points), points coloured by score.

    `uv` and `depth` are `geometry.project`'s for this image; points outside it are left out.
    `score` and `threshold` are logits, labels 0, 1 or 255; `pixel_label` is None where there is
    none. Points far below the threshold are tiny and grey.
    """
    height, width = image.shape[:2]
    seen = in_view(uv, depth, width, height)
    uv, score, label = uv[seen], score[seen], label[seen]

    def draw_truth(axes: Axes, size: float) -> None:
        axes.imshow(image)
        if pixel_label is not None:
            axes.imshow(_tint(pixel_label), interpolation="nearest")
        _scatter(axes, uv[label == 1], size=size, color=BLUE)

    def draw_scores(axes: Axes, size: float) -> None:
        axes.imshow(_faded(image))
        _draw_scores(axes, uv, score, threshold=threshold, size=size)

    return _panels(
        image,
        (draw_truth, draw_scores),
        _captions(score, label, pixel_label, threshold),
        _zoom_box(uv[label == 1], pixel_label, width=width, height=height),
        threshold=threshold,
        title=title,
        note=note,
    )


def pixel_overlay(
    image: UInt8[np.ndarray, "H W 3"],
    score: Float[np.ndarray, "H W"],
    label: UInt8[np.ndarray, "H W"],
    *,
    threshold: float,
    title: str,
    note: str = "",
) -> Figure:
    """Three panels: image, truth (anomalous pixels tinted), pixels coloured by score.

    `score` and `threshold` are logits, labels 0, 1 or 255. Pixels far below the threshold stay
    grey.
    """
    height, width = image.shape[:2]
    grey, _ = far_below(score.ravel(), threshold=threshold)
    is_low = np.zeros(score.shape, bool)
    is_low.flat[grey] = True
    shown = np.ma.masked_array(score, is_low)

    def draw_truth(axes: Axes, size: float) -> None:
        axes.imshow(image)
        axes.imshow(_tint(label), interpolation="nearest")

    def draw_scores(axes: Axes, size: float) -> None:
        axes.imshow(_faded(image))
        scale = score_scale(threshold=threshold)
        axes.imshow(shown, cmap=SCORE_COLOURS, norm=scale, interpolation="nearest", alpha=0.8)

    above = int((score >= threshold).sum())
    return _panels(
        image,
        (draw_truth, draw_scores),
        (
            f"truth: {int((label == 1).sum()):,} pixels (light blue)",
            f"score: {above:,} of {score.size:,} pixels at or above the threshold",
        ),
        _zoom_box(np.empty((0, 2)), label, width=width, height=height),
        threshold=threshold,
        title=title,
        note=note,
    )


def _panels(
    image: UInt8[np.ndarray, "H W 3"],
    draws: tuple[Draw, Draw],
    captions: tuple[str, str],
    box: tuple[float, float, float, float] | None,
    *,
    threshold: float,
    title: str,
    note: str,
) -> Figure:
    """The image, then what `draws` draw of truth and score, each with the zoom on `box`."""
    height, width = image.shape[:2]
    is_wide = width > WIDE * height
    size = (7.8, 2.2 + 3 * 6.2 * height / width) if is_wide else (13.5, 1.3 + 3.7 * height / width)
    figure = new_figure(*size, note=note)
    panels = figure.subplots(3, 1) if is_wide else figure.subplots(1, 3)

    def draw_image(axes: Axes, size: float) -> None:
        axes.imshow(image)

    named = zip(panels, (draw_image, *draws), ("camera image", *captions), strict=True)
    for axes, draw, caption in named:
        draw(axes, POINT_SIZE)
        if box is not None:
            _add_inset(axes, draw, box, width=width, height=height)
        _frame_panel(axes, caption, width=width, height=height)
    figure.suptitle(title, x=0.01, ha="left", fontsize=TEXT_PT + 2)
    add_score_bar(figure, list(panels), threshold=threshold)
    return figure


def _captions(
    score: np.ndarray, label: np.ndarray, pixel_label: np.ndarray | None, threshold: float
) -> tuple[str, str]:
    truth = f"truth: {int((label == 1).sum()):,} points (dark blue)"
    if pixel_label is not None:
        truth += f", {int((pixel_label == 1).sum()):,} pixels (light blue)"
    num = int((score >= threshold).sum())
    scores = f"score: {num:,} of {len(score):,} points at or above the threshold"
    return truth, scores


def _draw_scores(
    axes: Axes, uv: np.ndarray, score: np.ndarray, *, threshold: float, size: float
) -> None:
    grey, coloured = far_below(score, threshold=threshold)
    _scatter(axes, uv[grey], size=0.15 * size, color="#707070")
    axes.scatter(
        uv[coloured, 0],
        uv[coloured, 1],
        s=2 * size,
        c=score[coloured],
        cmap=SCORE_COLOURS,
        norm=score_scale(threshold=threshold),
        linewidths=0,
    )


def _scatter(axes: Axes, uv: np.ndarray, *, size: float, color: str) -> None:
    axes.scatter(uv[:, 0], uv[:, 1], s=size, color=color, linewidths=0)


def _faded(image: np.ndarray) -> np.ndarray:
    """Grey and paler, so that the colours of the scores stand out."""
    grey = image.mean(axis=2, keepdims=True)
    return np.broadcast_to(0.5 * grey + 127.0, image.shape).astype(np.uint8)


def _tint(pixel_label: np.ndarray) -> np.ndarray:
    """RGBA (H, W, 4): half-transparent sky blue where the truth is anomalous."""
    rgba = np.zeros((*pixel_label.shape, 4), np.uint8)
    rgba[pixel_label == 1] = (86, 180, 233, 110)
    return rgba


def _zoom_box(
    uv: np.ndarray, pixel_label: np.ndarray | None, *, width: int, height: int
) -> tuple[float, float, float, float] | None:
    """u and v ranges (u0, u1, v0, v1) around a small anomaly, in the image's proportions.

    None when nothing anomalous is in view, or when it is large enough as it is.
    """
    places = uv
    if pixel_label is not None:
        v, u = np.nonzero(pixel_label == 1)
        places = np.concatenate([uv, np.stack([u, v], axis=1)])
    if len(places) == 0:
        return None
    low, high = places.min(axis=0), places.max(axis=0)
    span = max(high[0] - low[0], (high[1] - low[1]) * width / height, 0.04 * width)
    if span > SMALL_SHARE * width:
        return None
    zoom_w = 1.6 * span
    zoom_h = zoom_w * height / width
    u0 = float(np.clip((low[0] + high[0] - zoom_w) / 2, 0, width - zoom_w))
    v0 = float(np.clip((low[1] + high[1] - zoom_h) / 2, 0, height - zoom_h))
    return u0, u0 + float(zoom_w), v0, v0 + float(zoom_h)


def _add_inset(
    axes: Axes, draw: Draw, box: tuple[float, float, float, float], *, width: int, height: int
) -> None:
    """The box enlarged, in the upper corner away from it."""
    u0, u1, v0, v1 = box
    left = 0.0 if u0 + u1 > width else 1 - INSET
    bottom = 1 - INSET if v0 + v1 > height else 0.0
    inset = axes.inset_axes((left, bottom, INSET, INSET))
    draw(inset, POINT_SIZE * (INSET * width / (u1 - u0)))
    inset.set_xlim(u0, u1)
    inset.set_ylim(v1, v0)
    inset.set_xticks([])
    inset.set_yticks([])
    axes.indicate_inset_zoom(inset, edgecolor=BLACK, alpha=0.9, linewidth=0.7)


def _frame_panel(axes: Axes, caption: str, *, width: int, height: int) -> None:
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_title(caption, loc="left", fontsize=TEXT_PT)
    axes.tick_params(labelsize=SMALL_PT)
    axes.set_xlabel("u [px]", fontsize=SMALL_PT)
    axes.set_ylabel("v [px]", fontsize=SMALL_PT)
