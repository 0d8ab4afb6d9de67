"""cluster.yaml and cluster.local.yaml: what `ray up` would make of them, without a cloud."""

import copy
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from tests.helpers.repository import REPOSITORY

FILES = ("cluster.yaml", "cluster.local.yaml")
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / name).read_text())


def start_commands(config: dict[str, Any]) -> dict[str, str]:
    """The command that starts Ray, on the head and on a worker."""
    return {
        place: next(c for c in config[f"{place}_start_ray_commands"] if "ray start" in c)
        for place in ("head", "worker")
    }


def options(command: str) -> dict[str, Any]:
    """What Ray's own command line makes of `... ray start OPTIONS`; unknown ones are refused."""
    words = command.split("ray start ", 1)[1].split()
    return start.make_context("start", words).params


@pytest.mark.parametrize("name", FILES)
def test_a_cluster_file_obeys_the_schema_of_the_installed_ray(name: str):
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(read(name), schema)
    wrong = read(name) | {"min_wokers": 1}
    with pytest.raises(jsonschema.ValidationError, match="min_wokers"):
        jsonschema.validate(wrong, schema)


@pytest.mark.parametrize("name", FILES)
def test_ray_completes_a_cluster_file_to_one_that_it_accepts(name: str):
    completed = prepare_config(copy.deepcopy(read(name)))
    validate_config(completed)
    types = completed["available_node_types"]
    assert completed["head_node_type"] in types
    assert sum(kind["max_workers"] for kind in types.values()) >= completed["max_workers"] > 0


def test_gpu_workers_come_from_zero_and_the_head_has_cpus_for_data():
    types = prepare_config(read("cluster.yaml"))["available_node_types"]
    assert types["gpu"]["min_workers"] == 0
    assert types["gpu"]["max_workers"] > 1
    assert types["gpu"]["resources"]["GPU"] == 1
    assert types["head"]["resources"] == {"CPU": 8}


def test_all_own_hosts_are_used():
    config = prepare_config(read("cluster.local.yaml"))
    (kind,) = config["available_node_types"].values()
    num_hosts = len(config["provider"]["worker_ips"])
    assert kind["min_workers"] == kind["max_workers"] == config["max_workers"] == num_hosts


@pytest.mark.parametrize("name", FILES)
def test_every_command_is_one_that_a_shell_can_parse(name: str):
    config = read(name)
    commands = [command for key in COMMANDS for command in config.get(key, [])]
    assert len(commands) > 8
    for command in commands:
        parsed = subprocess.run(
            ["bash", "-n"], input=command, capture_output=True, text=True, check=False
        )
        assert parsed.returncode == 0, f"{command}: {parsed.stderr}"


@pytest.mark.parametrize("name", FILES)
def test_ray_takes_the_start_commands_and_shows_its_dashboard_on_the_head_only(name: str):
    commands = start_commands(read(name))
    head, worker = options(commands["head"]), options(commands["worker"])
    assert head["head"]
    assert head["dashboard_host"] == "127.0.0.1"
    assert worker["address"] == f"$RAY_HEAD_IP:{head['port']}"
    assert head["disable_usage_stats"]
    assert worker["disable_usage_stats"]


@pytest.mark.parametrize("name", FILES)
def test_every_node_asks_for_the_token_that_every_node_gets(name: str):
    config = read(name)
    for command in start_commands(config).values():
        before = command.split("ray start", 1)[0]
        assert re.search(r"export .*\bRAY_AUTH_MODE=token\b", before), command
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize("name", FILES)
def test_the_nodes_install_the_pinned_requirements_of_this_repository(name: str):
    config = read(name)
    (there,) = [k for k, v in config["file_mounts"].items() if v == "requirements.txt"]
    assert (REPOSITORY / "requirements.txt").is_file()
    installs = [c for c in config["setup_commands"] if "pip install" in c]
    assert any(command.endswith(f"-r {there}") for command in installs)


def test_only_ssh_is_open_to_the_outside():
    opened = read("cluster.yaml")["provider"]["security_group"]["IpPermissions"]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in opened] == [(22, 22)]
