"""Python processes that begin with the tracking imported: forks of one that imported it once.

For tests of what processes do to each other, none of which needs seconds of an import of its own.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.helpers.repository import REPOSITORY

SERVER = """
import json, os, socket, sys
from pipeline.tracking import runs
from pipeline.config.schema import TrackingConfig
# A store that no fork uses: what MLflow does once per process is done here.
runs.start_run(TrackingConfig(uri=sys.argv[2]), name="warm", params={}, tags={})
import gc; gc.freeze()
asked = socket.socket(fileno=int(sys.argv[1]))
while True:
    message, fds, _, _ = socket.recv_fds(asked, 1 << 16, 2)
    if not message:
        sys.exit()
    if os.fork() == 0:
        break
    for fd in fds:
        os.close(fd)
asked.close()
output, told = fds
if job := os.fork():
    os.close(output)
    os.write(told, b"%d\\n" % job)
    os.write(told, b"%d\\n" % os.waitstatus_to_exitcode(os.waitpid(job, 0)[1]))
    os._exit(0)
os.dup2(output, 1)
os.close(output)
os.close(told)
code, *sys.argv[1:] = json.loads(message)
exec(code)
"""


class Job:
    """Used as a `subprocess.Popen`."""

    def __init__(self, requests: socket.socket, code: str, *arguments: str) -> None:
        (output, job_output), (told, job_told) = os.pipe(), os.pipe()
        self.stdout, self._told = os.fdopen(output), os.fdopen(told)
        message = json.dumps([code, *arguments]).encode()
        socket.send_fds(requests, [message], [job_output, job_told])
        os.close(job_output)
        os.close(job_told)
        self.pid = int(self._told.readline())
        self.returncode: int | None = None

    def poll(self, timeout: float = 0) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], timeout)[0]:
            self.returncode = int(self._told.readline())
        return self.returncode

    def wait(self, timeout: float) -> int:
        code = self.poll(timeout)
        if code is None:
            self.send_signal(signal.SIGKILL)
            raise TimeoutError(f"process {self.pid} did not end in {timeout:g} s")
        return code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


@contextmanager
def forks(uri: str) -> Iterator[Callable[..., Job]]:
    """`with forks(uri of a store) as start: job = start(code, *arguments)`."""
    ours, its = socket.socketpair()
    with ours, its:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(its.fileno()), uri],
            cwd=REPOSITORY, pass_fds=[its.fileno()], preexec_fn=own_signals,
        )  # fmt: skip
        its.close()
        yield lambda code, *arguments: Job(ours, code, *arguments)
    assert server.wait(timeout=60) == 0


def own_signals() -> None:
    """A process inherits what its parent ignores, and the tests' own process is none of this."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
