"""A rank opens 96,000 rows quickly and in little memory: what the rows hold is not touched."""

import pytest

from benchmarks.opening import multiply, open_in_process


@pytest.mark.slow
def test_opening_96000_rows_takes_a_fraction_of_a_second_and_a_few_megabytes(
    tmp_path, random_row, write_prepared
):
    rows = [random_row(number, 20) for number in range(48)]
    small = write_prepared(tmp_path / "small", {"train": [rows]})
    assert multiply(small, tmp_path / "large", num_rows=96_000) == 96_000
    costs = open_in_process(tmp_path / "large")
    assert costs["rows"] == 96_000
    # On an idle machine 0.3 s and 60 MB; twice the time, as tests share the machine.
    assert costs["cpu_s"] < 0.6
    assert costs["memory_mb"] < 60
