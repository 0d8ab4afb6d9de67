"""The prepare job on packed archives, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from jobs.prepare import work
from pipeline.config.load import merge
from pipeline.config.schema import Config
from tests.helpers.repository import REPOSITORY
from tests.helpers.tarballs import entry, write_archive
from tests.helpers.zenodo import RECORD, serve

KEYS = ("image_width", "val_fraction", "test_fraction", "split_seed")


@pytest.fixture(scope="session")
def packed(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The tiny world's archives, one .tar.gz each."""
    folder, paths = tmp_path_factory.mktemp("packed"), []
    for archive in sorted(tiny_root.glob("AnoVox_*")):
        paths.append(folder / f"{archive.name}.tar.gz")
        with tarfile.open(paths[-1], "w:gz", compresslevel=1) as tar:
            tar.add(archive, archive.name)
    return paths


def run(*settings: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "jobs.prepare", *settings]
    return subprocess.run(
        words, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
    )


def environment() -> dict[str, str]:
    """Without the session's Ray, and without the proxy that a machine may have."""
    own = {name: text for name, text in os.environ.items() if name != "RAY_ADDRESS"}
    return own | {"no_proxy": "127.0.0.1"}


def settings(config: Config, folder: Path) -> list[str]:
    kept = [f"prepare.{key}={getattr(config.prepare, key)}" for key in KEYS]
    return [f"data.root={folder / 'root'}", f"data.blocks={folder / 'blocks'}", *kept]


def listed(paths: list[Path]) -> str:
    return f"data.archives=[{','.join(map(str, paths))}]"


def test_packed_archives_give_the_same_shards_as_unpacked_ones(
    tiny_config: Config, tiny_blocks: Path, packed: list[Path], tmp_path: Path
):
    place = {
        "root": str(tmp_path / "root"),
        "blocks": str(tmp_path / "blocks"),
        "archives": [str(path) for path in packed],
    }
    facts = work(merge(tiny_config, {"data": place}))
    names = [path.name.removesuffix(".tar.gz") for path in packed]
    assert facts["unpacked"] == [str(tmp_path / "root" / name) for name in names]
    assert Path(facts["blocks"]).name == tiny_blocks.name
    hashes = [
        [shard["sha256"] for shard in json.loads((folder / "manifest.json").read_text())["shards"]]
        for folder in (Path(facts["blocks"]), tiny_blocks)
    ]
    assert hashes[0] == hashes[1]


def test_a_hostile_archive_ends_the_job_in_one_sentence_before_anything_is_written(
    tmp_path: Path,
):
    path = write_archive(tmp_path / "x.tar.gz", [entry("a/b", b"1"), entry("../escaped", b"1")])
    done = run(listed([path]), f"data.root={tmp_path / 'root'}", f"data.blocks={tmp_path}/blocks")
    assert done.returncode == 1
    assert "prepare: x.tar.gz: member '../escaped' has '..' in its name; " in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["reason"] == "bad_input"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["root", "x.tar.gz"]


@pytest.mark.slow
def test_a_record_is_downloaded_unpacked_and_prepared_and_a_killed_job_goes_on(
    tiny_config: Config, packed: list[Path], tmp_path: Path
):
    with serve() as zenodo:
        zenodo.files = {path.name: path.read_bytes() for path in packed}
        half = len(zenodo.files[packed[0].name]) // 2
        zenodo.faults = [{"stall_after": half, "stall_s": 600}]
        asked = [f"data.zenodo_record={RECORD}", f"data.zenodo_url={zenodo.records}"]
        words = [*asked, *settings(tiny_config, tmp_path)]
        first = subprocess.Popen(
            [sys.executable, "-m", "jobs.prepare", *words], cwd=REPOSITORY, env=environment()
        )
        part = tmp_path / "root" / ".downloads" / f"{packed[0].name}.part"
        deadline = time.monotonic() + 120
        while not (part.exists() and part.stat().st_size == half):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
        first.wait()

        second = run(*words)
        assert second.returncode == 0, second.stderr
        assert zenodo.ranges() == [None, f"bytes={half}-", None]
        for line in ("download ", "check ", "unpack "):
            assert f"{line}{packed[1].name}: " in second.stderr
        facts = json.loads(second.stdout.splitlines()[-1])
        assert facts["accepted"] == 48

        third = run(*words)
        assert json.loads(third.stdout.splitlines()[-1]) == facts
        assert "already prepared" in third.stderr
        assert len(zenodo.ranges()) == 3
