"""What a job starts in local mode is reachable from this machine only."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from pipeline.config.schema import Config
from tests.helpers.repository import REPOSITORY
from tests.helpers.study_runs import job

RENDEZVOUS_PROCESS = "ray::RayTrainWorker"
"""The one known exception: torch.distributed's rendezvous store (TCPStore) of the worker of rank 0.

It binds to every interface and takes no address. It is there while two or more workers train and
holds the ranks' addresses, no data; only a firewall closes it.
"""


class Listener(NamedTuple):
    """A listening socket and the process it belongs to (whose name changes with its task)."""

    process: str
    pid: int
    ip: str
    port: int


def listeners(process: psutil.Process) -> Iterator[Listener]:
    """Listening TCP sockets of a process and of all that it started."""
    for one in (process, *process.children(recursive=True)):
        try:
            name = (one.cmdline() or [one.name()])[0].split(" ")[0]
            for connection in one.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    yield Listener(Path(name).name, one.pid, *connection.laddr)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue


def on_loopback(ip: str) -> bool:
    address = ip_address(ip)
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def watched(command: list[str], *, timeout_s: float = 240) -> tuple[set[Listener], str]:
    """Run a command; all that listened meanwhile, and what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True
    )
    seen: set[Listener] = set()
    end = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < end:
        seen |= set(listeners(psutil.Process(process.pid)))
        # Each look reads every file of twenty processes; what they open stays for seconds.
        time.sleep(0.5)
    process.kill()
    return seen, process.communicate()[0]


def test_an_address_is_loopback_or_not():
    assert [on_loopback(ip) for ip in ("127.0.0.1", "::1", "::ffff:127.0.0.1")] == [True] * 3
    assert not any(on_loopback(ip) for ip in ("0.0.0.0", "::", "192.0.2.2", "::ffff:192.0.2.2"))


@pytest.mark.slow
def test_a_training_on_two_workers_listens_on_loopback_only(
    tiny_config: Config, new_store: Callable[[Path], str], tmp_path: Path
):
    places = (f"storage_path={tmp_path}/runs", f"tracking.uri={new_store(tmp_path)}")
    command = job("train", tiny_config, "scaling.num_workers=2", "train.max_steps=2", *places)
    seen, printed = watched(command)
    assert json.loads(printed.splitlines()[-1])["status"] == "finished"
    # The watch saw what it is for: Ray's own servers and the workers.
    assert {"gcs_server", "raylet", RENDEZVOUS_PROCESS} <= {one.process for one in seen}
    beyond = {one for one in seen if not on_loopback(one.ip)}
    assert len({(one.pid, one.port) for one in beyond}) == 1, beyond
    assert any(one.process.startswith(RENDEZVOUS_PROCESS) for one in beyond), beyond
