"""The shell of every job: arguments, one-sentence errors, exit codes, the JSON last line.

Exit codes: 0 done, 1 the work failed, 2 the command line or config is wrong (nothing was started),
130 interrupted.

Arguments are read before the work is imported: torch, Ray, MLflow and pyarrow take seconds, and
`--help` or a typo needs none of them. So a job's file imports its work inside `work`, and this one
imports where it needs.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.config.schema import Config
from pipeline.runtime.errors import RunFailed

logger = logging.getLogger(__name__)
Work = Callable[[Config], dict[str, Any]]


def run(
    name: str, work: Work, argv: Sequence[str] | None = None, *, program: str | None = None
) -> None:
    """Run one job and exit with its code; the last line on stdout is its result as JSON.

    `program` is how the job was called, for its help; without it, `python -m jobs.NAME`.
    """
    sys.exit(_run(name, work, argv, program or f"python -m jobs.{name}"))


def _run(name: str, work: Work, argv: Sequence[str] | None, program: str) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    arguments = _parse(name, argv, program, sys.modules[work.__module__].__doc__)
    from pipeline.config.load import load

    try:
        config = load(arguments.config, arguments.overrides)
    except ValueError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    if arguments.print_config:
        show(_yaml(config))
        return 0
    print(f"{name}: {_changes(config)}", file=sys.stderr)
    from pipeline.runtime import remote_storage

    result, code = _guarded(name, work, config)
    sys.stderr.flush()
    print(json.dumps(remote_storage.to_remote_uris(config, result)), flush=True)
    return code


def _changes(config: Config) -> str:
    """The resolved config, as far as it differs from the defaults, as overrides."""
    from pipeline.config.load import flatten

    defaults = flatten(Config())
    changed = {k: v for k, v in flatten(config).items() if v != defaults[k]}
    return "config: " + " ".join(f"{key}={value}" for key, value in changed.items())


def _yaml(config: Config) -> str:
    import yaml

    from pipeline.config.load import as_written

    return yaml.safe_dump(as_written(config), sort_keys=False, allow_unicode=True)


def show(text: str) -> None:
    """Print to whoever reads on; `... | head` closes the pipe before the end."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        # Python flushes once more at its end, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _guarded(name: str, work: Work, config: Config) -> tuple[dict[str, Any], int]:
    from pipeline.runtime import remote_storage

    try:
        with remote_storage.synced(config):
            return {"status": "finished"} | work(config), 0
    except RunFailed as error:
        print(f"{name}: {error}", file=sys.stderr)
        return {"status": "failed", "reason": error.reason, **error.facts}, 1
    except ValueError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return {"status": "failed", "reason": "bad_input"}, 1
    except OSError as error:
        place = error.filename or "a file"
        print(
            f"{name}: {place}: {error.strerror or error}; check the path, its permissions and the "
            "free disk space",
            file=sys.stderr,
        )
        return {"status": "failed", "reason": "bad_input"}, 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return {"status": "failed", "reason": "interrupted"}, 130
    except Exception:
        logger.exception(
            "%s failed by a defect of this program; please report the lines above", name
        )
        return {"status": "failed", "reason": "error"}, 1


def _parse(
    name: str, argv: Sequence[str] | None, program: str, description: str | None
) -> argparse.Namespace:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("--config", help="YAML file that says what differs from the defaults")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.path=value", help="settings, see below"
    )
    parser.add_argument("--print-config", action="store_true", help="print all settings as YAML")
    parser.add_argument(
        *("-h", "--help"), nargs="?", const="", metavar="SECTION",
        help="this, or the settings of one section",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.help is not None:
        _help(parser, name, arguments.help)
    return arguments


def _help(parser: argparse.ArgumentParser, name: str, section: str) -> None:
    """Print the job's settings, or those of one section, and exit."""
    from pipeline.config.reference import JOBS, help_text, sections

    if section and section not in sections():
        parser.error(f"--help {section}: the sections are {', '.join(filter(None, sections()))}")
    if section:
        show(help_text([section]))
    else:
        show(f"{parser.format_help()}\nsettings:\n\n{help_text(['', *JOBS.get(name, ())])}")
    sys.exit(0)
