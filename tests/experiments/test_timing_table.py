"""Medians, quantiles and paired ratios of hand-made costs, as text and as CSV."""

import csv
import dataclasses
import math
from pathlib import Path

import pytest

from pipeline.experiments.timing_table import Cost, ratio, timings_markdown, write_timings_csv

FIRST = Cost(
    name="full",
    changes="",
    num_parameters=2_000,
    num_trained=1_000,
    forward_frames_per_s=[10.0, 20.0, 40.0],
    training_frames_per_s=[4.0, 5.0, 9.0],
    latency_ms=[float(number) for number in range(101)],
    peak_memory_gb=1.25,
)
# Half as fast in every round, each of which was disturbed otherwise.
SLOW = dataclasses.replace(
    FIRST,
    name="slow",
    changes="model.dropout=0",
    forward_frames_per_s=[5.0, 10.0, 20.0],
    training_frames_per_s=[4.0, 2.5, 18.0],
)


def on_cpu(cost: Cost) -> Cost:
    return dataclasses.replace(cost, peak_memory_gb=math.nan)


def test_figures_are_medians_over_rounds_and_quantiles_over_frames():
    assert FIRST.figures() == {
        "num_parameters": 2_000,
        "num_trained": 1_000,
        "forward_frames_per_s": 20.0,
        "training_frames_per_s": 5.0,
        "latency_p50_ms": 50.0,
        "latency_p95_ms": 95.0,
        "peak_memory_gb": 1.25,
    }


def test_a_ratio_is_paired_so_that_what_disturbed_a_round_falls_out():
    steady = ratio(SLOW.forward_frames_per_s, FIRST.forward_frames_per_s)
    assert (steady.value, steady.low, steady.high) == (0.5, 0.5, 0.5)
    mixed = ratio(SLOW.training_frames_per_s, FIRST.training_frames_per_s)
    assert (mixed.value, mixed.low, mixed.high) == (1.0, 0.5, 2.0)


def test_the_table_says_both_and_what_each_row_changes():
    head, _, first, slow = timings_markdown([FIRST, SLOW]).splitlines()
    for words in ("forward over full", "training over full", "peak memory, GB"):
        assert words in head
    cells = [cell.strip() for cell in slow.strip("|").split("|")]
    assert cells[:6] == ["slow", "2,000", "1,000", "10.0", "0.50 [0.50, 0.50]", "4.00"]
    assert cells[6:] == ["1.00 [0.50, 2.00]", "50.0", "95.0", "1.25", "model.dropout=0"]
    assert "[" not in first


def test_what_was_not_measured_has_no_column():
    untrained = dataclasses.replace(on_cpu(FIRST), training_frames_per_s=[math.nan] * 3)
    text = timings_markdown([untrained, dataclasses.replace(untrained, name="other")])
    assert "peak memory" not in text
    assert "training" not in text
    assert "nan" not in text


def test_the_csv_holds_every_figure_and_where_it_is_from(tmp_path: Path):
    path = write_timings_csv([FIRST, SLOW], tmp_path / "costs.csv", facts={"split_hash": "5b1f"})
    with path.open() as file:
        first, slow = csv.DictReader(file)
    assert slow["row"] == "slow"
    assert float(slow["forward_ratio"]) == pytest.approx(0.5)
    assert float(slow["training_ratio_high"]) == pytest.approx(2.0)
    assert float(first["forward_ratio"]) == 1.0
    assert (slow["num_latencies"], slow["split_hash"]) == ("101", "5b1f")
    assert float(slow["latency_p95_ms"]) == 95.0
