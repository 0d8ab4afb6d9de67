"""`jobs.train` on a cluster of nodes that a test adds and takes away."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient

from pipeline.config.schema import Config
from tests.helpers.ray_head import end_tree
from tests.helpers.repository import REPOSITORY
from tests.helpers.study_runs import job

TRAINING = (
    *("train.num_epochs=12", "train.batch_size=4", "train.validate_every_n_epochs=6"),
    *("train.checkpoint_every_n_steps=4", "scaling.num_workers=2", "tracking.system_metrics=false"),
)
NUM_STEPS = 72
"""Of this training on the tiny world: enough to strike in the middle of it on a fast machine."""


@dataclass(kw_only=True)
class Nodes:
    """The cluster, and the nodes that a test has added and not taken away."""

    cluster: Any
    added: list[Any] = field(default_factory=list)

    def have(self, number: int) -> None:
        """Add nodes of one CPU until there are so many."""
        while len(self.added) < number:
            self.added.append(self.cluster.add_node(num_cpus=1))

    def lose_one(self) -> None:
        """End the newest node's processes at once, as a power cut would."""
        self.cluster.remove_node(self.added.pop(), allow_graceful=False)

    def train_workers(self) -> list[psutil.Process]:
        """Processes that train on the nodes."""
        raylets = [node.all_processes["raylet"][0].process.pid for node in self.added]
        children = [one for pid in raylets for one in psutil.Process(pid).children(recursive=True)]
        return [one for one in children if "RayTrainWorker" in " ".join(one.cmdline())]


@dataclass(kw_only=True)
class Run:
    """A job under way, and what it has said."""

    process: subprocess.Popen[str]
    uri: str
    lines: list[str] = field(default_factory=list)

    def wait_for(self, text: str, *, timeout_s: float = 180) -> None:
        """Until a line holds `text`."""
        end = time.monotonic() + timeout_s
        while not any(text in line for line in self.lines):
            assert self.process.poll() is None, "\n".join(self.lines)
            assert time.monotonic() < end, "\n".join(self.lines)
            time.sleep(0.05)

    def ended(self, *, timeout_s: float = 240) -> dict[str, Any]:
        """The job's last line, once it has ended."""
        self.process.wait(timeout=timeout_s)
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.read().splitlines()[-1])

    def end(self) -> None:
        if self.process.poll() is None:
            end_tree(self.process.pid)

    def history(self, run_id: str, key: str) -> list[tuple[int, float]]:
        """Every (step, value) that MLflow has, in the order of the steps."""
        points = MlflowClient(self.uri).get_metric_history(run_id, key)
        return sorted((point.step, point.value) for point in points)


@contextmanager
def training(nodes: Nodes, config: Config, folder: Path) -> Iterator[Callable[..., Run]]:
    """Gives a function that starts jobs with the overrides it gets; they end with the block."""
    runs: list[Run] = []

    def start(*overrides: str) -> Run:
        runs.append(_start(nodes, config, folder, *overrides))
        return runs[-1]

    try:
        yield start
    finally:
        for run in runs:
            run.end()


def _start(nodes: Nodes, config: Config, folder: Path, *overrides: str) -> Run:
    """`jobs.train` on the tiny world with two workers, each on a node of its own."""
    uri = f"sqlite:///{folder}/mlflow.db"
    places = (f"storage_path={folder}/runs", f"tracking.uri={uri}")
    command = job("train", config, *TRAINING, *places, *overrides)
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=os.environ | {"RAY_ADDRESS": nodes.cluster.address},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    run = Run(process=process, uri=uri)
    threading.Thread(target=_listen, args=(run,), daemon=True).start()
    return run


def _listen(run: Run) -> None:
    assert run.process.stderr is not None
    for line in run.process.stderr:
        run.lines.append(line.rstrip())
