"""Run folders on object storage: the address holds whole checkpoints; every node takes those."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.fs as pa_fs
import pytest

from pipeline.config.load import absolute_paths, load, merge
from pipeline.config.schema import Config
from pipeline.evaluation.evaluate import evaluate
from pipeline.runtime import remote_storage
from pipeline.training import checkpoints
from pipeline.training.trainer import fit
from tests.helpers.repository import REPOSITORY
from tests.helpers.s3_server import running_s3
from tests.helpers.study_runs import job

LAST = "meta.json"
SMALL = {
    "train": {"num_epochs": 2, "batch_size": 4, "validate_every_n_epochs": 1},
    "model": {"image_weights": "none"},
    "scaling": {"num_workers": 0},
    "health_checks": {"enabled": False},
    "evaluation": {"num_bootstraps": 100},
}


@pytest.fixture
def address() -> Iterator[str]:
    """`s3://results/runs` of a local S3 server."""
    with running_s3() as address:
        yield address


def on_node(name: str, tmp_path: Path, address: str, *more: str) -> Config:
    """The config as a node loads it: its own local copy of the same address."""
    return load(None, [f"storage_path={address}", f"storage_cache={tmp_path}/{name}", *more])


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def there(config: Config) -> set[str]:
    """Every file at the address, relative to it."""
    remote, base = pa_fs.FileSystem.from_uri(config.storage_mirror)
    infos = remote.get_file_info(pa_fs.FileSelector(base, recursive=True, allow_not_found=True))
    return {info.path.removeprefix(f"{base}/") for info in infos if info.is_file}


@pytest.fixture
def nodes(tmp_path: Path) -> tuple[Config, Config]:
    """Two nodes with one address, a folder: what does not depend on S3 needs no server."""
    uri = f"file://{tmp_path}/bucket/runs"
    return on_node("a", tmp_path, uri), on_node("b", tmp_path, uri)


def run_of(config: Config) -> Path:
    return Path(config.storage_path) / "run" / "checkpoints"


def notes_of(config: Config) -> Path:
    return Path(config.storage_path) / "study" / "cells"


def test_a_remote_storage_path_is_a_local_folder_and_its_address(tmp_path: Path):
    config = on_node("a", tmp_path, "s3://bucket/runs?region=eu-west-1")
    assert Path(config.storage_path).parent == tmp_path / "a"
    assert config.storage_mirror == "s3://bucket/runs?region=eu-west-1"
    assert absolute_paths(config) == config
    elsewhere = on_node("a", tmp_path, "s3://bucket/other")
    assert elsewhere.storage_path != config.storage_path
    assert on_node("a", tmp_path, "s3://bucket/runs/").storage_path == config.storage_path


def test_the_address_of_google_storage_is_understood(tmp_path: Path):
    config = on_node("a", tmp_path, "gs://anonymous@bucket/runs")
    remote, base = pa_fs.FileSystem.from_uri(config.storage_mirror)
    assert (remote.type_name, base) == ("gcs", "bucket/runs")


def test_a_remote_storage_path_needs_a_local_folder():
    with pytest.raises(ValueError, match=r"s3://b/runs is remote storage.*set storage_cache"):
        load(None, ["storage_path=s3://b/runs"])


def test_a_run_is_named_by_its_address(tmp_path: Path):
    more = ["train.resume=s3://b/runs/one", "evaluation.checkpoint=s3://b/runs/one/checkpoints/s"]
    config = on_node("a", tmp_path, "s3://b/runs?region=x", *more)
    assert config.train.resume == f"{config.storage_path}/one"
    assert config.evaluation.checkpoint == f"{config.storage_path}/one/checkpoints/s"
    with pytest.raises(ValueError, match=r"train.resume=s3://c/one is not under storage_path=s3:"):
        on_node("a", tmp_path, "s3://b/runs", "train.resume=s3://c/one")
    with pytest.raises(ValueError, match=r"evaluation.checkpoint=s3://c/one is not under"):
        load(None, ["evaluation.checkpoint=s3://c/one"])


def test_a_job_tells_addresses_and_ray_gets_one(nodes: tuple[Config, Config], tmp_path: Path):
    config = nodes[0]
    facts = {"folder": f"{config.storage_path}/run", "figures": [f"{config.storage_path}/a.png"]}
    base = f"file://{tmp_path}/bucket/runs"
    told = {"folder": f"{base}/run", "figures": [f"{base}/a.png"]}
    assert remote_storage.to_remote_uris(config, facts | {"steps": 3}) == told | {"steps": 3}
    assert remote_storage.place(config, "ray") == f"{base}/ray"
    s3 = on_node("a", tmp_path, "s3://b/runs?region=x")
    assert remote_storage.place(s3, "ray") == "s3://b/runs/ray?region=x"
    assert remote_storage.place(load(None, ["storage_path=/runs"]), "ray") == "/runs/ray"


def test_what_one_node_pushes_another_fetches(nodes: tuple[Config, Config]):
    ours, theirs = nodes
    write(run_of(ours) / "step-1", meta_json="1", tensors="one")
    remote_storage.push_folders(ours, run_of(ours), last=LAST)
    write(run_of(theirs) / "step-0", meta_json="never pushed", tensors="x")
    write(run_of(theirs) / "step-1", meta_json="of another try", tensors="x")
    remote_storage.fetch_folders(theirs, run_of(theirs), last=LAST)
    assert [path.name for path in run_of(theirs).iterdir() if path.is_dir()] == ["step-1"]
    assert (run_of(theirs) / "step-1" / "tensors").read_text() == "one"


def test_pushing_deletes_what_is_no_longer_kept(nodes: tuple[Config, Config]):
    config = nodes[0]
    for step in "12":
        write(run_of(config) / f"step-{step}", meta_json=step, tensors=step)
    remote_storage.push_folders(config, run_of(config), last=LAST)
    shutil.rmtree(run_of(config) / "step-1")
    remote_storage.push_folders(config, run_of(config), last=LAST)
    assert there(config) == {f"run/checkpoints/step-2/{name}" for name in ("meta.json", "tensors")}


def test_a_folder_without_its_last_file_is_neither_pushed_nor_fetched(nodes: tuple[Config, Config]):
    config, other = nodes
    write(run_of(config) / "step-1", tensors="torn here")
    remote_storage.push_folders(config, run_of(config), last=LAST)
    assert there(config) == set()
    bucket = Path(config.storage_mirror.removeprefix("file://"))
    write(bucket / "run" / "checkpoints" / "step-2", tensors="torn on the way")
    remote_storage.fetch_folders(other, run_of(other), last=LAST)
    assert not list(run_of(other).glob("step-*"))


def test_an_upload_that_breaks_off_leaves_no_folder_that_looks_whole(nodes: tuple[Config, Config]):
    config = nodes[0]
    write(run_of(config) / "step-1", meta_json="1", tensors="t")
    (run_of(config) / "step-1" / "zz, which is no file").mkdir()
    with pytest.raises(IsADirectoryError):
        remote_storage.push_folders(config, run_of(config), last=LAST)
    assert there(config) == {"run/checkpoints/step-1/tensors"}


def test_ranks_that_fetch_at_once_all_find_the_whole_folder(nodes: tuple[Config, Config]):
    config, other = nodes
    write(run_of(config) / "step-1", meta_json="1", tensors="t" * 1_000_000)
    remote_storage.push_folders(config, run_of(config), last=LAST)
    sizes: list[int] = []

    def rank() -> None:
        remote_storage.fetch_folders(other, run_of(other), last=LAST)
        sizes.append((run_of(other) / "step-1" / "tensors").stat().st_size)

    threads = [threading.Thread(target=rank) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [1_000_000] * 4
    assert not list(run_of(other).glob("*.tmp"))


def test_a_failed_job_still_uploads_its_figures_but_not_older_files(nodes: tuple[Config, Config]):
    config = nodes[0]
    old = write(Path(config.storage_path) / "old", a_png="old") / "a.png"
    os.utime(old, (1, 1))

    def job() -> None:
        with remote_storage.synced(config):
            write(Path(config.storage_path) / "run", loss_png="new")
            write(run_of(config) / "step-1", meta_json="1")
            raise RuntimeError("the job failed")

    with pytest.raises(RuntimeError):
        job()
    assert there(config) == {"run/loss.png"}


def test_notes_are_those_of_the_address_and_nothing_else(nodes: tuple[Config, Config]):
    ours, theirs = nodes
    write(notes_of(ours), a_json="a", b_json="b")
    remote_storage.push_file(ours, notes_of(ours) / "a.json")
    write(notes_of(theirs), a_json="old", c_json="never pushed")
    write(notes_of(theirs) / "folder", d_json="d")
    remote_storage.fetch_files(theirs, notes_of(theirs))
    found = {p.name: p.read_text() for p in notes_of(theirs).iterdir() if p.is_file()}
    assert found == {"a.json": "a"}
    assert (notes_of(theirs) / "folder" / "d.json").is_file()


def test_notes_that_nobody_has_pushed_yet_are_none(nodes: tuple[Config, Config]):
    remote_storage.fetch_files(nodes[0], notes_of(nodes[0]))
    assert not list(notes_of(nodes[0]).iterdir())


def test_results_travel_at_once_and_checkpoints_their_own_way(nodes: tuple[Config, Config]):
    config = nodes[0]
    run = Path(config.storage_path) / "run"
    write(run / "test", tally_npz="counts")
    write(run, config_yaml="c")
    write(run_of(config) / "step-1", meta_json="1")
    (run / ".config.yaml.tmp").write_text("half")
    remote_storage.push_results(config, run)
    assert there(config) == {"run/test/tally.npz", "run/config.yaml"}


def test_without_a_mirror_notes_stay_as_they_are(tmp_path: Path):
    config = load(None, [f"storage_path={tmp_path}/runs"])
    write(notes_of(config), a_json="a")
    remote_storage.fetch_files(config, notes_of(config))
    remote_storage.push_file(config, notes_of(config) / "a.json")
    remote_storage.push_results(config, notes_of(config))
    assert (notes_of(config) / "a.json").read_text() == "a"


def test_a_bucket_that_is_not_there_ends_the_job_before_it_starts(tmp_path: Path, address: str):
    config = on_node("a", tmp_path, address.replace("results", "elsewhere"))
    refused = pytest.raises(ValueError, match=r"cannot be written .*that the bucket exists")
    with refused, remote_storage.synced(config):
        pytest.fail("the block ran")


def test_a_folder_outside_of_the_local_copy_is_refused(nodes: tuple[Config, Config]):
    with pytest.raises(ValueError, match=r"/elsewhere/run lies outside of"):
        remote_storage.fetch_file(nodes[0], Path("/elsewhere/run"))


@pytest.mark.slow
def test_a_training_on_s3_is_resumed_and_evaluated_by_other_nodes(
    tiny_config: Config, new_store: Callable[[Path], str], tmp_path: Path, address: str
):
    """Train one epoch on node a, the second on node b, evaluate on node c: no disk in common."""

    uri = {"tracking": {"uri": new_store(tmp_path)}}

    def node(name: str, *changes: dict) -> Config:
        place = {"storage_path": address, "storage_cache": f"{tmp_path}/{name}"}
        return absolute_paths(merge(tiny_config, SMALL, place, uri, *changes))

    first = node("a", {"train": {"num_epochs": 1}})
    with remote_storage.synced(first):
        begun = fit(first, say=lambda line: None)
    run = f"s3://results/runs/{begun.folder.name}"
    shutil.rmtree(tmp_path / "a")

    second = node("b", {"train": {"resume": run}})
    with remote_storage.synced(second):
        ended = fit(second, say=lambda line: None)
    assert ended.run_id == begun.run_id
    assert ended.num_steps == 2 * begun.num_steps

    third = node("c")
    with remote_storage.synced(third):
        evaluated = evaluate(third, watch=lambda phase: lambda done, total: None)
    files = there(third)
    name = ended.folder.name
    assert {f"{name}/config.yaml", f"{name}/test/results.csv", "LAST_RUN"} <= files
    steps = {part.split("/")[2] for part in files if part.startswith(f"{name}/checkpoints/step-")}
    assert steps == {path.name for path in checkpoints.whole_checkpoints(ended.checkpoint.parent)}
    told = remote_storage.to_remote_uris(third, evaluated.facts)
    assert told["table"] == f"{run}/test/results.md"


@pytest.mark.slow
def test_the_training_job_runs_on_two_workers_with_runs_on_s3(
    tiny_config: Config, new_store: Callable[[Path], str], tmp_path: Path, address: str
):
    two = ("scaling.num_workers=2", "train.num_epochs=1")
    places = (f"storage_path={address}", f"storage_cache={tmp_path}/cache")
    command = job("train", tiny_config, *two, *places, f"tracking.uri={new_store(tmp_path)}")
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    facts = json.loads(ran.stdout.splitlines()[-1])
    name = facts["folder"].removeprefix("s3://results/runs/")
    files = there(on_node("other", tmp_path, address))
    assert f"{name}/figures/loss.png" in files
    assert any(file.startswith(f"{name}/checkpoints/step-") for file in files)
