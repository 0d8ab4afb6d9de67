"""Figures of a search say what happened in words and numbers, whatever the trials were."""

import numpy as np
import pytest

from pipeline.visualization.search_figures import (
    Coordinate,
    TrialCurve,
    best_so_far,
    importance,
    learning_curves,
    parallel_coordinates,
)


def curve(number: int, *values: float, pruned: bool = False) -> TrialCurve:
    return TrialCurve(
        name=f"{number:03d}-abc",
        epochs=np.arange(1, len(values) + 1),
        values=np.array(values),
        value=max(values),
        pruned=pruned,
    )


TRIALS = [curve(0, 0.1, 0.4, 0.3), curve(1, 0.2, pruned=True), curve(2, 0.1, 0.2, 0.35)]


def title(figure) -> str:
    return figure.axes[0].get_title(loc="left").replace("\n", " ")


def test_learning_curves_count_the_pruned_and_name_the_best():
    figure = learning_curves(TRIALS, metric="point_ap", constant=0.02)
    assert title(figure) == "3 trials, 1 of them pruned: best point_ap 0.400 by trial 000"
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    ends = [np.asarray(line.get_xydata()) for line in crosses]
    assert [end.tolist() for end in ends if len(end)] == [[[1.0, 0.2]]]


def test_a_constant_predictor_that_is_unknown_is_not_drawn():
    with_it = learning_curves(TRIALS, metric="m", constant=0.02)
    without = learning_curves(TRIALS, metric="m", constant=float("nan"))
    assert len(with_it.axes[0].lines) == len(without.axes[0].lines) + 1


def test_the_best_so_far_never_falls_and_its_cost_is_told():
    figure = best_so_far(
        np.array([1, 2, 4, 5]), np.array([0.1, 0.3, 0.2, 0.3]), metric="point_ap", num_planned=9
    )
    highest = np.asarray(figure.axes[0].lines[1].get_ydata())
    assert highest.tolist() == [0.1, 0.3, 0.3, 0.3]
    assert title(figure) == (
        "Best point_ap 0.300 after 2 of 5 trained epochs; without pruning the trials take 9"
    )


def heights(figure, place: int) -> list[float]:
    """Of the trials' lines at one coordinate, the lowest value's line first."""
    return [float(np.asarray(line.get_ydata())[place]) for line in figure.axes[0].lines]


def test_parallel_coordinates_put_numbers_to_scale_and_what_is_missing_below():
    columns = [
        Coordinate(name="train.lr", texts=["1e-4", "1e-3", "1e-2"], is_number=True, is_log=True),
        Coordinate(name="model.dropout", texts=["0", "0.1", "0.4"], is_number=True, is_log=False),
        Coordinate(name="model.heads", texts=["16", "", "4"], is_number=False, is_log=False),
    ]
    figure = parallel_coordinates(TRIALS, columns, metric="point_ap")
    # By value: trial 1 (0.2), trial 2 (0.35), trial 0 (0.4).
    assert heights(figure, 0) == pytest.approx([0.5, 1.0, 0.0])
    assert heights(figure, 1) == pytest.approx([0.25, 1.0, 0.0])
    assert heights(figure, 2) == pytest.approx([-0.05, 1 / 3, 2 / 3])
    assert heights(figure, 3) == pytest.approx([0.0, 0.75, 1.0])
    assert [line.get_linestyle() for line in figure.axes[0].lines] == ["--", "-", "-"]


def test_one_value_of_everything_can_still_be_drawn():
    same = Coordinate(name="a.b", texts=["1", "1", "1"], is_number=True, is_log=True)
    alike = [curve(n, 0.2) for n in range(3)]
    assert heights(parallel_coordinates(alike, [same], metric="m"), 0) == [0.5] * 3


def test_the_most_important_setting_is_on_top():
    figure = importance({"a": 0.1, "b": 0.5}, {"a": 0.0, "b": 0.1}, title="t")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]
    assert [bar.get_extents().width for bar in figure.axes[0].patches] == sorted(
        bar.get_extents().width for bar in figure.axes[0].patches
    )
