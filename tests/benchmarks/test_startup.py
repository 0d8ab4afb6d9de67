"""The benchmark of what is paid before the work begins, at toy size."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.startup import job_names, main, opening, process, short, trials
from pipeline.config.load import merge
from pipeline.config.schema import Config


def test_every_file_of_jobs_that_is_one_is_timed():
    assert {"prepare", "train", "tune"} <= set(job_names())
    assert not {"command", "progress", "__init__", "__main__"} & set(job_names())


def test_a_process_is_timed_with_all_that_it_started():
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    times = process(["-c", child], rounds=1)
    assert 0.3 <= times["cpu_s"] < 3.0
    assert times["wall_s"] > 0.3


def test_a_process_that_breaks_is_not_timed():
    with pytest.raises(RuntimeError, match="boom"):
        process(["-c", "raise SystemError('boom')"], rounds=1)


def test_opening_finds_and_opens_the_train_split(tiny_config: Config):
    times = opening(tiny_config, rounds=2)
    assert times["num_rows"] > 0
    assert times["open_wall_s"] > times["find_wall_s"] >= 0


@pytest.mark.slow
def test_the_time_between_the_trials_of_a_search_is_told(
    small_training: Config, ray_session: None, tmp_path: Path
):
    small = merge(small_training, {"tracking": {"system_metrics": False}})
    found = trials(short(small, tmp_path, 3))
    assert found["num_trials"] == 3
    assert 0 < found["gap_s"] <= found["longest_gap_s"]
    # A process is made for the first trial only.
    assert found["gap_s"] < found["first_s"]
    assert found["trained_s"] > 0
    print(found, file=sys.stderr)


@pytest.mark.long
def test_start_up_is_told_at_toy_size(capsys: pytest.CaptureFixture):
    main(["--toy", "--rounds", "1", "--trials", "2"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    parts = [line["part"] for line in lines]
    assert parts == ["machine", "help", "help", "refused", "refused", "opening", "trials"]
    assert lines[-1]["num_trials"] == 2
