"""Ray is started once, with room for workers and data tasks, and asks for a token."""

import os
import subprocess
import sys

import pytest

from pipeline.runtime.ray_cluster import ensure_ray
from tests.helpers.repository import REPOSITORY


def run(code: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | changes
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_second_call_changes_nothing(ray_session: None):
    import ray

    before = ray.get_runtime_context().gcs_address
    ensure_ray(64)
    assert ray.get_runtime_context().gcs_address == before
    assert ray.cluster_resources()["CPU"] == 4


def test_tasks_can_import_this_program(ray_session: None):
    import ray

    @ray.remote
    def task() -> str:
        from pipeline.data.order import num_steps

        return str(num_steps(5, batch_size=2))

    assert ray.get(task.remote()) == "3"


def test_ray_imported_too_early_is_told():
    """The token mode is read when ray is imported, so setting it later would break the start."""
    code = """
import logging, sys, types
logging.basicConfig()
from pipeline.runtime.ray_cluster import _set_before_import
_set_before_import("RAY_AUTH_MODE", "token", without="its servers ask for no token")
import os
assert os.environ.pop("RAY_AUTH_MODE") == "token"
sys.modules["ray"] = types.ModuleType("ray")
_set_before_import("RAY_AUTH_MODE", "token", without="its servers ask for no token")
assert "RAY_AUTH_MODE" not in os.environ
"""
    result = run(code)
    assert result.returncode == 0, result.stderr
    assert "set RAY_AUTH_MODE=token in the environment" in result.stderr


@pytest.mark.slow
def test_a_local_ray_has_at_least_four_cpus_asks_for_a_token_and_has_no_dashboard():
    code = """
from pipeline.runtime.ray_cluster import ensure_ray
ensure_ray()
import os, ray
assert ray.cluster_resources()["CPU"] == max(4, os.cpu_count())
assert os.environ["RAY_AUTH_MODE"] == "token"
address = ray.get_runtime_context().gcs_address
assert not ray._private.worker.global_worker.node.address_info.get("webui_url")
from ray._raylet import GcsClient
print(address, flush=True)
import subprocess, sys
refused = subprocess.run(
    [sys.executable, "-c", f"import ray; ray.init(address='{address}')"],
    env=os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_NUM_REDIS_GET_RETRIES": "2"},
    capture_output=True, text=True, timeout=60)
assert refused.returncode != 0
assert "Authentication" in refused.stderr, refused.stderr
"""
    result = run(code)
    assert result.returncode == 0, result.stderr
