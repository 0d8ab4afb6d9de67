"""A search space in words: what it draws, what of it counts, and what it refuses."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.schema import Config
from pipeline.experiments.search.space import active, parse_space, words

CONFIG = Config()


def dimension(text: str):
    return parse_space(CONFIG, [text])[0]


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(["uniform", "loguniform"]),
    st.floats(1e-6, 1e3),
    st.floats(1.001, 1e4),
    st.integers(0, 2**32 - 1),
)
def test_a_drawn_number_is_inside_its_range_and_short(kind, low, ratio, seed):
    high = low * ratio
    drawn = dimension(f"train.lr {kind} {low!r} {high!r}").draw(np.random.default_rng(seed))
    assert low <= float(drawn) <= high
    # Four digits, and as many more as a narrow range needs to be told apart in.
    num_digits = 4 + max(0, int(math.log10(high / (high - low))))
    assert float(drawn) in (low, high) or float(f"{float(drawn):.{num_digits}g}") == float(drawn)


def test_a_narrow_range_is_drawn_in_more_than_its_ends():
    one, rng = dimension("train.ema_decay uniform 0.9999 0.99999"), np.random.default_rng(0)
    assert len({one.draw(rng) for _ in range(50)}) > 40


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 1000))
def test_a_key_of_whole_numbers_draws_whole_numbers(low, more, seed):
    for kind in ("uniform", "loguniform"):
        one = dimension(f"train.batch_size {kind} {low} {low + more}")
        assert low <= int(one.draw(np.random.default_rng(seed))) <= low + more


def test_both_ends_of_a_whole_range_are_drawn():
    one, rng = dimension("train.batch_size uniform 2 3"), np.random.default_rng(0)
    assert {one.draw(rng) for _ in range(50)} == {"2", "3"}


def test_loguniform_draws_as_often_below_the_geometric_mean_as_above():
    one, rng = dimension("train.lr loguniform 1e-4 1e-2"), np.random.default_rng(0)
    logs = [math.log10(float(one.draw(rng))) for _ in range(1000)]
    assert np.mean(np.array(logs) < -3) == pytest.approx(0.5, abs=0.05)


def test_a_dimension_counts_only_where_its_condition_holds():
    texts = [
        "model.fusion choice concat gated cross_attention",
        "model.attention_heads choice 1 8 if model.fusion=cross_attention",
        "model.alignment choice none scrambled if model.fusion=concat,gated",
    ]
    space = parse_space(CONFIG, texts)
    drawn = {"model.attention_heads": "8", "model.alignment": "none"}
    assert words(active(space, drawn | {"model.fusion": "cross_attention"})) == [
        "model.fusion=cross_attention",
        "model.attention_heads=8",
    ]
    assert words(active(space, drawn | {"model.fusion": "gated"})) == [
        "model.fusion=gated",
        "model.alignment=none",
    ]


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["train.lr"], r"'train\.lr' is no dimension; write KEY uniform LOW HIGH"),
        (["train.lr normal 0 1"], "is no dimension"),
        (["train.lr uniform 1"], "is no dimension|without its two ends"),
        (["train.lr uniform 1 2 3"], "without its two ends; write train.lr uniform LOW HIGH"),
        (["train.lr uniform small large"], "without its two ends"),
        (["train.lr uniform 2 1"], "finite numbers with LOW < HIGH"),
        (["train.lr uniform 0 inf"], "finite numbers"),
        (["train.lr loguniform 0 1"], "0 < LOW < HIGH"),
        (["train.batch_size uniform 1.5 4"], "whole ends, as train.batch_size holds whole"),
        (["model.fusion choice late late"], "names a value twice"),
        (["train.lr uniform 0 1", "train.lr uniform 0 2"], "two dimensions of train.lr"),
        (["train.lr uniform 0 1 if model.fusion"], "no condition after 'if'"),
        (["train.lr uniform 0 1 if model.fusion=late"], "no dimension before it"),
        (
            ["model.fusion choice concat gated", "train.lr uniform 0 1 if model.fusion=gatd"],
            "waits for model.fusion=gatd, which is never drawn; write one of concat, gated",
        ),
        (
            ["loss.focal_gamma uniform 0 3", "train.lr uniform 0 1 if loss.focal_gamma=0"],
            "waits for single values of loss.focal_gamma, which is a range",
        ),
    ],
)
def test_a_wrong_dimension_is_refused_in_one_sentence(texts: list[str], sentence: str):
    with pytest.raises(ValueError, match=sentence) as refused:
        parse_space(CONFIG, texts)
    assert "\n" not in str(refused.value)
