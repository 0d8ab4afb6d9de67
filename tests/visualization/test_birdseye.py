from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure

from pipeline.visualization.birdseye import FAINT, birdseye
from pipeline.visualization.style import BLUE

Check = Callable[[Figure], np.ndarray]
Cloud = tuple[np.ndarray, np.ndarray, np.ndarray]
THRESHOLD = -1.0


@pytest.fixture
def cloud() -> Cloud:
    """Points, scores, labels: normal ground, ten anomalous points ahead on the left, one behind."""
    random = np.random.default_rng(0)
    points = random.uniform((-30, -30, -2, 0), (60, 30, 2, 1), (5000, 4)).astype(np.float32)
    score = random.normal(-6, 1, 5000).astype(np.float32)
    label = np.zeros(5000, np.uint8)
    points[:10, :2] = random.uniform((19.5, 7.5), (20.5, 8.5), (10, 2))
    points[10, :2] = (-25, 0)
    score[:11], label[:11] = 2.0, 1
    return points, score, label


def draw(cloud: Cloud, *, note: str = "") -> Figure:
    points, score, label = cloud
    return birdseye(points, score, label, threshold=THRESHOLD, title="a frame", note=note)


def test_the_figure_is_legible_and_counts_what_it_shows(
    cloud: Cloud, check: Check, legends: Callable[[Figure], list[str]]
) -> None:
    figure = draw(cloud, note="synthetic data")
    check(figure)
    points, score, _ = cloud
    x, y = points[:, 0], points[:, 1]
    shown = (x >= -10) & (x <= 40) & (np.abs(y) <= 20)
    num_grey = int((score[shown] < THRESHOLD - 2).sum())
    assert set(legends(figure)) == {
        "10 points at or above threshold 0.27",
        f"{num_grey:,} points far below it",
        "10 anomalous points (truth)",
        "ego car, facing up",
    }


def test_a_point_ahead_on_the_left_is_drawn_in_the_upper_left(cloud: Cloud, check: Check) -> None:
    pixels = check(draw(cloud)).astype(int)
    blue = np.array(to_rgb(BLUE)) * 255
    rows, columns = np.nonzero(np.abs(pixels - blue).sum(axis=2) < 30)
    in_axes = rows < 0.9 * pixels.shape[0]
    place = rows[in_axes].mean() / pixels.shape[0], columns[in_axes].mean() / pixels.shape[1]
    assert place[0] < 0.5
    assert place[1] < 0.4


def test_x_points_up_y_points_left_and_metres_are_square(cloud: Cloud) -> None:
    axes = draw(cloud).axes[0]
    assert axes.get_xlim() == (20.0, -20.0)
    assert axes.get_ylim() == (-10.0, 40.0)
    assert axes.get_aspect() == 1.0


def test_the_highest_scores_are_drawn_last_and_low_ones_in_grey(cloud: Cloud) -> None:
    collections = [c for c in draw(cloud).axes[0].collections if isinstance(c, PathCollection)]
    grey, coloured = collections[0], collections[1]
    np.testing.assert_allclose(np.asarray(grey.get_facecolor()), [to_rgba(FAINT)])
    drawn = np.asarray(coloured.get_array())
    assert (np.diff(drawn) >= 0).all()
    assert drawn.min() >= THRESHOLD - 2


def test_the_colour_bar_is_in_probabilities(cloud: Cloud) -> None:
    figure = draw(cloud)
    figure.draw_without_rendering()
    bar = figure.axes[1]
    ticks = {
        float(t.get_text()): y for t, y in zip(bar.get_yticklabels(), bar.get_yticks(), strict=True)
    }
    assert len(ticks) >= 3
    for probability, logit in ticks.items():
        assert 1 / (1 + np.exp(-logit)) == pytest.approx(probability)


def test_an_empty_cloud_is_drawn_too(check: Check) -> None:
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.uint8)
    check(draw(nothing))


def test_other_extents_change_the_paper_not_the_scale(cloud: Cloud, check: Check) -> None:
    points, score, label = cloud
    figure = birdseye(
        points,
        score,
        label,
        threshold=THRESHOLD,
        title="a frame",
        x_range_m=(0.0, 60.0),
        y_range_m=(-30.0, 30.0),
    )
    check(figure)
    assert figure.get_figwidth() > draw(cloud).get_figwidth()
