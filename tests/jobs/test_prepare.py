"""The prepare job as a user runs it: JSON at the end, and killed without losing finished shards."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.prepare import work
from pipeline.config import Config
from pipeline.data.manifest import read_manifest

REPOSITORY = Path(__file__).parents[2]
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


def note(shard: Path) -> Path:
    return shard.with_name(f"{shard.name}.json")
