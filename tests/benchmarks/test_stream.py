"""Ray Data's defaults, the stream and the blocks bring the same frames and are timed."""

import re
from pathlib import Path

import pytest

from benchmarks import stream
from pipeline.config.schema import Config


@pytest.mark.slow
def test_three_ways_to_read_are_equal_and_timed(tiny_config: Config, tmp_path: Path):
    lines = stream.measure(tiny_config, tmp_path, num_epochs=2, rounds=1)
    assert [line.split(":")[0] for line in lines] == ["blocks", "stream", "defaults"]
    for line in lines:
        numbers = [float(number) for number in re.findall(r"[\d.]+", line)]
        assert len(numbers) == 12
        assert min(numbers) >= 0
