import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from pipeline.datasets.protocol.frames import FrameKey
from pipeline.visualization import style
from tests.helpers.repository import REPOSITORY

Check = Callable[[Figure], np.ndarray]
KEY = FrameKey("AnoVox_Static_Mono_Town03", "739b5ee1-19ad-4c5e", 204, "(0, 0, 1.8)(0, 0, 0)")


@pytest.mark.parametrize(
    ("label", "truth"), [(0, "normal"), (1, "anomalous"), (255, "ignored (too little")]
)
def test_a_frame_title_says_which_frame_what_it_is_and_its_score(label: int, truth: str) -> None:
    title = style.frame_title(KEY, frame_label=label, frame_score=0.0)
    assert title.startswith(f"AnoVox_Static_Mono_Town03, scene 739b5ee1, frame 204\ntruth: {truth}")
    assert title.endswith("frame score 0.500")


@settings(max_examples=50, deadline=None)
@given(st.floats(-1e6, 1e6))
def test_a_probability_lies_between_0_and_1_for_every_score(score: float) -> None:
    assert 0 <= style.probability(score) <= 1


@settings(max_examples=50, deadline=None)
@given(st.floats(0.001, 0.999))
def test_logit_and_probability_are_inverse(probability: float) -> None:
    assert style.probability(style.logit(probability)) == pytest.approx(probability)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-10, 10), max_size=50), st.floats(-5, 5))
def test_every_point_is_either_grey_or_coloured(scores: list[float], threshold: float) -> None:
    score = np.array(scores, np.float64)
    grey, coloured = style.far_below(score, threshold=threshold)
    assert sorted([*grey, *coloured]) == list(range(len(score)))
    assert (score[grey] < threshold - style.FAR_BELOW).all()
    assert (score[coloured] >= threshold - style.FAR_BELOW).all()
    assert (np.diff(score[coloured]) >= 0).all()


@pytest.mark.parametrize("threshold", [-6.0, -3.0, 0.0, 3.0])
def test_the_colour_bar_has_ticks_at_every_threshold(check: Check, threshold: float) -> None:
    figure = style.new_figure(4.0, 5.0, note="")
    axes = figure.subplots()
    axes.plot([0, 1])
    bar = style.add_score_bar(figure, [axes], threshold=threshold)
    check(figure)
    assert len(bar.get_ticks()) >= 3


def test_a_long_title_is_broken_into_lines_that_fit(check: Check) -> None:
    figure = style.new_figure(4.0, 3.0, note="synthetic data")
    axes = figure.subplots()
    axes.plot([0, 1])
    style.set_title(axes, "Wide words of a title that is longer than its figure is wide " * 2)
    check(figure)


def test_a_figure_leaves_no_global_state_behind(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.visualization import style\n"
        "figure = style.new_figure(2.0, 2.0, note='')\n"
        "figure.subplots().plot([0, 1])\n"
        "style.save_figure(figure, Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    root = REPOSITORY
    path = tmp_path / "a folder" / "figure.png"
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=root, check=True)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_score_scale_saturates_instead_of_wrapping() -> None:
    scale = style.score_scale(threshold=0.0)
    assert scale(-100.0) == 0.0
    assert scale(100.0) == 1.0
    assert math.isclose(float(scale(1.0)), 0.5)
