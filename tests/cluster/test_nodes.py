"""Nodes and workers that die while they train: the run goes on as if nothing had happened, or ends.

Training draws nothing from where it was interrupted, so the weights are compared bit by bit with
those of a run that nobody disturbed.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from pipeline.training import checkpoints
from tests.helpers.node_cluster import NUM_STEPS, Nodes, Run
from tests.helpers.ray_head import ASK_TWICE

pytestmark = pytest.mark.slow
Train = Callable[..., Run]


@pytest.fixture(scope="module")
def undisturbed(train_once: Train) -> dict[str, Any]:
    """What a run says that kept its nodes."""
    return outcome(train_once())


def outcome(run: Run) -> dict[str, Any]:
    """The job's facts, its final tensors, and what MLflow has of it."""
    facts = run.ended()
    assert facts["status"] == "finished", "\n".join(run.lines)
    (newest, *_) = reversed(checkpoints.whole_checkpoints(Path(facts["folder"]) / "checkpoints"))
    logged = MlflowClient(run.uri).get_run(facts["run_id"])
    assert logged.info.status == "FINISHED"
    keys = [key for key in logged.data.metrics if key.startswith(("train/", "val/"))]
    assert {"train/loss", "val/point_ap"} <= set(keys)
    return {
        "tensors": load_file(newest / checkpoints.TENSORS),
        "metrics": {key: run.history(facts["run_id"], key) for key in keys},
        "at_the_end": {key: value for key, value in facts.items() if key.startswith("val/")},
    }


def assert_same(run: Run, other: dict[str, Any]) -> None:
    """Weights, moments and every metric of every step: equal, none missing, none twice."""
    found = outcome(run)
    assert found["tensors"].keys() == other["tensors"].keys()
    for name, tensor in found["tensors"].items():
        assert torch.equal(tensor, other["tensors"][name]), name
    steps = [step for step, _ in found["metrics"]["train/loss"]]
    assert steps == list(range(1, NUM_STEPS + 1))
    assert found["metrics"] == other["metrics"]
    assert found["at_the_end"] == other["at_the_end"]


def gone_on_from(run: Run) -> list[int]:
    """Steps of the checkpoints that restarts began with."""
    said = re.findall(r"resumes from step (\d+)", "\n".join(run.lines))
    return [int(step) for step in said]


def test_the_cluster_asks_for_the_token(nodes: Nodes):
    """What the other tests start has it, from the file that Ray keeps."""
    code = f"import ray; ray.init(address={nodes.cluster.address!r})"
    refused = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"RAY_AUTH_MODE": "disabled"} | ASK_TWICE,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert refused.returncode != 0
    assert "Authentication" in refused.stderr, refused.stderr


def test_a_node_lost_while_training_is_replaced_and_nothing_of_the_run_changes(
    nodes: Nodes, train: Train, undisturbed: dict[str, Any]
):
    nodes.have(2)
    run = train()
    run.wait_for("step 10/")
    nodes.lose_one()
    nodes.have(2)
    assert_same(run, undisturbed)
    (step,) = gone_on_from(run)
    assert step >= 8


def test_a_killed_worker_is_started_again_and_nothing_of_the_run_changes(
    nodes: Nodes, train: Train, undisturbed: dict[str, Any]
):
    nodes.have(2)
    run = train()
    run.wait_for("step 10/")
    nodes.train_workers()[0].send_signal(signal.SIGKILL)
    assert_same(run, undisturbed)
    (step,) = gone_on_from(run)
    assert step >= 8


def test_without_restarts_a_killed_worker_ends_the_run_in_one_sentence(nodes: Nodes, train: Train):
    nodes.have(2)
    run = train("scaling.max_failures=0")
    run.wait_for("step 10/")
    nodes.train_workers()[1].send_signal(signal.SIGKILL)
    facts = run.ended()
    assert run.process.returncode == 1
    assert (facts["status"], facts["reason"]) == ("failed", "worker_error")
    assert re.fullmatch(
        r"train: worker \d of 2 failed \(.+\) and scaling\.max_failures=0 allows no further "
        rf"restart; train\.resume={facts['folder']} goes on from its last checkpoint",
        run.lines[-1],
    ), run.lines[-1]
    logged = MlflowClient(run.uri).get_run(facts["run_id"])
    assert (logged.info.status, logged.data.tags["failure"]) == ("FAILED", "worker_error")


def test_a_lost_node_that_nothing_replaces_ends_the_run_within_the_time_limit(
    nodes: Nodes, train: Train
):
    nodes.have(2)
    run = train("scaling.start_timeout_s=10")
    run.wait_for("step 10/")
    nodes.lose_one()
    facts = run.ended(timeout_s=120)
    assert run.process.returncode == 1
    assert (facts["status"], facts["reason"]) == ("failed", "no_resources")
    assert run.lines[-1] == (
        "train: the cluster did not give 2 workers 1 CPU each within scaling.start_timeout_s=10, "
        "as nodes were lost or are in use; add nodes or lower scaling.num_workers; "
        f"train.resume={facts['folder']} goes on from its last checkpoint"
    )
    logged = MlflowClient(run.uri).get_run(facts["run_id"])
    assert (logged.info.status, logged.data.tags["failure"]) == ("FAILED", "no_resources")
