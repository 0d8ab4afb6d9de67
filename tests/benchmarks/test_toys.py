"""Benchmarks run, at toy size, and what they compare is equal."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import evaluation, gpu, reader_training, train
from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.training.data_loop import BlockSteps
from tests.helpers.tiny_world import TINY_PREPARE, TINY_WORLD


def test_the_reader_in_training_is_held_against_equal_batches(tiny_config: Config, tmp_path: Path):
    line = reader_training.measure(tiny_config, tmp_path, rounds=2)
    assert re.search(r"ours \d+, before \d+, dataloader \d+, ego box \d+, memcpy \d+; ", line), line
    assert "ours / before" in line


def test_a_training_that_sleeps_is_timed_with_both_readers(
    tiny_config: Config, tiny_blocks: Path, tmp_path: Path
):
    config = merge(tiny_config, train.changes(tmp_path, num_steps=5))
    for side in (BlockSteps, train.MockSteps):
        rate = train.rate(config, tiny_blocks, 0.02, side)
        assert 5 < rate < 50


@pytest.mark.slow
def test_training_with_the_real_reader_is_held_against_the_mock(
    tiny_config: Config, tiny_blocks: Path, tmp_path: Path
):
    config = merge(tiny_config, train.changes(tmp_path, num_steps=3))
    lines = train.measure(config, tiny_blocks, rounds=1).splitlines()
    assert re.search(r"ms CPU per batch; steps of [\d.]+ ms: real / mock [\d.]+ \(", lines[0])
    assert all(re.fullmatch(r"steps of [\d.]+ ms: [\d.]+", line) for line in lines[1:])
    assert len(lines) > 1


@pytest.mark.slow
def test_scoring_is_held_against_the_forward_passes(small_training: Config):
    found = evaluation.compare(small_training, num_frames=4, rounds=2)
    assert found["num_frames"] == 4
    for what in ("wall", "cpu"):
        low, high = found[f"ratio_{what}_min_max"]
        assert 0 < low <= found[f"ratio_{what}"] <= high
        assert min(found[f"forward_{what}_ms"], found[f"scoring_{what}_ms"]) > 0


@pytest.mark.long
def test_the_evaluation_of_a_toy_is_told_by_its_parts(capsys: pytest.CaptureFixture):
    evaluation.main(["--toy", "--frames", "4", "--rounds", "1", "--job"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["num_frames"] == 4
    named = {name for names in evaluation.PARTS.values() for name in names}
    assert set(found["job_s"]) == named | {"imports", "all"}
    assert found["job_s"]["all"] > found["job_s"]["score_splits"] > 0


@pytest.mark.slow
def test_the_gpu_table_has_every_column_and_is_empty_where_only_a_gpu_could_measure(tmp_path: Path):
    small = {
        "synthetic": dataclasses.asdict(TINY_WORLD),
        "prepare": TINY_PREPARE | {"image_crop": [0.0, 1.0]},
        "model": {"image_channels": 8, "point_channels": 8},
    }
    rows = gpu.run(["demo"], tmp_path, num_steps=12, smaller=small)
    assert [row.name for row in rows] == ["demo", "demo fp32", "demo bf16"]
    assert [row.precision for row in rows[1:]] == ["fp32", "bf16"]
    for row in rows:
        assert row.frames_per_s > 0
        assert row.step_ms > 0
        assert 0 <= row.data_wait <= 1
        assert math.isnan(row.gpu_idle)
        assert math.isnan(row.memory_gb)
        assert row.top_kernels == ""
    assert list(pd.read_csv(tmp_path / "table.csv").columns) == list(gpu.HEADER)
    names = {path.name for path in tmp_path.glob("*.json")}
    assert names == {"demo.json", "demo-fp32.json", "demo-bf16.json"}


def test_kernels_beside_each_other_are_busy_once(tmp_path: Path):
    """One from 0 to 40, one inside it, one from 60 to 100: a fifth of the span is idle."""
    kernels = [("gemm", 0, 40), ("copy", 10, 20), ("gemm", 60, 40)]
    events = [{"cat": "kernel", "name": n, "ts": ts, "dur": dur} for n, ts, dur in kernels]
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps({"traceEvents": [*events, {"cat": "cpu_op", "ts": 0, "dur": 900}]}))
    found = gpu.kernels_of(trace)
    assert found.idle == pytest.approx(0.2)
    assert found.top == [("gemm", pytest.approx(0.8)), ("copy", pytest.approx(0.2))]


def test_what_needs_cuda_is_no_row_of_a_cpu():
    assert set(gpu.rows_of(gpu.CONFIGS, on_gpu=False)) == {*gpu.CONFIGS, "full fp32", "full bf16"}
    assert "full compiled" in gpu.rows_of(gpu.CONFIGS, on_gpu=True)
