"""How fast batches come: memory-mapped blocks against two DataLoaders and against memcpy.

    python -m benchmarks.reader [--root ANOVOX_FOLDER] [--rounds 5]

Without --root it writes synthetic scenes of AnoVox's full size into a temporary folder. Five
ratios, each the median over rounds that alternate the two sides, with minimum and maximum:

decode   frames/s over a torch DataLoader (2 workers) that decodes PNG and NPY, resizes and pads
npy      frames/s over the better of a torch DataLoader with 0 or 2 workers on pre-decoded .npy
memcpy   bytes/s over np.copyto of the same mapped arrays, row after row, and nothing else
stream   bytes/s over one np.copyto of each batch, assembled beforehand in one mapped file
ego box  frames/s with the ego box on over off

Both sides give equal arrays (checked), read from a warm page cache, and write to memory that is
used again wherever they are in one process.
"""

import argparse
import itertools
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from pipeline.config.data import SyntheticConfig
from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.batch import Batch
from pipeline.data.block_reader import BlockReader
from pipeline.data.prepare.index import scan
from pipeline.data.prepare.prepare import find_blocks, prepare
from pipeline.data.schema import ragged
from pipeline.data.shards import open_shard
from pipeline.datasets.anovox.class_ids import label_of_class
from pipeline.datasets.anovox.scene import Scene
from pipeline.synthetic.writer import write_archives

BATCH_SIZE = 4
OFF = (0.0, 0.0)
ARRAYS = ("image", "points", "point_class", "point_label")


class RecordedFrames(Dataset):
    """Frames as AnoVox recorded them: PNG and NPY decoded, image reduced, labels looked up."""

    def __init__(self, reader: BlockReader, scenes: dict[str, Scene]) -> None:
        index, manifest = reader.index, reader.manifest
        self.size = (manifest.image_width, manifest.image_height)
        keys = index["archive"] + "/" + index["scene_id"] + "/" + index["pose"]
        frames = zip(keys, index["frame_id"].tolist(), strict=True)
        self.files = [scenes[key].files(frame_id) for key, frame_id in frames]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        files = self.files[row]
        image = Image.open(files.image).resize(self.size, Image.Resampling.BOX)
        point_class = np.load(files.semantic_lidar)[:, 3].astype(np.uint8)
        return {
            "image": np.array(image),
            "points": np.ascontiguousarray(np.load(files.lidar)),
            "point_class": point_class,
            "point_label": label_of_class(point_class),
        }


class StoredArrays(Dataset):
    """The same arrays, decoded beforehand: one .npy file per array and frame."""

    def __init__(self, folder: Path, num_rows: int) -> None:
        self.folder, self.num_rows = folder, num_rows

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        return {name: np.load(self.folder / f"{name}_{row}.npy") for name in ARRAYS}


def store_arrays(folder: Path, reader: BlockReader) -> None:
    """Write the files that `StoredArrays` reads."""
    for row in range(reader.num_rows):
        for name, array in arrays_of(reader.batch([row], augment_seed=None)).items():
            np.save(folder / f"{name}_{row}.npy", array[0] if name == "image" else array)


def collate_padded(frames: Sequence[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """Clouds padded with zeros to the longest."""
    lengths = [len(frame["points"]) for frame in frames]
    batch = {"length": torch.tensor(lengths)}
    for name in ARRAYS:
        parts = [torch.from_numpy(frame[name]) for frame in frames]
        batch[name] = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
    return batch


class RaggedCollate:
    """Clouds concatenated; in the caller's process into memory that is used again."""

    def __init__(self, *, reuse: bool) -> None:
        self.reuse = reuse
        self.memory: dict[str, np.ndarray] = {}

    def __call__(self, frames: Sequence[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        lengths = np.cumsum([len(frame["points"]) for frame in frames])
        batch = {"point_offset": torch.from_numpy(lengths)}
        for name in ARRAYS:
            parts = [frame[name] for frame in frames]
            if name == "image":
                parts = [part[None] for part in parts]
            batch[name] = torch.from_numpy(np.concatenate(parts, out=self._place(name, parts)))
        return batch

    def _place(self, name: str, parts: list[np.ndarray]) -> np.ndarray | None:
        if not self.reuse:
            return None
        total = sum(len(part) for part in parts)
        if name not in self.memory or len(self.memory[name]) < total:
            shape = (total + total // 4, *parts[0].shape[1:])
            self.memory[name] = np.empty(shape, parts[0].dtype)
        return self.memory[name][:total]


def arrays_of(batch: Batch) -> dict[str, np.ndarray]:
    """A batch's large arrays, images as (B, H, W, 3)."""
    arrays = {name: getattr(batch, name).numpy() for name in ARRAYS[1:]}
    return {"image": batch.image.permute(0, 2, 3, 1).numpy(), **arrays}


def assert_padded_equal(batch: Batch, other: dict[str, torch.Tensor]) -> None:
    mask = torch.arange(other["points"].shape[1]) < other["length"][:, None]
    for name, array in arrays_of(batch).items():
        found = other[name] if name == "image" else other[name][mask]
        assert np.array_equal(array, found.numpy()), name


def assert_ragged_equal(batch: Batch, other: dict[str, torch.Tensor]) -> None:
    assert torch.equal(batch.point_offset, other["point_offset"])
    for name, array in arrays_of(batch).items():
        assert np.array_equal(array, other[name].numpy()), name


def loader(dataset: Dataset, plan: list[list[int]], collate: Callable, workers: int) -> DataLoader:
    return DataLoader(
        dataset,
        batch_sampler=plan,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def drain(batches: Iterable[Any]) -> float:
    """Seconds until every batch has come; each is let go before the next."""
    started = time.perf_counter()
    iterator = iter(batches)
    while next(iterator, None) is not None:
        pass
    return time.perf_counter() - started


def ratios(
    ours: Callable[[], float], theirs: Sequence[Callable[[], float]], rounds: int
) -> list[float]:
    """Time of the best of `theirs` over our time, per round; sides alternate; one warm-up each."""
    ours()
    for other in theirs:
        other()
    found = []
    for _ in range(rounds):
        mine = ours()
        found.append(min(other() for other in theirs) / mine)
    return found


def cells_of(block: pa.RecordBatch, name: str) -> list[np.ndarray]:
    """A column's cells as bytes, without copying."""
    values, offsets = ragged(block, name)
    return [values[i:j].view(np.uint8) for i, j in itertools.pairwise(offsets)]


def row_copier(reader: BlockReader, folder: Path, plan: list[list[int]]) -> Callable[[], float]:
    """np.copyto of the same arrays of the same rows, where they lie, to one destination."""
    blocks = [open_shard(folder, shard) for shard in reader.manifest.shards_of("train")]
    cells = {name: [cell for block in blocks for cell in cells_of(block, name)] for name in ARRAYS}
    parts = [[cells[name][row] for name in ARRAYS for row in rows] for rows in plan]
    destination = np.zeros(max(sum(map(len, batch)) for batch in parts), dtype=np.uint8)

    def run() -> float:
        started = time.perf_counter()
        for batch in parts:
            start = 0
            for part in batch:
                np.copyto(destination[start : start + len(part)], part)
                start += len(part)
        return time.perf_counter() - started

    return run


def stream_copier(reader: BlockReader, plan: list[list[int]], path: Path) -> Callable[[], float]:
    """One np.copyto per batch out of a mapped file that holds the assembled batches in order."""
    sizes = []
    with path.open("wb") as file:
        for rows in plan:
            arrays = arrays_of(reader.batch(rows, augment_seed=None)).values()
            sizes.append(sum(file.write(np.ascontiguousarray(array).data) for array in arrays))
    source = np.memmap(path, dtype=np.uint8, mode="r")
    destination = np.zeros(max(sizes), dtype=np.uint8)

    def run() -> float:
        started = time.perf_counter()
        start = 0
        for size in sizes:
            np.copyto(destination[:size], source[start : start + size])
            start += size
        return time.perf_counter() - started

    return run


def measure(config: Config, folder: Path, rounds: int) -> str:
    """All three ratios as one line of Markdown."""
    blocks = find_blocks(config)
    reader = BlockReader(blocks, "train", ego_box_m=OFF)
    order = np.random.default_rng(0).permutation(reader.num_rows).tolist()
    plan = [order[i : i + BATCH_SIZE] for i in range(0, len(order), BATCH_SIZE)]
    recorded = RecordedFrames(reader, dict(scan(Path(config.data.root)).scenes))
    store_arrays(folder, reader)
    stored = StoredArrays(folder, reader.num_rows)
    decoding = loader(recorded, plan, collate_padded, 2)
    npy = {n: loader(stored, plan, RaggedCollate(reuse=n == 0), n) for n in (0, 2)}
    for batch, *others in zip(blocks_of(reader, plan), decoding, *npy.values(), strict=True):
        assert_padded_equal(batch, others[0])
        assert_ragged_equal(batch, others[1])
        assert_ragged_equal(batch, others[2])

    def ours() -> float:
        return drain(blocks_of(reader, plan))

    boxed = BlockReader(blocks, "train", ego_box_m=config.data.ego_box_m)
    many = 10 * rounds  # the quick comparisons take milliseconds a round
    results = {
        "decode": ratios(ours, [lambda: drain(decoding)], rounds),
        "npy": ratios(ours, [lambda n=n: drain(npy[n]) for n in npy], rounds),
        "memcpy": ratios(ours, [row_copier(reader, blocks, plan)], many),
        "stream": ratios(ours, [stream_copier(reader, plan, folder / "batches.bin")], many),
        "ego box": ratios(lambda: drain(blocks_of(boxed, plan)), [ours], many),
    }
    speed = statistics.median(reader.num_rows / ours() for _ in range(rounds))
    told = ", ".join(
        f"{name} {statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})"
        for name, r in results.items()
    )
    return f"reader: {reader.num_rows} frames, {speed:.0f} frames/s; {told}"


def blocks_of(reader: BlockReader, plan: list[list[int]]) -> Iterable[Batch]:
    return (reader.batch(rows, augment_seed=None) for rows in plan)


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", help="folder of AnoVox archives; default: write synthetic ones")
    parser.add_argument("--rounds", type=int, default=5, help="alternations of each comparison")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="reader-benchmark-") as place:
        folder = Path(place)
        root = arguments.root or str(folder / "anovox")
        if not arguments.root:
            write_archives(SyntheticConfig(num_scenes=12, num_frames=12), Path(root), None)
        changes = {"data": {"root": root, "blocks": str(folder / "blocks")}}
        config = merge(Config(), changes)
        prepare(config, lambda done, total: None)
        (folder / "npy").mkdir()
        print(measure(config, folder / "npy", arguments.rounds))


if __name__ == "__main__":
    main()
