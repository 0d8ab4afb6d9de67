"""Rows of an ablation that ended badly say so, and no number stands where there is none."""

import math

from pipeline.experiments.variants_table import Line, latex, variants_markdown
from pipeline.metrics.bootstrap import Interval

AP = Interval(value=0.5, low=0.4, high=0.6, num_scenes=20)
FULL = Line(
    name="full",
    changes="",
    status="finished",
    values={"point_ap": AP},
    by_seed={"point_ap": [0.4, 0.6]},
    differences={},
    num_parameters=3_000,
    frames_per_s=12.34,
    run_ids=["8f3ab2c1d0"],
)
STOPPED = Line(
    name="simple",
    changes="model.name=simple",
    status="collapsed (3 of 3)",
    values={},
    by_seed={},
    differences={},
    num_parameters=1_146_497,
    frames_per_s=math.nan,
    run_ids=["77aa"],
)


def lines_of(text: str, name: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_row_whose_guard_fired_says_so_in_place_of_numbers():
    text = variants_markdown([FULL, STOPPED], ["point_ap"], reference="full")
    values, made_of = lines_of(text, "simple")
    assert values == ["simple", "collapsed (3 of 3)"]
    assert made_of == ["simple", "model.name=simple", "1,146,497", "", "77aa"]
    assert "nan" not in text
    assert "collapsed (3 of 3)" in latex([FULL, STOPPED], ["point_ap"])


def test_a_finished_row_has_its_interval_and_its_spread_over_seeds():
    values, made_of = lines_of(variants_markdown([FULL], ["point_ap"], reference="full"), "full")
    assert values == ["full", "0.500 [0.400, 0.600] +- 0.141"]
    assert made_of[3] == "12.3"
