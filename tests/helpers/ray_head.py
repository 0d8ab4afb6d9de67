"""A head with a token of its own, started as cluster.yaml starts it, for tests of clusters."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

SCRIPTS = Path(sys.executable).parent
ASK_TWICE = {"RAY_NUM_REDIS_GET_RETRIES": "2"}
"""For a process that a cluster refuses: Ray would ask twenty times, once a second."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """A running head."""

    gcs: str
    dashboard: str
    environment: dict[str, str]
    """With token mode and the token's file; the venv comes first on PATH."""

    def submit(self, *words: str, timeout_s: float = 200, **changes: str):
        """`ray job submit WORDS`; its output and exit code. A change of "" unsets a variable."""
        return self.job("submit", *words, timeout_s=timeout_s, **changes)

    def job(self, verb: str, *words: str, timeout_s: float = 200, **changes: str):
        """`ray job VERB WORDS`, as `submit`."""
        environment = {k: v for k, v in (self.environment | changes).items() if v}
        command = [str(SCRIPTS / "ray"), "job", verb, "--address", self.dashboard, *words]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )


@contextmanager
def running_head(folder: Path, *options: str, port: int = 0, **variables: str) -> Iterator[Head]:
    """`ray start --head --block` with `options`; all it started is ended with the block.

    Never by `ray stop`, which ends every Ray of the machine.
    """
    token = folder / "token"
    token.write_text("0123456789abcdef" * 4)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment = inherited | {
        "PATH": f"{SCRIPTS}:{inherited['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        **variables,
    }
    gcs, dashboard, agent = free_ports(3)
    gcs, short = port or gcs, short_folder()
    command = [
        *(str(SCRIPTS / "ray"), "start", "--head", "--block", "--disable-usage-stats"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--port={gcs}"),
        *(f"--dashboard-agent-listen-port={agent}", f"--temp-dir={short}"),
        *options,
    ]
    with (folder / "head.log").open("w") as log:
        started = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{dashboard}/api/version")
        yield Head(
            gcs=f"127.0.0.1:{gcs}",
            dashboard=f"http://127.0.0.1:{dashboard}",
            environment=environment,
        )
    finally:
        end_tree(started.pid)
        shutil.rmtree(short, ignore_errors=True)


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def short_folder() -> Path:
    """Ray's sockets lie in it, and their paths may have 107 characters."""
    return Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))


def wait_for(url: str, *, timeout_s: float = 60) -> None:
    """Until the server answers, if only that it wants a token."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def end_tree(pid: int) -> None:
    """End a process and all that it started."""
    root = psutil.Process(pid)
    processes = [root, *root.children(recursive=True)]
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=10)
