"""The prepare job as a user runs it: JSON at the end, and killed without losing finished shards."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.prepare import work
from pipeline.config.schema import Config
from pipeline.data.folders import SOURCES
from pipeline.data.manifest import file_hash, read_manifest
from tests.helpers.repository import REPOSITORY

KEYS = ("image_width", "val_fraction", "test_fraction", "split_seed")


def test_the_result_is_plain_json_with_paths_and_counts(tiny_config: Config, tiny_blocks: Path):
    facts = json.loads(json.dumps(work(tiny_config)))
    assert facts["blocks"] == str(tiny_blocks)
    assert (facts["found"], facts["accepted"], facts["quarantined"]) == (48, 48, 0)
    assert facts["labels"]["train"]["frames_pos"] > 0


def command(config: Config, blocks: Path) -> list[str]:
    settings = [f"prepare.{key}={getattr(config.prepare, key)}" for key in KEYS]
    place = [f"data.root={config.data.root}", f"data.blocks={blocks}", "prepare.frames_per_shard=1"]
    return [sys.executable, "-m", "jobs.prepare", *place, *settings]


def environment() -> dict[str, str]:
    """Without the session's Ray: the job starts its own, as a user's does."""
    return {name: text for name, text in os.environ.items() if name != "RAY_ADDRESS"}


@pytest.mark.slow
def test_a_killed_job_is_finished_by_a_second_start(tiny_config: Config, tmp_path: Path):
    words = command(tiny_config, tmp_path)
    first = subprocess.Popen(words, cwd=REPOSITORY, env=environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.rglob("*.arrow.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.wait()
    time.sleep(2)  # Ray's workers notice the death of their driver
    done = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.arrow") if note(p).exists()}
    assert 3 <= len(done) < 48
    assert not list(tmp_path.rglob("manifest.json"))

    second = subprocess.run(
        words, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
    )
    assert second.returncode == 0, second.stderr
    facts = json.loads(second.stdout.splitlines()[-1])
    assert facts["accepted"] == 48
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert len(read_manifest(Path(facts["blocks"])).shards) == 48
    assert not list(tmp_path.rglob(".*.tmp"))

    third = subprocess.run(
        words, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
    )
    assert "already prepared" in third.stderr
    assert json.loads(third.stdout.splitlines()[-1]) == facts


@pytest.mark.parametrize(
    "num_kills", [pytest.param(2, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.long)]
)
def test_kills_at_random_moments_leave_the_same_bytes_as_no_kill(
    tiny_config: Config, tmp_path: Path, num_kills: int
):
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    started = time.monotonic()
    finish(command(tiny_config, undisturbed))
    whole_run_s = time.monotonic() - started
    moments = random.Random(7)
    for _ in range(num_kills):
        job = subprocess.Popen(
            command(tiny_config, killed),
            cwd=REPOSITORY,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moments.uniform(0.3, 1.0) * whole_run_s)
        job.send_signal(signal.SIGKILL)
        job.wait()
    finish(command(tiny_config, killed))
    assert contents(killed) == contents(undisturbed)
    assert sum(name.endswith(".arrow") for name in contents(killed)) == 48


def finish(words: list[str]) -> None:
    done = subprocess.run(
        words, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file by its place in the folder."""
    # When it was prepared is said in a file of its own.
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != SOURCES]
    return {str(path.relative_to(folder)): file_hash(path) for path in files}


def note(shard: Path) -> Path:
    return shard.with_name(f"{shard.name}.json")
