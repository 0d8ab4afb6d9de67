"""Kill a job again and again, as a power cut would, and start it again with the same command."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.helpers.repository import REPOSITORY


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When a job is killed: so long after it first says `after` (empty: after its start)."""

    after: str = ""
    delay_s: float


@dataclass(kw_only=True)
class Life:
    """One start of the job, with all that it said on stderr."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    stdout: str = ""

    @property
    def killed(self) -> bool:
        """Or it ended by itself before its moment came."""
        return self.process.returncode == -signal.SIGKILL

    @property
    def facts(self) -> dict[str, Any]:
        """The job's last line on stdout."""
        return json.loads(self.stdout.splitlines()[-1])


def lives(
    command: Sequence[str],
    moments: Sequence[Moment],
    *,
    environment: Mapping[str, str],
    timeout_s: float = 600,
) -> Iterator[Life]:
    """Start the job, kill it at the first moment, start it again, and so on.

    The last life is the one that is not killed: after the last moment, or because the job was done
    before its moment. The whole process group gets SIGKILL at once, Ray's processes with it.
    """
    for moment in [*moments, None]:
        life = _start(command, environment)
        try:
            _live(life, moment, timeout_s)
        finally:
            _kill_group(life.process)
        yield life
        if not life.killed:
            return


def _start(command: Sequence[str], environment: Mapping[str, str]) -> Life:
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=dict(environment), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    life = Life(process=process)
    threading.Thread(target=_listen, args=(life,), daemon=True).start()
    return life


def _listen(life: Life) -> None:
    assert life.process.stderr is not None
    for line in life.process.stderr:
        life.lines.append(line.rstrip())


def _live(life: Life, moment: Moment | None, timeout_s: float) -> None:
    """Until the job ends or its moment comes."""
    end = time.monotonic() + timeout_s
    kill_at = None
    while life.process.poll() is None:
        assert time.monotonic() < end, "\n".join(life.lines)
        said = moment is not None and any(moment.after in line for line in ["", *life.lines])
        if moment is not None and said and kill_at is None:
            kill_at = time.monotonic() + moment.delay_s
        if kill_at is not None and time.monotonic() >= kill_at:
            return
        time.sleep(0.02)
    assert life.process.stdout is not None
    life.stdout = life.process.stdout.read()


def _kill_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
