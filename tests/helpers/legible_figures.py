"""Fixtures that check figures as a reader sees them: every text on the paper and on no other."""

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from pipeline.visualization.style import DPI, save_figure

Check = Callable[[Figure], np.ndarray]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Saves a figure and checks that its PNG is legible; returns the PNG's pixels (H, W, 3)."""

    def run(figure: Figure) -> np.ndarray:
        image = Image.open(save_figure(figure, tmp_path / "figures" / "figure.png"))
        assert image.format == "PNG"
        width, height = figure.get_size_inches() * DPI
        assert np.abs(np.subtract(image.size, (width, height))).max() < 1
        pixels = np.asarray(image.convert("RGB"))
        assert 0.01 < (pixels < 250).any(axis=2).mean() < 0.98, "blank or full"
        check_texts(figure)
        return pixels

    return run


def check_texts(figure: Figure) -> None:
    """Every text lies inside the figure and on no other text."""
    places = [(text.get_text(), text.get_window_extent()) for text in drawn_texts(figure)]
    assert places
    for words, box in places:
        beyond = max(-box.x0, -box.y0, box.x1 - figure.bbox.x1, box.y1 - figure.bbox.y1)
        assert beyond < 0.5, f"{words!r} leaves the figure by {beyond:.0f} px"
    for (words, box), (others, other) in combinations(places, 2):
        assert overlap_px(box, other) < 4, f"{words!r} lies on {others!r}"


def overlap_px(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0.0) * max(height, 0.0)


def drawn_texts(figure: Figure) -> Iterator[Text]:
    hidden = set(undrawn_tick_labels(figure))
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden:
            if text.axes is not None and text.get_clip_on() and not is_inside(text):
                continue
            yield text


def is_inside(text: Text) -> bool:
    assert text.axes is not None
    box = text.get_window_extent()
    return text.axes.bbox.contains((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)


def undrawn_tick_labels(figure: Figure) -> Iterator[Text]:
    """Labels of ticks beyond an axis's limits, which matplotlib keeps but does not draw."""
    for axes in figure.findobj(Axes):
        assert isinstance(axes, Axes)
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                is_drawn = low <= tick.get_loc() <= high and axis.get_visible()
                for label, is_on in (
                    (tick.label1, tick.label1.get_visible()),
                    (tick.label2, tick.label2.get_visible()),
                ):
                    if not (is_drawn and is_on):
                        yield label


def legend_texts(figure: Figure) -> list[str]:
    return [
        text.get_text()
        for legend in figure.findobj(Legend)
        if isinstance(legend, Legend)
        for text in legend.get_texts()
    ]


@pytest.fixture
def legends() -> Callable[[Figure], list[str]]:
    """Texts of all legends of a figure."""
    return legend_texts


@pytest.fixture
def title() -> Callable[[Figure], str]:
    """The first panel's title in one line."""
    return lambda figure: figure.axes[0].get_title(loc="left").replace("\n", " ")
