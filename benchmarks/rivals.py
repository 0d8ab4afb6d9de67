"""Our reader as training uses it against other libraries that do the same work.

    python3.11 -m venv ../rivals && ../rivals/bin/pip install -r requirements.txt
    ../rivals/bin/pip install -r benchmarks/requirements.txt
    ../rivals/bin/python -m benchmarks.rivals [--blocks PREPARED_FOLDER] [--rounds 9] [--kernels]

The libraries are of an environment of their own, as MosaicML Streaming wants an older NumPy; one
that is not installed is named and left out. Without --blocks it writes scenes of the demo's size
into a temporary folder. What each library stores and how it reads is told in
`benchmarks.rival_readers`; each runs with two workers that stay, and in this process: that costs
less CPU time, but a training would wait for it, while ours works in a thread beside it. In their
first epoch all bring every frame once and arrays equal to ours (checked).

Frames per CPU second of all processes together, medians over rounds in which the sides take turns,
and ratios paired by round. With --kernels the rivals change their frames by our compiled loops:
what is then left between the two is reading and collating alone.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks import figures
from benchmarks.reader import arrays_of
from benchmarks.reader_training import DEMO, TOY
from benchmarks.rival_readers import RIVALS, Change, CollateFrames, stored_frames
from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.batch import Batch
from pipeline.data.block_reader import BlockReader
from pipeline.data.prepare.prepare import find_blocks, prepare
from pipeline.data.split_rows import RowFacts
from pipeline.synthetic.writer import write_archives
from pipeline.training.data_loop import BlockSteps
from pipeline.training.worker import single_worker

WORKERS = (0, 2)
OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One way to have an epoch's batches, and what its epochs took."""

    epoch: Callable[[int], Iterable]
    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)


def measure(config: Config, folder: Path, *, rounds: int, with_kernels: bool) -> list[str]:
    """One line per side, the quickest rival, and the libraries left out."""
    blocks, box = find_blocks(config), config.data.ego_box_m
    facts = RowFacts(blocks, "train")
    change = Change(
        [facts.key(row) for row in range(len(facts))],
        config.augment,
        ego_box_m=box,
        with_kernels=with_kernels,
    )
    reader = BlockReader(blocks, "train", ego_box_m=box)
    steps = BlockSteps(config, blocks, single_worker(lambda line: None, use_gpu=False))
    sides = {OURS: Side(epoch=lambda number: steps.epoch(number, first_step=0))}
    sides |= rivals(config, blocks, folder, change)
    for name, side in sides.items():
        if name != OURS:
            check_equal(side.epoch(0), reader, seed=change.seed, epoch=0, name=name)
    for number in range(rounds):
        for side in list(sides.values())[:: -1 if number % 2 else 1]:
            change.epoch.fill_(number)
            timed(side, number)
    steps.close()
    missing = [name for name, rival in RIVALS.items() if not rival.is_installed]
    return [*told(sides, num_frames=len(facts)), *map(left_out, missing)]


def rivals(config: Config, blocks: Path, folder: Path, change: Change) -> dict[str, Side]:
    """Every installed library with each number of workers, its frames written first."""
    frames = list(stored_frames(BlockReader(blocks, "train", ego_box_m=(0.0, 0.0))))
    sides: dict[str, Side] = {}
    for name, rival in RIVALS.items():
        if not rival.is_installed:
            continue
        place = folder / rival.module
        place.mkdir()
        rival.write(place, frames)
        for num_workers in WORKERS:
            options = {
                "batch_size": config.train.batch_size,
                "num_workers": num_workers,
                "persistent_workers": num_workers > 0,
                "collate_fn": CollateFrames(reuse=num_workers == 0),
            }
            loader = rival.read(place, change, options)
            sides[name + suffix(num_workers)] = Side(epoch=lambda n, it=loader: it)
    return sides


def check_equal(
    batches: Iterable, reader: BlockReader, *, seed: int, epoch: int, name: str
) -> None:
    """Every frame comes once, and batches are those of our reader for the same rows."""
    seen: list[int] = []
    for found in batches:
        rows = found["row"].tolist()
        seen += rows
        for key, array in expected(reader.batch(rows, augment_seed=(seed, epoch))).items():
            assert np.array_equal(array, found[key].numpy()), (name, key)
    assert sorted(seen) == list(range(reader.num_rows)), (name, len(seen), reader.num_rows)


def expected(batch: Batch) -> dict[str, np.ndarray]:
    """What a rival's batch must hold."""
    small = ("row", "frame_label", "point_offset", "intrinsics", "camera_from_lidar")
    return arrays_of(batch) | {name: getattr(batch, name).numpy() for name in small}


def timed(side: Side, number: int) -> None:
    """Note the CPU and wall seconds of one epoch."""
    cpu_s, wall_s = figures.tree_cpu_s(), time.perf_counter()
    for batch in side.epoch(number):
        del batch  # before the next one comes, as a training lets go of it
    side.cpu_s.append(figures.tree_cpu_s() - cpu_s)
    side.wall_s.append(time.perf_counter() - wall_s)


def told(sides: dict[str, Side], *, num_frames: int) -> list[str]:
    """A line per side, and ours against the quickest rival."""
    lines = []
    for name, side in sides.items():
        line = f"{name}: {num_frames / statistics.median(side.cpu_s):.0f} frames per CPU second"
        line += f", {num_frames / statistics.median(side.wall_s):.0f} frames/s"
        if name != OURS:
            line += f"; ours {figures.spread(ratios(side, sides[OURS]))} times as many"
        lines.append(line)
    return [*lines, *(against_best(sides, num_workers) for num_workers in WORKERS)]


def against_best(sides: dict[str, Side], num_workers: int) -> str:
    """Ours against the quickest of the rivals with that many workers."""
    others = [name for name in sides if name.endswith(suffix(num_workers))]
    best = min(others, key=lambda name: statistics.median(sides[name].cpu_s))
    found = figures.spread(ratios(sides[best], sides[OURS]))
    return f"ours / the best of the rivals with {num_workers} workers ({best}): {found}"


def suffix(num_workers: int) -> str:
    """Of a side's name."""
    return f", {num_workers} workers"


def ratios(theirs: Side, ours: Side) -> list[float]:
    """Our frames per CPU second over theirs, round by round."""
    return [a / b for a, b in zip(theirs.cpu_s, ours.cpu_s, strict=True)]


def left_out(name: str) -> str:
    """The sentence for a library that is not installed."""
    return f"{name} is not installed and was left out (benchmarks/requirements.txt)"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--blocks", help="prepared folder; default: scenes of the demo's size")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each side")
    parser.add_argument("--kernels", action="store_true", help="lend our loops to the rivals")
    parser.add_argument("--toy", action="store_true", help="a small world, for tests")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="rivals-benchmark-") as place:
        folder = Path(place)
        blocks = arguments.blocks or str(folder / "blocks")
        data = {"root": str(folder / "anovox"), "blocks": blocks}
        config = merge(Config(), TOY if arguments.toy else DEMO, {"data": data})
        if not arguments.blocks:
            write_archives(config.synthetic, folder / "anovox", None)
            prepare(config, lambda done, total: None)
        print(f"rivals: {figures.cpu()}, {figures.load()}")
        for line in measure(
            config, folder, rounds=arguments.rounds, with_kernels=arguments.kernels
        ):
            print(f"rivals: {line}", flush=True)


if __name__ == "__main__":
    main()
