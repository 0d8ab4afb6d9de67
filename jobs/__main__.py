"""One command for every job: `anovox NAME --config FILE key=value ...`, or `python -m jobs NAME`.

Only the named job is imported; what the others do is read from their files.
"""

import ast
import difflib
import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from jobs.command import run, show
from pipeline.config.reference import JOBS

COMMAND = "anovox"
_HELP = ("-h", "--help")


def main() -> None:
    """Run the job that the first word names on the words after it."""
    program = COMMAND if Path(sys.argv[0]).stem == COMMAND else "python -m jobs"
    name, *words = sys.argv[1:] or _HELP[:1]
    if name in _HELP:
        show("\n".join(_overview(program)) + "\n")
    elif name not in JOBS:
        sys.exit(_refused(name))
    else:
        # As `python -m jobs.NAME` has it: a search records the words after the job's name.
        sys.argv = [f"{program} {name}", *words]
        run(name, importlib.import_module(f"jobs.{name}").work, program=sys.argv[0])


def _overview(program: str) -> Iterator[str]:
    """Every job with the first paragraph of its file."""
    yield f"usage: {program} JOB [--config FILE] [key.path=value ...]"
    yield f"       {program} JOB --help [SECTION]\n\njobs:\n"
    for name in JOBS:
        source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        text = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0]
        line = f"{name:<12}{' '.join(text.split())}"
        yield textwrap.fill(line, 100, initial_indent="  ", subsequent_indent=" " * 14)


def _refused(name: str) -> int:
    (nearest,) = difflib.get_close_matches(name, JOBS, n=1, cutoff=0.0)
    text = f"unknown job {name!r}; did you mean {nearest!r}? The jobs are {', '.join(JOBS)}"
    print(f"{COMMAND}: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
