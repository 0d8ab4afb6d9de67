"""A tier that was stopped goes on with what has not passed."""

import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
import os
from pathlib import Path
from tests.helpers.long_tier import Record

def pytest_configure(config):
    writes = not hasattr(config, "workerinput")
    record = Record(Path("runs/long.csv"), os.environ["REVISION"], writes=writes)
    config.pluginmanager.register(record)
"""
TESTS = """
import os
import pytest

def test_passes(): pass

def test_fails(): assert "CURED" in os.environ

@pytest.fixture
def broken(): assert "CURED" in os.environ

def test_is_not_even_started(broken): pass
"""


@pytest.fixture
def start(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """`start(revision, *options)`: a pytest of its own, over the tests above."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(revision: str, *options: str) -> pytest.RunResult:
        monkeypatch.setenv("REVISION", revision)
        return pytester.runpytest_inprocess(*options)

    return run


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "1")], ids=["alone", "xdist"])
def test_what_passed_is_not_run_again_and_an_empty_rest_is_no_failure(
    start, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
):
    first = start("abc", *options)
    first.assert_outcomes(passed=1, failed=1, errors=1)
    first.stdout.fnmatch_lines(["| *::test_fails | failed | 0 | 20* |"])
    start("abc", *options).assert_outcomes(failed=1, errors=1, deselected=0 if options else 1)
    monkeypatch.setenv("CURED", "1")
    second = start("abc", *options)
    second.assert_outcomes(passed=2, deselected=0 if options else 1)
    second.stdout.fnmatch_lines(["| *::test_passes | passed | 0 | 20* |"])
    third = start("abc", *options)
    third.assert_outcomes(deselected=0 if options else 3)
    assert third.ret == 0


def test_results_of_another_program_do_not_count(start):
    for revision in ("abc", "another", "abc+changes", "abc+changes"):
        start(revision).assert_outcomes(passed=1, failed=1, errors=1)


def test_a_tier_without_tests_still_fails(start):
    done = start("abc", "-k", "nothing")
    assert done.ret == pytest.ExitCode.NO_TESTS_COLLECTED
