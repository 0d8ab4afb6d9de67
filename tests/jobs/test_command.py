"""The shell of every job: exit codes, one sentence on stderr, JSON as the last line of stdout."""

import ast
import importlib
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import command
from pipeline.config.load import load
from pipeline.config.reference import JOBS as JOB_SECTIONS
from pipeline.config.reference import settings
from pipeline.runtime.errors import RunFailed


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


JOBS = sorted(
    path.stem
    for path in Path("jobs").glob("*.py")
    if path.stem not in ("__init__", "__main__", "command", "progress")
)
HEAVY = {
    *("torch", "torchvision", "ray", "mlflow", "pyarrow", "pandas", "numpy", "sklearn", "scipy"),
    *("matplotlib", "PIL", "optuna"),
}
MAX_CPU_S = 1.0
"""Twice what is promised, as this machine may be busy; all of the above take 12 s and more."""
AS_A_MODULE = """
import atexit, runpy, sys
atexit.register(lambda: print(*sorted({name.split(".")[0] for name in sys.modules})))
name, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(name, run_name="__main__", alter_sys=True)
"""


def children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_alone(*words: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """A Python of its own, and the CPU seconds that it took."""
    before = children_cpu_s()
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=120, check=False
    )
    return done, children_cpu_s() - before


def assert_light(done: subprocess.CompletedProcess[str], cpu_s: float) -> None:
    """Nothing heavy was imported, and it took no time."""
    imported = set(done.stdout.splitlines()[-1].split())
    assert "argparse" in imported
    assert not imported & HEAVY
    assert cpu_s < MAX_CPU_S


@pytest.mark.parametrize("name", JOBS)
def test_every_job_starts_as_a_module_and_refuses_a_typo(name: str):
    done, cpu_s = run_alone("-c", AS_A_MODULE, f"jobs.{name}", "trian.lr=1")
    assert done.returncode == 2
    assert done.stderr == f"{name}: unknown key 'trian.lr'; did you mean 'train.lr'?\n"
    assert_light(done, cpu_s)


@pytest.mark.parametrize("name", JOBS)
def test_every_job_shows_its_help_at_once(name: str):
    done, cpu_s = run_alone("-c", AS_A_MODULE, f"jobs.{name}", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: python -m jobs.{name} ")
    assert_light(done, cpu_s)


@pytest.mark.parametrize("name", JOBS)
def test_the_help_of_a_job_has_every_key_of_its_sections(name: str, capsys):
    with pytest.raises(SystemExit) as ended:
        command.run(name, lambda config: {}, ["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for section in JOB_SECTIONS[name]:
        for one in settings(section):
            assert f"  {one.key}={one.default}  ({one.kind})\n" in told
    assert settings(JOB_SECTIONS[name][0])[0].sentence[:40] in told


def test_the_help_of_a_section_has_its_keys_alone(capsys):
    with pytest.raises(SystemExit):
        command.run("train", lambda config: {}, ["--help", "loss"])
    told = capsys.readouterr().out
    assert "loss.focal_gamma=2.0  (number)" in told
    assert "train.lr" not in told


def test_a_section_that_is_not_there_is_answered_with_those_that_are(capsys):
    with pytest.raises(SystemExit) as ended:
        command.run("train", lambda config: {}, ["--help", "losses"])
    assert ended.value.code == 2
    assert "--help losses: the sections are data, " in capsys.readouterr().err


def test_a_printed_config_is_the_same_config_again(capsys, tmp_path: Path):
    changes = ["train.lr=0.5", "data.poses=[a pose]"]
    remote = ["storage_path=file:///tmp/there", f"storage_cache={tmp_path}"]
    for words in (changes, [*changes, *remote]):
        code, out, _ = outcome(lambda config: {}, ["--print-config", *words], capsys)
        assert code == 0
        (tmp_path / "printed.yaml").write_text(out)
        assert load(tmp_path / "printed.yaml") == load(None, words)


def test_help_for_a_reader_that_stops_ends_without_a_traceback():
    command = f"{sys.executable} -m jobs.train --help | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage: ")
    assert done.stderr == ""


def test_a_broken_rule_and_a_missing_file_are_answered_at_once():
    for words in (["train.lr=-1"], ["--config", "nowhere.yaml"]):
        done, cpu_s = run_alone("-c", AS_A_MODULE, "jobs.train", *words)
        assert done.returncode == 2
        assert_light(done, cpu_s)


@pytest.mark.parametrize("name", JOBS)
def test_what_a_job_imports_for_its_work_is_there(name: str):
    tree = ast.parse(Path("jobs", f"{name}.py").read_text())
    late = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.col_offset]
    assert late
    for node in late:
        module = importlib.import_module(str(node.module))
        assert all(hasattr(module, alias.name) for alias in node.names)
