"""Assembly of batches as it was at 9596e02, for `benchmarks.reader` to be held against.

Each frame is filtered, mirrored and looked up into copies of its own, and those are concatenated.
"""

import hashlib
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.data.frames import Key, StoredFrame, kept
from pipeline.data.manifest import read_manifest
from pipeline.data.memory import Memory
from pipeline.data.split_rows import RowFacts, SplitRows
from pipeline.data.transforms.augment import (
    MAX_BRIGHTNESS,
    MAX_CONTRAST,
    Augmentation,
    change_calibration,
    change_points,
)

ARRAYS = {
    "image": np.dtype(np.uint8),
    "points": np.dtype(np.float32),
    "point_class": np.dtype(np.uint8),
    "point_label": np.dtype(np.uint8),
}


def draw(seed: tuple[int, int], key: Key) -> Augmentation:
    """One frame's augmentation under the defaults of the augment section."""
    text = "\n".join(str(part) for part in (*seed, *key))
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "little"))
    return Augmentation(
        flip=bool(rng.integers(2)),
        brightness=float(rng.uniform(-MAX_BRIGHTNESS, MAX_BRIGHTNESS)),
        contrast=float(rng.uniform(1 - MAX_CONTRAST, 1 + MAX_CONTRAST)),
        rotation_rad=float(rng.uniform(-0.0, 0.0)),
        scale=float(rng.uniform(1 - 0.0, 1 + 0.0)),
        point_dropout=float(rng.uniform(0, 0.0)),
        dropout_seed=int(rng.integers(2**63)),
    )


def change_image(image: np.ndarray, change: Augmentation) -> np.ndarray:
    """Mirrored and looked up by NumPy's indexing."""
    levels = (np.arange(256) - 127.5) * change.contrast + 127.5 + change.brightness
    table = np.rint(levels).clip(0, 255).astype(np.uint8)
    return table[image[:, ::-1] if change.flip else image]


class BeforeReader:
    """Batches of a split's rows by the old way: arrays by name, calibration with them."""

    def __init__(self, folder: Path, split: str, *, ego_box_m: Sequence[float]) -> None:
        manifest, facts = read_manifest(folder), RowFacts(folder, split)
        rows = SplitRows(
            folder,
            manifest.shards_of(split),
            image_shape=(manifest.image_height, manifest.image_width, 3),
            extras=(),
            numbers=("intrinsics", "camera_from_lidar"),
        )
        self._frames, self._keys = list(rows), [facts.key(row) for row in range(len(rows))]
        numbers = (
            np.array([rows.numbers(name, row) for row in range(len(rows))], np.float32)
            for name in ("intrinsics", "camera_from_lidar")
        )
        self._intrinsics, poses = numbers
        self._poses = poses.reshape(-1, 4, 4)
        self._ego_box_m = ego_box_m
        self._memory = Memory()

    def batch(self, rows: Sequence[int], augment_seed: tuple[int, int]) -> dict[str, np.ndarray]:
        """Image (B, H, W, 3), points, class and label of points, intrinsics, camera_from_lidar."""
        frames = [self._cloud(self._frames[row]) for row in rows]
        intrinsics, poses = self._intrinsics[list(rows)], self._poses[list(rows)]
        for i, row in enumerate(rows):
            change = draw(augment_seed, self._keys[row])
            image = change_image(frames[i].image[0], change)
            intrinsics[i], poses[i] = change_calibration(
                intrinsics[i], poses[i], change, width_px=image.shape[1]
            )
            points = change_points(frames[i].points, change)
            frames[i] = frames[i]._replace(image=image[None], points=points)
        joined = self._joined(frames)
        return joined | {"intrinsics": intrinsics, "camera_from_lidar": poses}

    def _cloud(self, frame: StoredFrame) -> StoredFrame:
        length, width = self._ego_box_m
        outside = np.abs(frame.points[:, 0]) > length
        return kept(frame, outside | (np.abs(frame.points[:, 1]) > width))

    def _joined(self, frames: Sequence[StoredFrame]) -> dict[str, np.ndarray]:
        num_points = sum(len(frame.points) for frame in frames)
        shapes = dict.fromkeys(ARRAYS, (num_points,)) | {
            "image": (len(frames), *frames[0].image.shape[1:]),
            "points": (num_points, 4),
        }
        sizes = [math.prod(shapes[name]) * ARRAYS[name].itemsize for name in ARRAYS]
        ends = list(itertools.accumulate(-(-size // 64) * 64 for size in sizes))
        place, arrays = self._memory.take(ends[-1]), {}
        for name, start, size in zip(ARRAYS, [0, *ends], sizes, strict=False):
            array = place[start : start + size].view(ARRAYS[name]).reshape(shapes[name])
            np.concatenate([getattr(frame, name) for frame in frames], out=array)
            arrays[name] = array
        return arrays
