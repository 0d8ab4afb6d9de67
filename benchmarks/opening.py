"""What opening a large split costs a rank: CPU time and memory of `BlockReader`, before any batch.

    python -m benchmarks.opening --blocks PREPARED_FOLDER [--rows 96000]

The folder's train shards are linked as often as it takes under other names, beside an index and a
manifest of as many rows; a fresh process opens them.
"""

import argparse
import dataclasses
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from pipeline.data.block_reader import BlockReader
from pipeline.data.manifest import INDEX, read_manifest, write_manifest

SPLIT = "train"


def multiply(folder: Path, place: Path, *, num_rows: int) -> int:
    """Make `place` a prepared folder of at least `num_rows` train rows; say how many they are."""
    manifest = read_manifest(folder)
    index = pd.read_parquet(folder / INDEX).query("split == @SPLIT")
    (place / SPLIT).mkdir(parents=True)
    shards, frames, total = [], [], 0
    for number, shard in zip(itertools.count(), itertools.cycle(manifest.shards_of(SPLIT))):
        if total >= num_rows:
            break
        name = f"shard-{number:05d}.arrow"
        os.link(folder / SPLIT / shard.name, place / SPLIT / name)
        shards.append(dataclasses.replace(shard, name=name))
        frames.append(index[index["shard"] == shard.name].assign(shard=name))
        total += shard.num_rows
    pd.concat(frames, ignore_index=True).to_parquet(place / INDEX, index=False)
    write_manifest(place, dataclasses.replace(manifest, shards=shards))
    return total


def open_once(folder: Path) -> dict[str, float]:
    """CPU seconds and MB of resident memory that opening the train split takes in this process."""
    before_mb, started_s = resident_mb(), time.process_time()
    reader = BlockReader(folder, SPLIT, ego_box_m=(2.6, 1.1))
    cpu_s = time.process_time() - started_s
    memory_mb = resident_mb() - before_mb
    reader.batch([reader.num_rows // 2], augment_seed=(0, 0))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": reader.num_rows, "cpu_s": cpu_s, "memory_mb": memory_mb, "peak_mb": peak_mb}


def open_in_process(folder: Path) -> dict[str, float]:
    """The same in a process of its own, where nothing has been read before."""
    command = [sys.executable, "-m", "benchmarks.opening", "--open", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def resident_mb() -> float:
    """Of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--blocks", type=Path, help="prepared folder")
    parser.add_argument("--rows", type=int, default=96_000)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.open:
        print(json.dumps(open_once(arguments.open)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.blocks.parent) as place:
        multiply(arguments.blocks, Path(place), num_rows=arguments.rows)
        costs = open_in_process(Path(place))
        print(
            f"opening: {costs['rows']} rows in {costs['cpu_s']:.2f} CPU s and "
            f"{costs['memory_mb']:.0f} MB"
        )


if __name__ == "__main__":
    main()
