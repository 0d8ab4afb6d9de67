"""One frame of an archive as the checks see it, with the table of all checks below.

What a wrong archive does to these panels: mirrored clouds put houses on trees, another frame's
depth fills the tail of the histogram, a shifted grid leaves the points beside its cells.
"""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pipeline.datasets.anovox.class_ids import CLASS_NAMES, COLOURS
from pipeline.inspection.archive import ArchiveReport, ExampleFrame
from pipeline.inspection.check import Check, CheckStatus
from pipeline.inspection.images import MAX_MEDIAN_ERROR_M, depth_errors_m
from pipeline.inspection.sample import Sample
from pipeline.visualization.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    SMALL_PT,
    TEXT_PT,
    VERMILION,
    dress,
    new_figure,
)

SIGNS: dict[CheckStatus, tuple[str, str]] = {
    "pass": ("o", BLUE),
    "warn": ("^", ORANGE),
    "FAIL": ("X", VERMILION),
}
"""Marker and colour: shape and brightness differ too, so that neither needs the other."""
WIDTH_IN, ROW_IN, PANELS_IN = 13.5, 7 / 32, 8.25
NUM_LEGEND = 9
NUM_DRAWN = 25_000
"""Points drawn at most; more only hide one another."""
FAR_ERROR_M = 3.0
_REACH_M = 25.0
_CELL_M = 0.5
CELL_COLOUR = "#F2C879"
_COLUMNS = (0.012, 0.03, 0.075, 0.19, 0.62)
"""Left edges of sign, status, check, found and expected, as shares of the width."""
FOUND_CHARACTERS, EXPECTED_CHARACTERS = 86, 76


def draw_inspection(report: ArchiveReport, *, note: str) -> Figure:
    """Camera with points, classes, depth errors, bird's-eye view, table; only the table if no
    frame can be read. `note` is "synthetic data" where it is.
    """
    table_in = ROW_IN * (len(report.checks) + 2)
    example = report.example
    figure = new_figure(WIDTH_IN, table_in + (PANELS_IN if example else 0.625), note=note)
    heights = [PANELS_IN, table_in] if example else [table_in]
    rows = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    if example is not None:
        _draw_panels(rows[0].subplots(2, 2), example)
    _draw_table(rows[-1].subplots(), report.checks)
    figure.suptitle(_title(report), x=0.01, ha="left", fontsize=TEXT_PT + 1)
    return figure


def _title(report: ArchiveReport) -> str:
    """The archive's sentence, its verdict, and which frame is shown."""
    line = textwrap.shorten(report.sentence, 300, placeholder=" ...")
    lines = textwrap.wrap(line, 150)
    if report.example is not None:
        example = report.example
        lines.append(f"shown: scene {example.scene_id[:8]}, frame {example.frame_id}")
    return "\n".join(lines)


def _draw_panels(panels: np.ndarray, example: ExampleFrame) -> None:
    sample = example.sample
    draws = (
        (_draw_camera, "projected SEMANTIC-LIDAR, coloured by class", ("image", "exact_xyz")),
        (_draw_classes, "SEMANTIC-CAM in AnoVox's colours", ("semantic",)),
        (_draw_depth, "DEPTH_CAM against LIDAR", ("depth_m", "points")),
        (_draw_birdseye, "voxels against points, above the ground", ("voxels", "points")),
    )
    for axes, (draw, title, needed) in zip(panels.flat, draws, strict=True):
        axes.set_title(title, loc="left", fontsize=TEXT_PT)
        if sample.has(*needed):
            draw(axes, sample)
        else:
            axes.text(0.5, 0.5, "its files could not be read", ha="center", fontsize=TEXT_PT)
            axes.set_axis_off()


def _draw_camera(axes: Axes, sample: Sample) -> None:
    grey = sample["image"].mean(axis=2) * 0.5 + 127
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
    view = sample.view(sample["exact_xyz"])
    some = slice(None, None, max(1, len(view.u) // NUM_DRAWN))
    colours = _palette()[sample["point_class"][view.rows[some]]] / 255
    size = 2.0 if len(view.u) > 5000 else 7.0
    axes.scatter(view.u[some], view.v[some], c=colours, s=size, linewidths=0)
    _pixel_axes(axes)


def _draw_classes(axes: Axes, sample: Sample) -> None:
    semantic = sample["semantic"]
    axes.imshow(_palette()[semantic], interpolation="nearest")
    counts = np.bincount(semantic.ravel(), minlength=256)
    common = [int(i) for i in np.argsort(-counts)[:NUM_LEGEND] if counts[i] > 0]
    patches = [
        Patch(color=_palette()[i] / 255, label=f"{i} {CLASS_NAMES.get(i, 'unknown')}")
        for i in common
    ]
    axes.legend(
        handles=patches, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=SMALL_PT,
        frameon=False,
    )  # fmt: skip
    _pixel_axes(axes)


def _draw_depth(axes: Axes, sample: Sample) -> None:
    errors = depth_errors_m(sample)
    axes.hist(
        np.minimum(errors, FAR_ERROR_M), bins=60, range=(0, FAR_ERROR_M), color=BLUE, log=True
    )
    median = float(np.median(errors)) if len(errors) else float("nan")
    axes.axvline(median, color=BLACK, linewidth=1.2, label=f"median {median:.3f} m")
    axes.axvline(
        MAX_MEDIAN_ERROR_M, color=VERMILION, linestyle="--", linewidth=1.2,
        label=f"limit of the median {MAX_MEDIAN_ERROR_M} m",
    )  # fmt: skip
    dress(axes, x_label=f"depth error [m], {FAR_ERROR_M:g} and more in the last bar",
          y_label="points")  # fmt: skip
    axes.legend(fontsize=SMALL_PT, frameon=False)


def _draw_birdseye(axes: Axes, sample: Sample) -> None:
    centres = sample.voxel_centres(sample["voxels"])
    centres, points = (xyz[sample.is_off_ground(xyz)] for xyz in (centres, sample["points"]))
    edges = np.arange(-_REACH_M, _REACH_M + _CELL_M, _CELL_M)
    occupied = np.histogram2d(centres[:, 0], centres[:, 1], bins=[edges, edges])[0] > 0
    extent = (-_REACH_M, _REACH_M, -_REACH_M, _REACH_M)
    picture = np.where(occupied[..., None], to_rgb(CELL_COLOUR), 1.0)
    axes.imshow(picture, origin="lower", extent=extent, interpolation="nearest")
    near = points[(np.abs(points[:, :2]) < _REACH_M).all(axis=1)]
    some = near[:: max(1, len(near) // NUM_DRAWN)]
    axes.scatter(some[:, 1], some[:, 0], s=1.0, color=BLUE, linewidths=0)
    axes.set_xlim(_REACH_M, -_REACH_M)
    axes.set_ylim(-_REACH_M, _REACH_M)
    dress(axes, x_label="y, to the left [m]", y_label="x, forward [m]")
    axes.grid(visible=False)
    marks = [
        Patch(color=CELL_COLOUR, label="cells of VOXEL_GRID"),
        Line2D([], [], color=BLUE, marker="o", markersize=3, linestyle="", label="LIDAR points"),
    ]
    axes.legend(handles=marks, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=SMALL_PT,
                frameon=False)  # fmt: skip


def _draw_table(axes: Axes, checks: tuple[Check, ...]) -> None:
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(checks) + 0.5, -1.5)
    heads = ("", "status", "check", "found", "expected")
    for x, head in zip(_COLUMNS, heads, strict=True):
        axes.text(x, -1, head, va="center", fontsize=SMALL_PT, color=GREY)
    for row, check in enumerate(checks):
        marker, colour = SIGNS[check.status]
        axes.scatter([_COLUMNS[0]], [row], marker=marker, s=34, color=colour, clip_on=False)
        cells = (
            check.status,
            check.name,
            textwrap.shorten(check.found, FOUND_CHARACTERS, placeholder=" ..."),
            textwrap.shorten(check.expected, EXPECTED_CHARACTERS, placeholder=" ..."),
        )
        for x, cell in zip(_COLUMNS[1:], cells, strict=True):
            weight = "bold" if check.status == "FAIL" and x < _COLUMNS[3] else "normal"
            axes.text(x, row, cell, va="center", fontsize=SMALL_PT, fontweight=weight)
    for text in axes.texts:
        text.set_in_layout(False)


def _pixel_axes(axes: Axes) -> None:
    axes.tick_params(labelsize=SMALL_PT)
    axes.set_xlabel("u [px]", fontsize=SMALL_PT)
    axes.set_ylabel("v [px]", fontsize=SMALL_PT)


def _palette() -> np.ndarray:
    """Colour (256, 3) per class id; magenta for ids outside AnoVox's table."""
    palette = np.tile(np.array([255, 0, 255], np.uint8), (256, 1))
    palette[list(COLOURS)] = list(COLOURS.values())
    return palette
