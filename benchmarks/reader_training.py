"""The reader as training uses it (ego box, augmentation) against its old self and a DataLoader.

    python -m benchmarks.reader_training [--blocks PREPARED_FOLDER] [--rounds 15] [--toy]

Without --blocks it writes scenes of the demo's size into a temporary folder. Frames per CPU second,
medians over rounds in which the sides take turns, and ratios paired by round:

before      assembly as it was at 9596e02 (`benchmarks.reader_before`); equal bit for bit (checked)
dataloader  torch's DataLoader in the same process on pre-decoded .npy: the same changes by NumPy,
            ragged collation into memory that is used again; equal arrays (checked)
memcpy      np.copyto of the same rows' stored arrays, against assembly with the ego box alone
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.reader import (
    ARRAYS,
    BATCH_SIZE,
    RaggedCollate,
    arrays_of,
    drain,
    row_copier,
    store_arrays,
)
from benchmarks.reader_before import BeforeReader, change_image, draw
from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.block_reader import BlockReader
from pipeline.data.frames import outside_box
from pipeline.data.prepare.prepare import find_blocks, prepare
from pipeline.data.split_rows import RowFacts
from pipeline.data.transforms.augment import change_points
from pipeline.synthetic.writer import write_archives

SEED = 0
DEMO = {
    "synthetic": {"num_scenes": 60, "num_frames": 2, "image_width": 384, "image_height": 256}
    | {"num_channels": 32, "points_per_second": 250_000},
    "prepare": {"image_width": 384, "image_crop": [0.28, 0.78], "min_anomaly_pixels": 10},
}
TOY = {
    "synthetic": {"num_scenes": 12, "image_width": 192, "image_height": 128}
    | {"num_channels": 8, "points_per_second": 20_000},
    "prepare": {"image_width": 96},
}


class ChangedArrays(Dataset):
    """Pre-decoded frames without their ego returns, augmented as training augments them."""

    def __init__(self, folder: Path, facts: RowFacts, ego_box_m: list[float]) -> None:
        self.folder, self.facts, self.ego_box_m, self.epoch = folder, facts, ego_box_m, 0

    def __len__(self) -> int:
        return len(self.facts)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        frame = {name: np.load(self.folder / f"{name}_{row}.npy") for name in ARRAYS}
        change = draw((SEED, self.epoch), self.facts.key(row))
        keep = outside_box(frame["points"], self.ego_box_m)
        return {
            "image": change_image(frame["image"], change),
            "points": change_points(frame["points"][keep], change),
            "point_class": frame["point_class"][keep],
            "point_label": frame["point_label"][keep],
        }


def cpu_s(epoch: Callable[[int], object], number: int) -> float:
    """CPU seconds of an epoch."""
    started_s = time.process_time()
    epoch(number)
    return time.process_time() - started_s


def measure(config: Config, folder: Path, rounds: int) -> str:
    """One line: frames per CPU second of each side, and ratios."""
    blocks, box = find_blocks(config), config.data.ego_box_m
    reader = BlockReader(blocks, "train", ego_box_m=box)
    whole = BlockReader(blocks, "train", ego_box_m=(0.0, 0.0))
    before = BeforeReader(blocks, "train", ego_box_m=box)
    order = np.random.default_rng(0).permutation(reader.num_rows).tolist()
    plan = [order[i : i + BATCH_SIZE] for i in range(0, len(order), BATCH_SIZE)]
    store_arrays(folder, whole)
    dataset = ChangedArrays(folder, RowFacts(blocks, "train"), box)
    loader = DataLoader(dataset, batch_sampler=plan, collate_fn=RaggedCollate(reuse=True))
    check_equal(reader, before, loader, plan)
    copy = row_copier(whole, blocks, plan)

    def load(number: int) -> float:
        dataset.epoch = number
        return drain(loader)

    sides: dict[str, Callable[[int], object]] = {
        "ours": lambda number: drain(reader.batch(r, augment_seed=(SEED, number)) for r in plan),
        "before": lambda number: drain(before.batch(r, (SEED, number)) for r in plan),
        "dataloader": load,
        "ego box": lambda number: drain(reader.batch(r, augment_seed=None) for r in plan),
        "memcpy": lambda number: copy(),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in list(sides.items())[:: -1 if number % 2 else 1]:
            times[name].append(cpu_s(side, number))
    return told(times, num_frames=reader.num_rows)


def check_equal(
    reader: BlockReader, before: BeforeReader, loader: DataLoader, plan: list[list[int]]
) -> None:
    """The three sides bring the same arrays in epoch 0."""
    for rows, loaded in zip(plan, loader, strict=True):
        batch, old = reader.batch(rows, augment_seed=(SEED, 0)), before.batch(rows, (SEED, 0))
        ours = arrays_of(batch) | {
            name: getattr(batch, name).numpy() for name in ("intrinsics", "camera_from_lidar")
        }
        for name, array in old.items():
            assert ours[name].tobytes() == array.tobytes(), name
        for name in ARRAYS:
            assert np.array_equal(ours[name], loaded[name].numpy()), name


def told(times: dict[str, list[float]], *, num_frames: int) -> str:
    """Rates of the sides, and ours over the others'."""
    rates = {name: num_frames / statistics.median(spent) for name, spent in times.items()}
    shown = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    pairs = {"ours / before": ("before", "ours"), "ours / dataloader": ("dataloader", "ours")}
    pairs["ego box / memcpy"] = ("memcpy", "ego box")
    found = {
        name: [a / b for a, b in zip(times[slow], times[quick], strict=True)]
        for name, (slow, quick) in pairs.items()
    }
    ratios = ", ".join(
        f"{name} {statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})"
        for name, r in found.items()
    )
    return f"reader in training: {num_frames} frames; per CPU second: {shown}; {ratios}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--blocks", help="prepared folder; default: scenes of the demo's size")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each side")
    parser.add_argument("--toy", action="store_true", help="a small world, for tests")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="reader-benchmark-") as place:
        folder = Path(place)
        data = {
            "root": str(folder / "anovox"),
            "blocks": arguments.blocks or str(folder / "blocks"),
        }
        config = merge(Config(), TOY if arguments.toy else DEMO, {"data": data})
        if not arguments.blocks:
            write_archives(config.synthetic, folder / "anovox", None)
            prepare(config, lambda done, total: None)
        (folder / "npy").mkdir()
        print(measure(config, folder / "npy", arguments.rounds))


if __name__ == "__main__":
    main()
