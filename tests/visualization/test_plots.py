import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

from pipeline.visualization import plots
from pipeline.visualization.plots import RankingCurve

Check = Callable[[Figure], np.ndarray]
Words = Callable[[Figure], str]
Legends = Callable[[Figure], list[str]]
EMPTY = np.zeros(0)


def noisy_loss(num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    steps = np.arange(10, 10 * num_steps + 10, 10)
    noise = np.random.default_rng(0).exponential(0.01, num_steps)
    return steps, 0.02 + 0.1 * np.exp(-steps / 500) + noise


def scores_and_labels() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    scores = np.concatenate([random.normal(-4, 1.5, 20_000), random.normal(0, 2, 150)])
    return scores, np.repeat([0, 1], [20_000, 150])


def ranking_curve(name: str, *, area: float = 0.5, low: float = math.nan) -> RankingCurve:
    x = np.linspace(0, 1, 50)
    return RankingCurve(name=name, x=x, y=1 - x, area=area, low=low, high=low + 0.1)


# ---- loss


def test_a_loss_curve_says_how_far_below_the_best_constant_it_ended(
    check: Check, title: Words, legends: Legends
) -> None:
    steps, losses = noisy_loss(300)
    figure = plots.loss_curve(
        steps,
        losses,
        val_steps=steps[::30],
        val_losses=losses[::30],
        constant_loss=0.0582,
        note="synthetic data",
    )
    check(figure)
    assert title(figure) == "Loss: 0.0291 at the end, 50 % below the best constant predictor"
    assert legends(figure) == ["train", "validation", "best constant"]


def test_a_loss_above_the_best_constant_is_called_so(title: Words) -> None:
    losses = np.full(20, 0.3)
    figure = plots.loss_curve(
        np.arange(20), losses, val_steps=EMPTY, val_losses=EMPTY, constant_loss=0.2
    )
    assert title(figure) == "Loss: 0.3 at the end, 50 % above the best constant predictor"


def test_a_collapsing_loss_is_drawn_as_it_is_on_a_logarithmic_axis(
    check: Check, title: Words
) -> None:
    losses = np.array([0.9, 1e-6, 1e-9, 1e-9])
    figure = plots.loss_curve(
        np.arange(4), losses, val_steps=EMPTY, val_losses=EMPTY, constant_loss=None
    )
    check(figure)
    assert figure.axes[0].get_yscale() == "log"
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), losses)
    assert title(figure) == "Loss: 1e-09 at the end, 0.9 at the start"


def test_non_finite_losses_are_counted_in_the_title(check: Check, title: Words) -> None:
    steps, losses = noisy_loss(100)
    losses[[3, 50]] = math.nan, math.inf
    figure = plots.loss_curve(steps, losses, val_steps=EMPTY, val_losses=EMPTY, constant_loss=0.06)
    check(figure)
    assert title(figure).endswith("non-finite steps left out: 2")


def test_a_loss_without_any_finite_value_is_no_crash(title: Words) -> None:
    figure = plots.loss_curve(
        np.arange(50), np.full(50, np.nan), val_steps=EMPTY, val_losses=EMPTY, constant_loss=None
    )
    assert title(figure) == "Loss: no finite value"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=200))
def test_the_running_median_stays_between_the_extremes(values: list[float]) -> None:
    losses = np.array(values)
    medians = plots.running_median(losses)
    assert medians.shape == losses.shape
    found = medians[np.isfinite(medians)]
    if len(found):
        assert found.min() >= np.nanmin(losses)
        assert found.max() <= np.nanmax(losses)


def test_the_running_median_ignores_a_single_spike() -> None:
    losses = np.ones(100)
    losses[50] = 1e6
    np.testing.assert_array_equal(plots.running_median(losses), np.ones(100))


# ---- validation


def test_validation_curves_name_the_best_epoch(
    check: Check, title: Words, legends: Legends
) -> None:
    epochs = np.arange(1, 6)
    figure = plots.validation_curves(
        epochs,
        {"point_ap": np.array([0.1, 0.3, 0.5, 0.4, 0.45]), "frame_auroc": epochs / 10 + 0.3},
        chosen_by="point_ap",
        constants={"point_ap": 0.0033},
        note="synthetic data",
    )
    check(figure)
    assert title(figure) == "Validation: best point_ap 0.500 after epoch 3"
    assert legends(figure) == ["point_ap", "point_ap, constant predictor: 0.0033", "frame_auroc"]


def test_a_metric_that_the_model_does_not_have_is_left_out(check: Check, legends: Legends) -> None:
    metrics = {"point_ap": np.full(3, np.nan), "frame_ap": np.array([0.3, 0.4, 0.5])}
    figure = plots.validation_curves(np.arange(3), metrics, chosen_by="frame_ap", constants={})
    check(figure)
    assert legends(figure) == ["frame_ap"]


def test_a_validation_metric_that_is_never_defined_is_said_to_be_so(
    check: Check, title: Words
) -> None:
    figure = plots.validation_curves(
        np.arange(3), {"point_ap": np.full(3, np.nan)}, chosen_by="point_ap", constants={}
    )
    check(figure)
    assert title(figure) == "Validation: point_ap is undefined in every epoch"


# ---- score histogram


def test_a_score_histogram_counts_every_item(check: Check, title: Words, legends: Legends) -> None:
    scores, labels = scores_and_labels()
    counts = np.stack([np.histogram(scores[labels == i], 2**17, (-64, 64))[0] for i in (0, 1)])
    figure = plots.score_histogram(
        counts,
        low=-64.0,
        high=64.0,
        split="test",
        level="point",
        threshold=-1.2,
        note="synthetic data",
    )
    check(figure)
    assert title(figure) == "Test scores of 20,000 normal and 150 anomalous points"
    assert legends(figure) == ["normal", "anomalous", "threshold -1.20"]
    left, right = figure.axes[0].get_xlim()
    assert scores.min() - 2 < left < scores.min() < scores.max() < right < scores.max() + 2


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 500), st.integers(0, 2**16), st.integers(0, 5))
def test_rebinning_loses_no_count(num_bins: int, seed: int, most: int) -> None:
    counts = np.random.default_rng(seed).integers(0, most + 1, (2, num_bins))
    edges, coarse = plots._rebinned(counts, low=-64.0, high=64.0)
    assert len(edges) == coarse.shape[1] + 1
    assert (np.diff(edges) > 0).all()
    np.testing.assert_array_equal(coarse.sum(axis=1), counts.sum(axis=1))
    assert coarse.shape[1] <= plots.NUM_SCORE_BINS


def test_a_score_histogram_of_nothing_is_no_crash(title: Words) -> None:
    figure = plots.score_histogram(
        np.zeros((2, 100), np.int64),
        low=-64.0,
        high=64.0,
        split="val",
        level="frame",
        threshold=None,
    )
    assert title(figure) == "Val scores of 0 normal and 0 anomalous frames"


# ---- ranking curves


def test_a_precision_recall_figure_states_counts_prevalence_and_intervals(
    check: Check, title: Words, legends: Legends
) -> None:
    figure = plots.precision_recall(
        [
            ranking_curve("concat", area=0.472, low=0.412),
            ranking_curve("lidar_only", area=math.nan),
        ],
        split="test",
        level="point",
        num_positive=4812,
        prevalence=0.0033,
        note="synthetic data",
    )
    check(figure)
    assert title(figure) == ("Test precision-recall: 4,812 anomalous points, prevalence 0.33 %")
    assert legends(figure) == [
        "concat: AP 0.472 [0.412, 0.512]",
        "lidar_only: AP undefined",
        "constant predictor: 0.0033",
    ]


def test_the_area_under_the_drawn_steps_is_average_precision() -> None:
    scores, labels = scores_and_labels()
    precision, recall, _ = precision_recall_curve(labels, scores)
    x, y = recall[-2::-1], precision[-2::-1]  # without scikit-learn's point at recall 0
    curve = RankingCurve(name="m", x=x, y=y, area=0.5, low=math.nan, high=math.nan)
    figure = plots.precision_recall(
        [curve], split="test", level="point", num_positive=150, prevalence=0.0074
    )
    line = figure.axes[0].lines[0]
    assert line.get_drawstyle() == "steps-pre"
    drawn_x, drawn_y = (np.asarray(data) for data in (line.get_xdata(), line.get_ydata()))
    area = (np.diff(drawn_x) * drawn_y[1:]).sum()
    assert area == pytest.approx(average_precision_score(labels, scores), abs=1e-9)


def test_an_roc_figure_states_both_counts_and_chance(
    check: Check, title: Words, legends: Legends
) -> None:
    scores, labels = scores_and_labels()
    x, y, _ = roc_curve(labels, scores)
    curve = RankingCurve(name="concat", x=x, y=y, area=0.95, low=0.9, high=0.97)
    figure = plots.roc(
        [curve],
        split="test",
        level="frame",
        num_positive=150,
        num_negative=20_000,
        note="synthetic",
    )
    check(figure)
    assert title(figure) == "Test ROC: 150 anomalous and 20,000 normal frames"
    assert legends(figure) == ["concat: AUROC 0.950 [0.900, 0.970]", "chance: 0.5"]


def test_more_curves_than_can_be_told_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="8 curves in one figure; it takes at most 7"):
        plots.roc(
            [ranking_curve(str(i)) for i in range(8)],
            split="test",
            level="frame",
            num_positive=1,
            num_negative=1,
        )


# ---- comparison


@pytest.mark.parametrize("num_models", [1, 3, 6])
def test_a_comparison_has_a_bar_with_its_value_for_every_number(
    check: Check, legends: Legends, num_models: int
) -> None:
    models = [f"model_{i}" for i in range(num_models)]
    metrics = ["point_ap", "small_object_in_view_ap", "frame_static_20in_view_auroc"]
    values = np.random.default_rng(0).uniform(0.1, 0.9, (num_models, 3))
    figure = plots.comparison(
        models,
        metrics,
        values,
        low=values - 0.05,
        high=values + 0.05,
        whiskers="95 % interval over scenes",
        constants=np.array([0.003, 0.2, 0.5]),
        title=f"Test metrics of {num_models} models on 54 scenes",
        note="synthetic data",
    )
    check(figure)
    assert sorted(legends(figure)) == sorted([*models, "constant predictor"])
    written = [text.get_text() for text in figure.axes[0].texts]
    assert written == [f"{value:.2f}" for value in values.ravel()]


def test_an_undefined_metric_is_no_bar_but_a_word(check: Check) -> None:
    values = np.array([[0.5, math.nan]])
    figure = plots.comparison(
        ["concat"],
        ["point_ap", "frame_ap"],
        values,
        low=values,
        high=values,
        whiskers="lowest to highest world",
        constants=np.array([0.1, math.nan]),
        title="Test metrics",
    )
    check(figure)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.50", "n/a"]
