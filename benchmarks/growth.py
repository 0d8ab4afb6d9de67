"""What a job pays before its first batch as scenes grow: 1, 10 and 100 times the prepared ones.

    python -m benchmarks.growth [--config configs/demo.yaml] [--factors 1 10 100]
        [--rounds 3] [key=value ...]

After `make demo`, on its shards (synthetic data). Shards are linked as often as it takes under
other names, and their scenes have other ids in index and manifest, so all that grows with the
number of scenes does. A fresh process for each figure; CPU seconds, medians of the rounds:

manifest  read and checked, as every job does
open      the train split of a rank: manifest, shards' sizes, keys and labels out of the index
index     the metadata of the train split as a table, as evaluation and reports read it
batch     the first batch of an epoch after that: order, shards opened, augmentation
split     scenes dealt to train, val and test, as jobs.prepare does it

Memory is what opening and the first batch add to the process.
"""

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import figures
from benchmarks.opening import resident_mb
from benchmarks.toy import toy_config
from pipeline.config.data import PrepareConfig
from pipeline.config.load import load
from pipeline.config.schema import Config
from pipeline.data.block_reader import read_index
from pipeline.data.grey_levels import change_greys
from pipeline.data.manifest import INDEX, read_manifest, write_manifest
from pipeline.data.prepare.prepare import find_blocks
from pipeline.data.schema import SPLITS
from pipeline.data.splits import SceneFacts, make_splits
from pipeline.training.data_loop import BlockSteps
from pipeline.training.worker import single_worker
from tests.helpers.repository import REPOSITORY


def grow(folder: Path, place: Path, *, factor: int) -> int:
    """Make `place` a prepared folder of `factor` times the scenes; say how many they are."""
    manifest, index = read_manifest(folder), pd.read_parquet(folder / INDEX)
    shards, frames = [], []
    for split in SPLITS:
        (place / split).mkdir(parents=True)
        copies = itertools.product(range(factor), manifest.shards_of(split))
        for number, (copy, shard) in enumerate(copies):
            name = f"shard-{number:05d}.arrow"
            os.link(folder / split / shard.name, place / split / name)
            shards.append(dataclasses.replace(shard, name=name))
            mine = index[(index["split"] == split) & (index["shard"] == shard.name)]
            frames.append(mine.assign(shard=name, scene_id=mine["scene_id"] + f"-{copy}"))
    pd.concat(frames, ignore_index=True).to_parquet(place / INDEX, index=False)
    scenes = [
        dataclasses.replace(scene, scene_id=f"{scene.scene_id}-{copy}")
        for copy in range(factor)
        for scene in manifest.scenes
    ]
    write_manifest(place, dataclasses.replace(manifest, shards=shards, scenes=scenes))
    return len(scenes)


def costs_of(folder: Path) -> dict[str, float]:
    """Each figure of a prepared folder, in a process that has read nothing yet."""
    config, worker = Config(), single_worker(lambda line: None, use_gpu=False)
    warm_up()
    found = {"manifest_s": cpu_s(lambda: read_manifest(folder))[0]}
    before_mb = resident_mb()
    found["open_s"], steps = cpu_s(lambda: BlockSteps(config, folder, worker))
    found["batch_s"], batch = cpu_s(lambda: next(steps.epoch(0, first_step=0)))
    found["memory_mb"] = resident_mb() - before_mb
    assert batch.num_frames == config.train.batch_size
    steps.close()
    found["index_s"], index = cpu_s(lambda: read_index(folder, "train"))
    scenes = scene_facts(folder)
    found["split_s"], splits = cpu_s(lambda: make_splits(scenes, PrepareConfig()))
    assert len(splits) == len(scenes)
    return found | {"num_scenes": len(scenes), "num_rows": len(index)}


def warm_up() -> None:
    """What the first batch of any size pays once: compiled loops are read from Numba's cache."""
    image = np.zeros((2, 2, 3), np.uint8)
    for flip in (False, True):
        change_greys(image, contrast=1.0, brightness=0.0, flip=flip, out=np.empty_like(image))


def scene_facts(folder: Path) -> list[SceneFacts]:
    """What the deal needs to know of the folder's scenes."""
    index = pd.read_parquet(folder / INDEX, columns=["archive", "scene_id", "kind", "town"])
    rows = index.drop_duplicates().itertuples(index=False, name=None)
    return [
        SceneFacts(archive=archive, scene_id=scene_id, kind=kind, town=town, category="")
        for archive, scene_id, kind, town in rows
    ]


def cpu_s(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call, over all threads, and what it gave."""
    started_s = time.process_time()
    result = work()
    return time.process_time() - started_s, result


def in_process(folder: Path) -> dict[str, float]:
    """`costs_of` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.growth", "--open", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder: Path, *, factor: int, rounds: int) -> dict[str, float]:
    """Medians over fresh processes, on `factor` times the scenes of `folder`."""
    # Beside the prepared folders, as links cannot cross file systems.
    with tempfile.TemporaryDirectory(prefix="growth-", dir=folder.parents[1]) as place:
        grow(folder, Path(place), factor=factor)
        found = [in_process(Path(place)) for _ in range(rounds)]
    medians = {name: statistics.median(one[name] for one in found) for name in found[0]}
    return {"factor": factor} | {name: round(value, 3) for name, value in medians.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=REPOSITORY / "configs/demo.yaml")
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--rounds", type=int, default=3, help="processes per figure")
    parser.add_argument("--toy", action="store_true", help="a small world")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    arguments, overrides = parser.parse_known_args(argv)
    if arguments.open:
        print(json.dumps(costs_of(arguments.open)))
        return
    print(f"growth: {figures.cpu()}, {figures.load()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="growth-") as place:
        is_toy = arguments.toy
        config = toy_config(Path(place)) if is_toy else load(arguments.config, overrides)
        for factor in arguments.factors:
            found = measure(find_blocks(config), factor=factor, rounds=arguments.rounds)
            print(json.dumps({"part": "growth"} | found), flush=True)


if __name__ == "__main__":
    main()
