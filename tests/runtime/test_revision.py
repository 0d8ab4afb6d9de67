"""A result names the commit that made it, and says when the program was another one."""

import subprocess
from pathlib import Path

import pytest

from pipeline.runtime import revision
from pipeline.runtime.revision import git_revision, short_revision


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANOVOX_REVISION", raising=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("pipeline/a.py", "jobs/b.py", "requirements.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("first")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    who = ("-c", "user.name=n", "-c", "user.email=n@localhost")
    git(tmp_path, *who, "commit", "--quiet", "--message", "first")
    return tmp_path


def git(repository: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=repository, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_what_jobs_leave_beside_the_program_does_not_change_it(repository: Path):
    for name in ("mlflow.db", ".mlflow.db.lock", "notes.txt", "my.yaml"):
        (repository / name).write_text("of a job or of a user")
    assert git_revision(repository) == git(repository, "rev-parse", "HEAD")


@pytest.mark.parametrize("name", ["pipeline/a.py", "jobs/b.py", "requirements.txt", "jobs/new.py"])
def test_a_changed_or_new_file_of_the_program_shows(repository: Path, name: str):
    (repository / name).write_text("second")
    assert git_revision(repository) == git(repository, "rev-parse", "HEAD") + "+changes"


def test_without_git_the_revision_is_unknown_unless_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert git_revision(tmp_path) == "unknown"
    monkeypatch.setenv("ANOVOX_REVISION", "abc")
    assert git_revision(tmp_path) == "abc"


def test_a_program_installed_inside_of_another_repository_does_not_name_its_commit(
    repository: Path,
):
    installed = repository / ".venv" / "site-packages"
    for name in ("pipeline", "jobs"):
        (installed / name).mkdir(parents=True)
        (installed / name / "a.py").write_text("first")
    assert git_revision(installed) == "unknown"


@pytest.mark.parametrize(
    ("whole", "short"),
    [
        ("0123456789abcdef", "0123456789ab"),
        ("0123456789abcdef+changes", "0123456789ab+changes"),
        ("unknown", "unknown"),
    ],
)
def test_a_short_revision_still_says_that_the_program_differs(
    monkeypatch: pytest.MonkeyPatch, whole: str, short: str
):
    monkeypatch.setattr(revision, "git_revision", lambda: whole)
    assert short_revision() == short
