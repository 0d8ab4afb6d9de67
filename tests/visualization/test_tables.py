import csv
import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.visualization import tables
from pipeline.visualization.tables import Row


def row(**changes: object) -> Row:
    first = Row(
        model="concat",
        metric="test/point_ap",
        value=0.47123,
        low=0.412,
        high=0.53,
        constant=0.0033,
        baseline=0.12,
        split_hash="5b1f00c9aa",
        run_id="8f3ab2c1d0",
    )
    return dataclasses.replace(first, **changes)  # type: ignore[arg-type]


def test_a_table_is_aligned_and_says_where_its_numbers_are_from() -> None:
    rows = [
        row(),
        row(model="lidar_only", value=0.0123, low=0.0091, high=0.0182, run_id="77aa"),
        row(
            metric="test/frame_ap", value=math.nan, low=math.nan, high=math.nan, constant=math.nan,
            baseline=math.nan, remark="no positive item",
        ),
    ]  # fmt: skip
    assert tables.results_markdown(rows) == (
        "| model      | metric        |     value |  95 % interval | constant predictor | baseline"
        " | remark           |\n"
        "| ---------- | ------------- | --------: | -------------: | -----------------: | -------:"
        " | ---------------- |\n"
        "| concat     | test/point_ap |     0.471 | 0.412 to 0.530 |             0.0033 |    0.120"
        " |                  |\n"
        "| lidar_only | test/point_ap |     0.012 | 0.009 to 0.018 |             0.0033 |    0.120"
        " |                  |\n"
        "| concat     | test/frame_ap | undefined |                |                    |         "
        " | no positive item |\n"
        "\n"
        "split 5b1f00c9, concat is run 8f3ab2c1, lidar_only is run 77aa"
    )


def test_columns_without_any_number_are_left_out() -> None:
    text = tables.results_markdown([row(baseline=math.nan, low=math.nan, high=math.nan)])
    assert "baseline" not in text
    assert "interval" not in text
    assert "constant predictor" in text


def test_rows_of_different_splits_are_refused(tmp_path: Path) -> None:
    rows = [row(), row(model="lidar_only", split_hash="77aa")]
    for write in (
        tables.results_markdown,
        lambda rows: tables.write_results_csv(rows, tmp_path / "t.csv"),
    ):
        with pytest.raises(
            ValueError, match=r"from 2 splits \(5b1f00c9aa, 77aa\).* evaluate every"
        ):
            write(rows)
    assert not (tmp_path / "t.csv").exists()


def test_a_table_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        tables.results_markdown([])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(), st.floats(), st.text("ab,\"'|\n", max_size=5)), min_size=1))
def test_a_csv_holds_every_number_exactly(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[float, float, str]]
) -> None:
    rows = [row(value=value, low=low, remark=remark) for value, low, remark in values]
    path = tables.write_results_csv(rows, tmp_path_factory.mktemp("csv") / "deeper" / "results.csv")
    with path.open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    for found, wanted in zip(read, rows, strict=True):
        assert repr(float(found["value"])) == repr(wanted.value)
        assert repr(float(found["low"])) == repr(wanted.low)
        assert found["remark"] == wanted.remark
        assert found["split_hash"] == wanted.split_hash


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-6, 1e6))
def test_a_number_keeps_two_significant_digits(value: float) -> None:
    assert float(tables.sensible(value).replace(",", "")) == pytest.approx(value, rel=0.051)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.47123, "0.471"),
        (0.00334, "0.0033"),
        (0.0, "0.000"),
        (1.0, "1.000"),
        (-0.0512, "-0.051"),
        (12345.67, "12,345.7"),
        (12345, "12,345"),
        (math.nan, ""),
        (math.inf, "inf"),
    ],
)
def test_numbers_have_sensible_digits(value: float, text: str) -> None:
    assert tables.sensible(value) == text


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.text("ab1|.-", max_size=8), min_size=2, max_size=2), max_size=5))
def test_every_line_of_a_table_has_the_same_width(lines: list[list[str]]) -> None:
    text = tables.aligned(["name", "number"], lines)
    assert len({len(line) for line in text.splitlines()}) == 1
    assert len(text.splitlines()) == len(lines) + 2
    for line in text.splitlines():
        assert line.replace("\\|", "").count("|") == 3
