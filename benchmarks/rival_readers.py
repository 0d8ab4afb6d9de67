"""The readers that `benchmarks.rivals` holds ours against: what they store and how they read it.

All do the same work on a frame: the ego box, mirror and grey levels drawn for the frame's key,
calibration with it; then ragged collation. What is chosen for each follows its documentation:

torch DataLoader     one memory-mapped .npy per array, all frames one after the other, and offsets:
                     a map-style dataset that opens nothing per frame
WebDataset           tar shards of .npy members, decoded, changed and batched inside the workers
                     (the documented way), so that whole batches travel between processes
LitData              chunks of 64 MB (the documented size) of tensors, which it reads without a copy
MosaicML Streaming   MDS shards without compression, with the types of all columns fixed
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.reader import ARRAYS, RaggedCollate, arrays_of
from pipeline.config.data import AugmentConfig
from pipeline.data.assembly import Part, joined
from pipeline.data.block_reader import BlockReader
from pipeline.data.frames import Key, StoredFrame, outside_box
from pipeline.data.memory import Memory
from pipeline.data.transforms import augment
from pipeline.data.transforms.augment import Augmentation

Frame = dict[str, np.ndarray]
"""`ARRAYS`, `numbers` (intrinsics, then camera_from_lidar) and `facts` (row, label)."""
TYPES = dict.fromkeys(ARRAYS, "uint8") | {"points": "float32"}
TYPES |= {"numbers": "float32", "facts": "int64"}
NUM_NUMBERS = 4 + 16
FRAMES_PER_TAR = 16
SHUFFLE_BUFFER = 100


def stored_frames(reader: BlockReader) -> Iterator[Frame]:
    """The frames of a reader without ego box, as they lie in its blocks."""
    for row in range(reader.num_rows):
        batch = reader.batch([row], augment_seed=None)
        frame = arrays_of(batch)
        numbers = [batch.intrinsics.numpy().ravel(), batch.camera_from_lidar.numpy().ravel()]
        frame |= {"image": frame["image"][0], "numbers": np.concatenate(numbers)}
        yield frame | {"facts": np.array([row, int(batch.frame_label[0])])}


class Change:
    """Ego box and augmentation of a frame, by Pillow and NumPy or by our kernels.

    Pillow's look-up and mirror, and rows taken by number, were the quickest of what is at hand (an
    image of 384 x 128: 0.27 ms against 0.42 by np.take and 0.67 by indexing).
    """

    def __init__(
        self,
        keys: Sequence[Key],
        config: AugmentConfig,
        *,
        ego_box_m: Sequence[float],
        with_kernels: bool,
    ) -> None:
        self._keys, self._config, self._ego_box_m = keys, config, tuple(ego_box_m)
        self._apply = by_kernels if with_kernels else by_libraries
        self.seed = 0
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        """Seen by workers that are already running."""

    def __call__(self, frame: Frame) -> Frame:
        key, epoch = self._keys[int(frame["facts"][0])], int(self.epoch)
        change = augment.draw(seed=self.seed, epoch=epoch, key=key, config=self._config)
        assert change.only_mirrors, change
        numbers = frame["numbers"]
        intrinsics, pose = augment.change_calibration(
            numbers[:4], numbers[4:].reshape(4, 4), change, width_px=frame["image"].shape[1]
        )
        return self._apply(frame, change, self._ego_box_m) | {
            "intrinsics": intrinsics.astype(np.float32),
            "camera_from_lidar": pose.astype(np.float32),
            "facts": frame["facts"],
        }


def by_libraries(frame: Frame, change: Augmentation, ego_box_m: Sequence[float]) -> Frame:
    """The frame's arrays changed by Pillow and NumPy."""
    image = Image.fromarray(frame["image"]).point(augment.grey_table_of(change).tolist() * 3)
    if change.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    kept = np.flatnonzero(outside_box(frame["points"], ego_box_m))
    points = frame["points"].take(kept, axis=0)
    if change.flip:
        # NumPy 2.1's `negative` of a strided column in place reads what it has written.
        np.multiply(points[:, 1], np.float32(-1), out=points[:, 1])
    of_points = {name: frame[name].take(kept) for name in ("point_class", "point_label")}
    return {"image": np.asarray(image), "points": points} | of_points


def by_kernels(frame: Frame, change: Augmentation, ego_box_m: Sequence[float]) -> Frame:
    """The frame's arrays changed by the same compiled loops as ours, lent to the rivals."""
    arrays = {name: frame[name] for name in ARRAYS} | {"image": frame["image"][None]}
    part = Part(frame=StoredFrame(**arrays), change=change, ego_box_m=tuple(ego_box_m))
    shape = frame["image"].shape
    found, _ = joined([part], Memory(), image_shape=shape, num_columns=4)
    return found | {"image": found["image"][0]}


class CollateFrames(RaggedCollate):
    """A ragged batch of changed frames, with rows, labels and calibration."""

    def __call__(self, frames: Sequence[Frame]) -> dict[str, Tensor]:
        facts = torch.from_numpy(np.stack([frame["facts"] for frame in frames]))
        batch = super().__call__(frames) | {"row": facts[:, 0], "frame_label": facts[:, 1]}
        for name in ("intrinsics", "camera_from_lidar"):
            batch[name] = torch.from_numpy(np.stack([frame[name] for frame in frames]))
        return batch


# ---- torch DataLoader


class MappedFrames(Dataset):
    """Frames of memory-mapped arrays, in which they lie one after the other."""

    def __init__(self, folder: Path, change: Change) -> None:
        self._arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in TYPES}
        self._ends = np.load(folder / "ends.npy")
        self._change = change

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> Frame:
        points = slice(self._ends[row - 1] if row else 0, self._ends[row])
        of_frame = ("image", "numbers", "facts")
        places = {name: row if name in of_frame else points for name in TYPES}
        # As plain arrays: each slice of a memmap would be a memmap, which is slow to make.
        return self._change({n: np.asarray(self._arrays[n][place]) for n, place in places.items()})


def write_mapped(folder: Path, frames: Sequence[Frame]) -> None:
    """Write what `MappedFrames` reads."""
    for name in TYPES:
        join = np.stack if name in ("image", "numbers", "facts") else np.concatenate
        np.save(folder / f"{name}.npy", join([frame[name] for frame in frames]))
    np.save(folder / "ends.npy", np.cumsum([len(frame["points"]) for frame in frames]))


def read_mapped(folder: Path, change: Change, options: dict[str, Any]) -> Iterable:
    """Shuffled by the loader."""
    return DataLoader(MappedFrames(folder, change), shuffle=True, **options)


# ---- WebDataset


def write_tars(folder: Path, frames: Sequence[Frame]) -> None:
    """Shards of a few frames, so that two workers have many each."""
    import webdataset

    pattern = str(folder / "shard-%05d.tar")
    with webdataset.ShardWriter(pattern, maxcount=FRAMES_PER_TAR, verbose=0) as writer:
        for number, frame in enumerate(frames):
            members = {f"{name}.npy": frame[name] for name in TYPES}
            writer.write({"__key__": f"{number:06d}"} | members)


def read_tars(folder: Path, change: Change, options: dict[str, Any]) -> Iterable:
    """Shards and frames shuffled, changed and batched by whichever process reads them."""
    import webdataset

    shards = sorted(str(path) for path in folder.glob("*.tar"))

    def changed(sample: dict[str, Any]) -> Frame:
        return change({name: sample[f"{name}.npy"] for name in TYPES})

    options = dict(options)
    collate, size = options.pop("collate_fn"), options.pop("batch_size")
    dataset = webdataset.WebDataset(shards, shardshuffle=len(shards)).shuffle(SHUFFLE_BUFFER)
    dataset = dataset.decode().map(changed).batched(size, collation_fn=collate)
    return webdataset.WebLoader(dataset, batch_size=None, **options)


# ---- LitData


def write_chunks(folder: Path, frames: Sequence[Frame]) -> None:
    """By `optimize`, in one process, whose progress is not told."""
    import litdata

    def stored(number: int) -> dict[str, Tensor]:
        return {name: torch.from_numpy(frames[number][name]) for name in TYPES}

    numbers, place = range(len(frames)), str(folder)
    options = {"chunk_bytes": "64MB", "num_workers": 1, "start_method": "fork", "verbose": False}
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        litdata.optimize(stored, list(numbers), place, **options)


def read_chunks(folder: Path, change: Change, options: dict[str, Any]) -> Iterable:
    """Its own dataset and loader."""
    import litdata

    def changed(sample: dict[str, Tensor]) -> Frame:
        return change({name: tensor.numpy() for name, tensor in sample.items()})

    dataset = litdata.StreamingDataset(str(folder), shuffle=True, transform=changed)
    return litdata.StreamingDataLoader(dataset, **options)


# ---- MosaicML Streaming


def write_mds(folder: Path, frames: Sequence[Frame]) -> None:
    """Shapes are fixed where all frames agree on them."""
    import streaming

    fixed = {"image": frames[0]["image"].shape, "numbers": (NUM_NUMBERS,), "facts": (2,)}
    shapes = {name: ":" + ",".join(map(str, shape)) for name, shape in fixed.items()}
    columns = {name: f"ndarray:{kind}{shapes.get(name, '')}" for name, kind in TYPES.items()}
    with streaming.MDSWriter(out=str(folder), columns=columns, progress_bar=False) as writer:
        for frame in frames:
            writer.write(frame)


def read_mds(folder: Path, change: Change, options: dict[str, Any]) -> Iterable:
    """Its own dataset, which shuffles, in torch's loader."""
    import streaming

    class Changed(streaming.StreamingDataset):
        def __getitem__(self, at: Any) -> Any:
            return change(super().__getitem__(at))

    dataset = Changed(local=str(folder), shuffle=True, batch_size=options["batch_size"])
    return DataLoader(dataset, **options)


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A library, and how it is used."""

    module: str
    """What is imported; what is not installed is left out."""
    write: Callable[[Path, Sequence[Frame]], None]
    read: Callable[[Path, Change, dict[str, Any]], Iterable]
    """Batches of an epoch, each time it is iterated over; the options are those of a DataLoader."""

    @property
    def is_installed(self) -> bool:
        return find_spec(self.module) is not None


RIVALS = {
    "torch DataLoader": Rival(module="torch", write=write_mapped, read=read_mapped),
    "WebDataset": Rival(module="webdataset", write=write_tars, read=read_tars),
    "LitData": Rival(module="litdata", write=write_chunks, read=read_chunks),
    "MosaicML Streaming": Rival(module="streaming", write=write_mds, read=read_mds),
}
