"""Frames of a prepared folder to a batch: decoded, with outliers, augmented, joined.

Frames are views of memory-mapped shards; a batch is one concatenation per tensor into memory that
is used again. Fresh memory would cost more than the copy (the kernel clears every page), so a
buffer goes back to its `Collate` when the last tensor that refers to it is gone, and only then: a
batch belongs to whoever holds it and is never overwritten.
"""

import itertools
from collections.abc import Sequence, Sized

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from pipeline.anovox.labels import NORMAL_LABEL
from pipeline.data.batches import Batch, Voxels
from pipeline.data.frames import (
    EXTRA_COLUMNS,
    Extra,
    Key,
    Memory,
    StoredFrame,
    augmented,
    augmented_pose,
    cloud_of,
    joined,
    with_pixel_label,
    with_pixels,
)
from pipeline.data.manifest import Manifest
from pipeline.data.outliers import OUTLIER_LABEL, has_outliers, with_outliers
from pipeline.data_config import AugmentConfig, OutlierConfig, PrepareConfig


class Collate:
    """Frames of a prepared folder to a batch: the same arrays whichever reader brings them.

    `ego_box_m` is half length and half width of the box around the LiDAR whose points (returns
    from the car itself) batches leave out; a zero turns that off. `extras` names what batches hold
    beside the rest: `pixels` (`Batch.pixel_label`), `voxels` (`Batch.voxels`).
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        ego_box_m: Sequence[float],
        augmentation: AugmentConfig,
        extras: Sequence[Extra],
        outliers: OutlierConfig,
    ) -> None:
        assert set(extras) <= set(EXTRA_COLUMNS), extras
        self.extras = tuple(extras)
        self._prepare = PrepareConfig(**manifest.prepare)
        self.image_shape = (manifest.image_height, manifest.image_width, 3)
        self._ego_box_m = tuple(ego_box_m) if min(ego_box_m) > 0 else None
        self._augmentation, self._outliers = augmentation, outliers
        self._memory = Memory()

    def cloud(self, frame: StoredFrame) -> StoredFrame:
        """The frame with its points decoded and the ego box left out."""
        return cloud_of(frame, self._ego_box_m)

    def pixel_label(self, frame: StoredFrame, key: Key) -> UInt8[np.ndarray, "H W"]:
        """Labels of the frame's stored pixels, for a reader of `pixels`."""
        label = with_pixel_label(frame, self.image_shape, self._prepare, key).pixel_label
        assert label is not None
        return label[0]

    def __call__(
        self,
        frames: Sequence[StoredFrame],
        *,
        keys: Sequence[Key],
        row: Int64[np.ndarray, "B"],
        frame_label: UInt8[np.ndarray, "B"],
        intrinsics: Float32[np.ndarray, "B 4"],
        camera_from_lidar: Float32[np.ndarray, "B 4 4"],
        augment_seed: tuple[int, int] | None,
        num_columns: int = 4,
        voxel_from_lidar: Float32[np.ndarray, "B 4 4"] | None = None,
    ) -> Batch:
        """The batch of frames that `cloud` returned; it owns what it is given.

        `voxel_from_lidar` belongs to the extra `voxels`.
        """
        frames = [self._decoded(frame, key) for frame, key in zip(frames, keys, strict=True)]
        if augment_seed is not None:
            self._add_outliers(
                frames, frame_label, intrinsics, camera_from_lidar, keys=keys, seed=augment_seed
            )
            for i, key in enumerate(keys):
                frames[i], intrinsics[i], camera_from_lidar[i] = augmented(
                    frames[i],
                    intrinsics[i],
                    camera_from_lidar[i],
                    config=self._augmentation,
                    seed=augment_seed,
                    key=key,
                )
                if voxel_from_lidar is not None:
                    voxel_from_lidar[i] = augmented_pose(
                        voxel_from_lidar[i], config=self._augmentation, seed=augment_seed, key=key
                    )
        arrays = joined(
            frames,
            self._memory,
            image_shape=self.image_shape,
            num_columns=num_columns,
            extras=self.extras,
        )
        # Channels last in memory is channels first in shape: no copy.
        arrays["image"] = arrays["image"].transpose(0, 3, 1, 2)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        voxels = None
        if voxel_from_lidar is not None:
            voxels = Voxels(
                cells=tensors.pop("voxels"),
                offset=_offset([frame.voxels for frame in frames]),
                of_point=tensors.pop("point_voxel"),
                voxel_from_lidar=torch.from_numpy(voxel_from_lidar),
            )
        return Batch(
            **tensors,
            point_offset=_offset([frame.points for frame in frames]),
            voxels=voxels,
            frame_label=torch.from_numpy(frame_label),
            intrinsics=torch.from_numpy(intrinsics),
            camera_from_lidar=torch.from_numpy(camera_from_lidar),
            row=torch.from_numpy(row),
        )

    def _decoded(self, frame: StoredFrame, key: Key) -> StoredFrame:
        frame = with_pixels(frame, self.image_shape, key)
        return with_pixel_label(frame, self.image_shape, self._prepare, key)

    def _add_outliers(
        self,
        frames: list[StoredFrame],
        frame_label: UInt8[np.ndarray, "B"],
        intrinsics: Float32[np.ndarray, "B 4"],
        camera_from_lidar: Float32[np.ndarray, "B 4 4"],
        *,
        keys: Sequence[Key],
        seed: tuple[int, int],
    ) -> None:
        """Put synthetic outliers into frames and mark those normal ones that got some, in place."""
        if not self._outliers.changes_frames:
            return
        for i, key in enumerate(keys):
            frames[i] = with_outliers(
                frames[i],
                intrinsics[i],
                camera_from_lidar[i],
                config=self._outliers,
                seed=seed,
                key=key,
            )
            if frame_label[i] == NORMAL_LABEL and has_outliers(frames[i]):
                frame_label[i] = OUTLIER_LABEL


def _offset(arrays: Sequence[Sized | None]) -> Int64[Tensor, "B"]:
    """Cumulative lengths."""
    lengths = [0 if array is None else len(array) for array in arrays]
    return torch.tensor([*itertools.accumulate(lengths)], dtype=torch.int64)
