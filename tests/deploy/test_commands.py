"""The command lines of deploy/README.md are ones that the jobs take."""

import re
import shlex

import pytest

from pipeline.config.load import load
from tests.helpers.repository import REPOSITORY

TEXT = (REPOSITORY / "deploy" / "README.md").read_text()
SUBMITTED = [
    line.strip() for line in TEXT.splitlines() if "ray job submit" in line and " -- " in line
]


def job_of(line: str) -> str:
    found = re.search(r"python -m jobs\.(\w+)", line)
    assert found, line
    return found[1]


def test_every_job_has_its_line():
    shells = {"__init__", "__main__", "command", "progress"}
    jobs = {path.stem for path in (REPOSITORY / "jobs").glob("*.py")} - shells
    assert {job_of(line) for line in SUBMITTED} == jobs


@pytest.mark.parametrize("line", SUBMITTED, ids=job_of)
def test_a_line_sends_the_token_and_a_config_with_absolute_paths(
    line: str, monkeypatch: pytest.MonkeyPatch
):
    assert line.startswith("RAY_AUTH_MODE=token ray job submit --working-dir . ")
    words = shlex.split(line.split(f"jobs.{job_of(line)} ", 1)[1])
    path = None
    if words[0] == "--config":
        path, words = REPOSITORY / words[1], words[2:]
    # As inside a submitted job, where a relative path is refused.
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    config = load(path, words)
    assert config.tracking.uri.startswith("http://")


def test_the_storage_of_a_bucket_is_a_legal_config():
    (line,) = [line.strip() for line in TEXT.splitlines() if "storage_path=s3" in line]
    config = load(None, shlex.split(line))
    assert config.storage_mirror == "s3://BUCKET/runs"
