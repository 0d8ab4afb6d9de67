"""`ray job submit` to a head that asks for a token, as the README's lines do it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, RunData, RunInfo

from pipeline.config.schema import Config
from tests.helpers.ray_head import Head, running_head
from tests.helpers.repository import REPOSITORY

REVISION = "1234567890abcdef1234567890abcdef12345678"
WORK = ("--working-dir", str(REPOSITORY))
ENVIRONMENT = ("--runtime-env-json", json.dumps({"env_vars": {"ANOVOX_REVISION": REVISION}}))
SMALL_WORLD = (
    *("synthetic.num_scenes=2", "synthetic.num_frames=2", "synthetic.image_width=96"),
    *("synthetic.image_height=64", "synthetic.num_channels=8", "synthetic.points_per_second=20000"),
)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with running_head(tmp_path_factory.mktemp("head"), "--num-cpus=4") as started:
        yield started


def last_json(output: str) -> dict:
    """The job's last line; the client adds its own lines after it."""
    return json.loads([line for line in output.splitlines() if line.startswith("{")][-1])


@pytest.mark.slow
def test_a_submitted_job_gives_its_exit_code_and_its_last_line(head: Head, tmp_path: Path):
    job = ("--", "python", "-m", "jobs.synthesize")
    places = (f"data.root={tmp_path}/anovox", f"storage_path={tmp_path}/runs")
    uri = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    blocks = f"data.blocks={tmp_path}/blocks"
    done = head.submit(*WORK, *job, *places, blocks, uri, *SMALL_WORLD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert last_json(done.stdout)["status"] == "finished"
    assert any((tmp_path / "anovox").rglob("*.png"))
    refused = head.submit(*WORK, *job, *places, blocks, uri, "synthetic.num_scnes=2")
    assert refused.returncode != 0
    assert "did you mean 'synthetic.num_scenes'" in refused.stdout


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"RAY_AUTH_MODE": ""}, {"RAY_AUTH_TOKEN": "f" * 64}])
def test_without_the_token_no_job_is_taken(head: Head, changes: dict[str, Any]):
    refused = head.submit("--", "python", "-c", "print('it ran')", **changes)
    assert refused.returncode != 0
    assert "it ran" not in refused.stdout
    assert "authentication" in (refused.stdout + refused.stderr).lower()


@pytest.mark.slow
def test_a_submitted_training_uses_the_cluster_and_knows_its_revision(
    head: Head, tiny_config: Config, new_store: Callable[[Path], str], tmp_path: Path
):
    prepare = tiny_config.prepare
    names = ("image_width", "frames_per_shard", "val_fraction", "test_fraction", "split_seed")
    uri = new_store(tmp_path)
    done = head.submit(
        *WORK, *ENVIRONMENT,
        *("--", "python", "-m", "jobs.train", "scaling.num_workers=1", "train.max_steps=2"),
        f"data.root={tiny_config.data.root}", f"data.blocks={tiny_config.data.blocks}",
        f"storage_path={tmp_path}/runs", f"tracking.uri={uri}", "health_checks.enabled=false",
        *(f"prepare.{name}={getattr(prepare, name)}" for name in names),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    facts = last_json(done.stdout)
    assert MlflowClient(uri).get_run(facts["run_id"]).data.tags["revision"] == REVISION
    assert Path(facts["folder"]).parent == tmp_path / "runs"


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_stopped_job_ends_its_run_as_killed(
    head: Head, tiny_config: Config, tmp_path: Path, num_workers: int
):
    prepare = tiny_config.prepare
    names = ("image_width", "frames_per_shard", "val_fraction", "test_fraction", "split_seed")
    uri, name = f"sqlite:///{tmp_path}/mlflow.db", f"stopped-{num_workers}"
    submitted = head.submit(
        *WORK, "--no-wait", f"--submission-id={name}",
        *("--", "python", "-m", "jobs.train", f"scaling.num_workers={num_workers}"),
        *("train.num_epochs=10000", "train.log_every_n_steps=1", "health_checks.enabled=false"),
        f"data.root={tiny_config.data.root}", f"data.blocks={tiny_config.data.blocks}",
        f"storage_path={tmp_path}/runs", f"tracking.uri={uri}",
        *(f"prepare.{name}={getattr(prepare, name)}" for name in names),
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    wait_until(lambda: "train/loss" in newest_run(uri).data.metrics, timeout_s=240)
    assert head.job("stop", name).returncode == 0
    wait_until(lambda: newest_run(uri).info.status != "RUNNING", timeout_s=30)
    run = newest_run(uri)
    assert (run.info.status, run.data.tags["failure"]) == ("KILLED", "interrupted")


def newest_run(uri: str) -> Run:
    """Of a job's store; one without anything in it while there is none yet."""
    nothing = Run(RunInfo("", "", "", "", 0, 0, "", ""), RunData())
    if not Path(uri.removeprefix("sqlite:///")).is_file():
        return nothing
    client = MlflowClient(uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    return next(iter(client.search_runs(experiments)), nothing)


def wait_until(done: Callable[[], bool], *, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end
        time.sleep(1.0)


ASK = """
import logging
import sys
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
from pipeline.runtime.ray_cluster import ensure_ray, gather_resources
ensure_ray()
import ray
assert "GPU" not in ray.cluster_resources()
have = gather_resources([{"CPU": 1.0, "GPU": 1.0}], timeout_s=90)
assert have["GPU"] == 1, have
short = gather_resources([{"GPU": 1.0}] * 2, timeout_s=3)
assert short["GPU"] == 1, short
"""


@pytest.mark.slow
def test_gpu_nodes_come_from_zero_when_a_training_asks_and_a_limit_ends_the_wait(tmp_path: Path):
    group = {"resources": {"CPU": 2, "GPU": 1}, "node_config": {}, "min_workers": 0}
    commands = [f"{kind}_commands" for kind in ("initialization", "setup", "head_setup")]
    commands += [f"{place}_start_ray_commands" for place in ("head", "worker")]
    config = {
        "cluster_name": "grows",
        "max_workers": 1,
        "idle_timeout_minutes": 1,
        "upscaling_speed": 1.0,
        "provider": {"type": "fake_multinode"},
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 2}, "node_config": {}, "max_workers": 0},
            "gpu": group | {"max_workers": 1},
        },
        **{name: [] for name in (*commands, "worker_setup_commands")},
    }
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps(config))
    options = ("--num-cpus=2", "--num-gpus=0", f"--autoscaling-config={path}")
    fake = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    # Ray's pretended provider looks for the head at its usual port only.
    with running_head(tmp_path, *options, port=6379, **fake) as head:
        asked = subprocess.run(
            [sys.executable, "-c", ASK],
            cwd=REPOSITORY, env=head.environment | {"RAY_ADDRESS": head.gcs},
            capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    assert "asking the cluster for {'CPU': 1.0, 'GPU': 1.0}" in asked.stderr
