"""Git revision recorded with every result."""

import os
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PROGRAM = ("pipeline", "jobs", "requirements.txt")
"""What a result depends on beside its config and data; anything else may lie about."""
CHANGES = "+changes"
SHORT = 12


def git_revision(repository: Path = REPOSITORY) -> str:
    """The commit, with `+changes` when the program differs from it; `unknown` without git.

    Unknown, too, of an installed program: a repository around its environment is another one's.
    Ray leaves `.git` out of a submitted working folder: set ANOVOX_REVISION there.
    """
    given = os.environ.get("ANOVOX_REVISION")
    if given:
        return given

    def ask(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=repository, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        ask("ls-files", "--error-unmatch", "--", *PROGRAM[:2])
        changes = ask("status", "--porcelain", "--", *PROGRAM)
        return ask("rev-parse", "HEAD") + (CHANGES if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def short_revision() -> str:
    """The same for a line of text: twelve digits, and whether the program differs."""
    revision = git_revision()
    mark = CHANGES if revision.endswith(CHANGES) else ""
    return revision.removesuffix(mark)[:SHORT] + mark
