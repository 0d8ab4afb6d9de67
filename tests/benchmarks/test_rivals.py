"""Other readers bring the batches that ours brings, and are timed with all their processes."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import figures, rivals
from benchmarks.rival_readers import RIVALS, Change, CollateFrames, stored_frames
from pipeline.config.schema import Config
from pipeline.data.block_reader import BlockReader
from pipeline.data.split_rows import RowFacts


@pytest.mark.parametrize("with_kernels", [False, True])
@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_brings_every_frame_once_and_equal(
    name: str, with_kernels: bool, tiny_config: Config, tiny_blocks: Path, tmp_path: Path
):
    rival = RIVALS[name]
    if not rival.is_installed:
        pytest.skip(rivals.left_out(name))
    facts, box = RowFacts(tiny_blocks, "train"), tiny_config.data.ego_box_m
    keys = [facts.key(row) for row in range(len(facts))]
    change = Change(keys, tiny_config.augment, ego_box_m=box, with_kernels=with_kernels)
    whole = BlockReader(tiny_blocks, "train", ego_box_m=(0.0, 0.0))
    rival.write(tmp_path, list(stored_frames(whole)))
    options = {"batch_size": 4, "num_workers": 0, "collate_fn": CollateFrames(reuse=True)}
    loader = rival.read(tmp_path, change, options)
    reader = BlockReader(tiny_blocks, "train", ego_box_m=box)
    for epoch in (0, 1):
        change.epoch.fill_(epoch)
        rivals.check_equal(loader, reader, seed=0, epoch=epoch, name=name)
    change.seed = 1
    with pytest.raises(AssertionError, match="image"):
        rivals.check_equal(loader, reader, seed=0, epoch=1, name=name)


def test_every_installed_rival_is_held_against_ours(tiny_config: Config, tmp_path: Path):
    lines = rivals.measure(tiny_config, tmp_path, rounds=2, with_kernels=False)
    assert re.match(r"ours: \d+ frames per CPU second, \d+ frames/s$", lines[0])
    for name, rival in RIVALS.items():
        there = [line for line in lines if line.startswith(f"{name}, ")]
        assert len(there) == (len(rivals.WORKERS) if rival.is_installed else 0)
        assert (rivals.left_out(name) in lines) != rival.is_installed
    assert sum("ours / the best of the rivals" in line for line in lines) == len(rivals.WORKERS)


def test_cpu_time_counts_processes_that_run_and_those_that_ended():
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)"
    before = figures.tree_cpu_s()
    subprocess.run([sys.executable, "-c", busy], check=True)
    ended = figures.tree_cpu_s() - before
    assert 0.3 < ended < 3
    with subprocess.Popen(
        [sys.executable, "-c", busy + "\ninput()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        assert figures.tree_cpu_s() - before > ended + 0.3
        running.communicate(b"\n")
    started_s = figures.tree_cpu_s()
    time.sleep(0.05)
    assert figures.tree_cpu_s() - started_s < 0.05
