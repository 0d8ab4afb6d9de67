"""`ray job submit` to a head that asks for a token, as the README's lines do it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from ray_head import Head, running_head

from pipeline.config import Config

REPOSITORY = Path(__file__).parents[2]
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
        f"storage_path={tmp_path}/runs", f"tracking.uri={uri}", "guards.enabled=false",
        *(f"prepare.{name}={getattr(prepare, name)}" for name in names),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    facts = last_json(done.stdout)
    assert MlflowClient(uri).get_run(facts["run_id"]).data.tags["revision"] == REVISION
    assert Path(facts["folder"]).parent == tmp_path / "runs"


ASK = """
import logging
import sys
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
from pipeline.ray_session import ensure_ray, gather_resources
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
