"""The shell of every job: exit codes, one sentence on stderr, JSON as the last line of stdout."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import command
from pipeline.failures import RunFailed


def outcome(work, arguments: list[str], capsys: pytest.CaptureFixture) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        command.run("example", work, arguments)
    captured = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, captured.out, captured.err


def test_the_last_line_of_stdout_is_the_result_as_json(capsys):
    code, out, _ = outcome(lambda config: {"run_id": "abc"}, [], capsys)
    assert code == 0
    assert json.loads(out.splitlines()[-1]) == {"status": "finished", "run_id": "abc"}


def test_an_unknown_key_ends_with_2_before_anything_starts(capsys):
    def never(config):
        raise AssertionError

    code, out, err = outcome(never, ["train.lrr=1"], capsys)
    assert (code, out) == (2, "")
    assert err.strip() == "example: unknown key 'train.lrr'; did you mean 'train.lr'?"


def test_a_users_mistake_during_the_work_is_one_sentence_and_exit_1(capsys):
    def work(config):
        raise ValueError("archive x is empty; extract it again")

    code, out, err = outcome(work, [], capsys)
    assert code == 1
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "example: archive x is empty; extract it again"
    assert json.loads(out)["status"] == "failed"


def test_a_failed_run_carries_its_reason_and_facts(capsys):
    def work(config):
        raise RunFailed("flat scores", reason="collapsed", facts={"run_id": "r1"})

    code, out, _ = outcome(work, [], capsys)
    assert code == 1
    assert json.loads(out) == {"status": "failed", "reason": "collapsed", "run_id": "r1"}


def test_a_path_that_cannot_be_used_is_one_sentence(capsys, tmp_path: Path):
    (tmp_path / "file").write_text("")

    def work(config):
        (tmp_path / "file" / "folder").mkdir()
        return {}

    code, _, err = outcome(work, [], capsys)
    assert code == 1
    assert "Traceback" not in err
    assert str(tmp_path / "file") in err
    assert "check the path" in err


def test_an_interrupt_ends_with_130(capsys):
    def work(config):
        raise KeyboardInterrupt

    assert outcome(work, [], capsys)[0] == 130


def test_a_defect_of_the_program_shows_its_traceback_and_fails(capsys, caplog):
    def work(config):
        raise RuntimeError("boom")

    code, out, _ = outcome(work, [], capsys)
    assert code == 1
    assert json.loads(out)["reason"] == "error"
    assert "boom" in caplog.text


@pytest.mark.parametrize(
    "name",
    sorted(
        path.stem
        for path in Path("jobs").glob("*.py")
        if path.stem not in ("__init__", "command", "progress")
    ),
)
def test_every_job_starts_as_a_module_and_refuses_a_typo(name: str):
    done = subprocess.run(
        [sys.executable, "-m", f"jobs.{name}", "trian.lr=1"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "unknown key 'trian.lr'; did you mean 'train.lr'?" in done.stderr
    assert "Traceback" not in done.stderr
