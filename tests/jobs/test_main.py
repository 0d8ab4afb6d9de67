"""One command for every job: the same answers as `python -m jobs.NAME`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import __main__ as main_module
from pipeline.config.reference import JOBS
from tests.helpers.repository import REPOSITORY
from tests.jobs.test_command import AS_A_MODULE, assert_light, run_alone


def test_the_help_lists_every_job_with_its_first_sentence_at_once():
    done, cpu_s = run_alone("-c", AS_A_MODULE, "jobs", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: python -m jobs JOB [--config FILE]")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [words[0] for words in lines if words and words[0] in JOBS] == list(JOBS)
    assert "  train       Train a detector on prepared shards and record the run" in done.stdout
    assert_light(done, cpu_s)


def test_without_a_job_it_is_the_help():
    done, _ = run_alone("-m", "jobs")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ")


@pytest.mark.parametrize(("written", "meant"), [("trian", "train"), ("eval", "evaluate")])
def test_an_unknown_job_is_answered_with_the_nearest(written: str, meant: str):
    done, cpu_s = run_alone("-c", AS_A_MODULE, "jobs", written)
    assert done.returncode == 2
    assert done.stderr == (
        f"anovox: unknown job {written!r}; did you mean {meant!r}? The jobs are {', '.join(JOBS)}\n"
    )
    assert_light(done, cpu_s)


def test_a_job_refuses_a_typo_and_imports_none_of_the_others():
    done, cpu_s = run_alone("-c", AS_A_MODULE, "jobs", "train", "trian.lr=1")
    assert done.returncode == 2
    assert done.stderr == "train: unknown key 'trian.lr'; did you mean 'train.lr'?\n"
    assert_light(done, cpu_s)


@pytest.mark.parametrize("name", JOBS)
def test_the_help_of_a_job_is_that_of_its_module_under_the_commands_name(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(sys, "argv", ["/anywhere/bin/anovox", name, "--help"])
    with pytest.raises(SystemExit) as ended:
        main_module.main()
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: anovox {name} [--config CONFIG]")
    first_line = (REPOSITORY / "jobs" / f"{name}.py").read_text().splitlines()[0].strip('"')
    assert first_line in shown


def test_a_job_does_its_work_and_ends_with_its_line_of_json(tmp_path: Path):
    tiny = ["num_scenes=1", "num_frames=1", "image_width=96", "image_height=64", "num_channels=8"]
    words = [f"data.root={tmp_path / 'anovox'}", *(f"synthetic.{one}" for one in tiny)]
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "synthesize", *words],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["status"] == "finished"
    assert facts["root"] == str(tmp_path / "anovox")


def test_a_search_records_the_words_after_the_jobs_name(monkeypatch: pytest.MonkeyPatch):
    heard = []
    monkeypatch.setattr(sys, "argv", ["anovox", "tune", "--config", "some.yaml"])
    monkeypatch.setattr(main_module, "run", lambda *_, **__: heard.extend(sys.argv[1:]))
    main_module.main()
    assert heard == ["--config", "some.yaml"]
