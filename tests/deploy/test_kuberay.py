"""The manifests in deploy/kuberay: legal fields, one token, and jobs that fit their cluster."""

import copy
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipeline.config.load import load
from tests.helpers.repository import REPOSITORY

FOLDER = REPOSITORY / "deploy" / "kuberay"
SCHEMA = yaml.safe_load((Path(__file__).parent / "manifests.schema.yaml").read_text())
NAMES = sorted(path.name for path in FOLDER.glob("*.yaml"))


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name).read_text())


def cluster_spec(name: str) -> dict[str, Any]:
    spec = read(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def pods(name: str) -> Iterator[dict[str, Any]]:
    spec = cluster_spec(name)
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        yield group["template"]["spec"]


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_has_legal_fields_only(name: str):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(read(name), SCHEMA)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "workerGroupSpecs", 0, "minReplica"), 0),
        (("spec", "workerGroupSpecs", 0, "maxReplicas"), "4"),
        (("spec", "authOptions", "mode"), "tokn"),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "headGroupSpec", "template", "spec", "containers", 0, "resource"), {}),
        (("apiVersion",), "ray.io/v1alpha1"),
    ],
)
def test_the_schema_refuses_a_slip(place: tuple, value: Any):
    manifest = copy.deepcopy(read("raycluster.yaml"))
    inner = manifest
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, SCHEMA)


def test_the_job_brings_the_cluster_that_raycluster_yaml_describes():
    assert cluster_spec("rayjob.yaml") == cluster_spec("raycluster.yaml")


def test_the_image_the_manifests_and_the_requirements_name_one_version_of_ray():
    pinned = re.search(r"^ray\[.*\]==(\S+)$", (REPOSITORY / "requirements.txt").read_text(), re.M)
    assert pinned
    base = re.search(r"^FROM rayproject/ray:(\S+)-py311$", dockerfile(), re.M)
    assert base
    assert pinned[1] == base[1] == cluster_spec("raycluster.yaml")["rayVersion"]


def dockerfile() -> str:
    return (REPOSITORY / "deploy" / "Dockerfile").read_text()


def test_every_container_of_a_cluster_asks_for_the_token_of_the_secret():
    spec = cluster_spec("raycluster.yaml")
    assert spec["authOptions"] == {"mode": "token", "secretName": "anovox-ray-token"}
    assert "secret generic anovox-ray-token" in (REPOSITORY / "deploy" / "README.md").read_text()
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_every_mount_has_its_volume_and_the_shared_one_is_claimed():
    claim = read("storage.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods("raycluster.yaml"):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["name"]: mount["mountPath"] for c in pod["containers"]
                  for mount in c["volumeMounts"]}  # fmt: skip
        assert mounts.keys() == volumes.keys()
        assert mounts["shared"] == "/shared"
        assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_requests_equal_limits_so_that_ray_counts_what_a_pod_has():
    for pod in pods("raycluster.yaml"):
        (container,) = pod["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_the_jobs_entrypoint_is_a_legal_command_that_fits_the_cluster():
    words = shlex.split(read("rayjob.yaml")["spec"]["entrypoint"])
    assert words[:2] == ["python", "-m"]
    assert (REPOSITORY / words[2].replace(".", "/")).with_suffix(".py").is_file()
    config = load(None, words[3:])
    (workers,) = cluster_spec("rayjob.yaml")["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    requests = container["resources"]["requests"]
    assert config.scaling.use_gpu
    assert config.scaling.num_workers <= workers["maxReplicas"] * int(requests["nvidia.com/gpu"])
    assert config.scaling.cpus_per_worker <= int(requests["cpu"])
    paths = (config.storage_path, config.data.root, config.data.blocks)
    assert all(path.startswith("/shared/") for path in paths)


def test_the_image_holds_the_program_and_its_revision():
    copied = re.findall(r"^COPY (?:--chown=\S+ )?(\S+) ", dockerfile(), re.M)
    assert copied == ["requirements.txt", "jobs", "pipeline", "configs"]
    assert "ENV ANOVOX_REVISION=$REVISION" in dockerfile()
