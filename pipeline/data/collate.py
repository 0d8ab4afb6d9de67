"""Frames of a prepared folder to a batch: decoded, with outliers, augmented, joined.

Frames are views of memory-mapped shards; a batch is written once, into memory that is used again.
Fresh memory would cost more than the copy (the kernel clears every page), so a buffer goes back to
its `Collate` when the last tensor that refers to it is gone, and only then: a batch belongs to
whoever holds it and is never overwritten. Threads may make batches of one `Collate` at once.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from pipeline.config.data import AugmentConfig, OutlierConfig, PrepareConfig
from pipeline.data.assembly import Part, joined
from pipeline.data.batch import Batch, Voxels
from pipeline.data.frames import (
    EXTRA_COLUMNS,
    Extra,
    Key,
    StoredFrame,
    augmented,
    cloud_of,
    with_pixel_label,
    with_pixels,
)
from pipeline.data.manifest import Manifest
from pipeline.data.memory import Memory
from pipeline.data.transforms import augment
from pipeline.data.transforms.augment import Augmentation
from pipeline.data.transforms.outliers import OUTLIER_LABEL, has_outliers, with_outliers
from pipeline.datasets.protocol.classes import NORMAL_LABEL
from pipeline.datasets.protocol.facts import DatasetFacts


class Collate:
    """Frames of a prepared folder to a batch: the same arrays whichever reader brings them.

    `ego_box_m` is half length and half width of the box around the LiDAR whose points (returns
    from the car itself) batches leave out; a zero turns that off. `extras` names what batches hold
    beside the rest: `pixels` (`Batch.pixel_label`) and, of data sets that have a voxel grid,
    `voxels` (`Batch.voxels`). `pinned` as for `Memory`. Raises ValueError for pixel labels or
    synthetic outliers that the data set has no ground for.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        ego_box_m: Sequence[float],
        augmentation: AugmentConfig,
        extras: Sequence[Extra],
        outliers: OutlierConfig,
        pinned: bool = False,
    ) -> None:
        assert set(extras) <= set(EXTRA_COLUMNS), extras
        self._classes, self._grid = manifest.dataset.classes, manifest.dataset.voxel_grid
        self.extras: tuple[Extra, ...] = tuple(
            extra for extra in extras if extra != "voxels" or self._grid
        )
        _check_offered(manifest.dataset, self.extras, outliers)
        self._prepare = PrepareConfig(**manifest.prepare)
        self.image_shape = (manifest.image_height, manifest.image_width, 3)
        self._ego_box_m = tuple(ego_box_m) if min(ego_box_m) > 0 else None
        self._augmentation, self._outliers = augmentation, outliers
        self._memory = Memory(pinned=pinned)

    def part(self, frame: StoredFrame) -> Part:
        """The stored frame, to be written to a batch without the ego box."""
        return Part(frame=frame, ego_box_m=self._ego_box_m)

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
        parts: Sequence[Part],
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
        """The batch of these parts; it owns the arrays that it is given.

        `voxel_from_lidar` belongs to the extra `voxels`.
        """
        parts = [self._decoded(part, key) for part, key in zip(parts, keys, strict=True)]
        if augment_seed is not None:
            parts = self._with_outliers(
                parts, frame_label, intrinsics, camera_from_lidar, keys=keys, seed=augment_seed
            )
            changes = augment.draw_all(
                seed=augment_seed[0], epoch=augment_seed[1], keys=keys, config=self._augmentation
            )
            parts = [_changed(part, change) for part, change in zip(parts, changes, strict=True)]
            self._change_calibration(intrinsics, camera_from_lidar, voxel_from_lidar, changes)
        arrays, counts = joined(
            parts,
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
            assert self._grid is not None
            voxels = Voxels(
                cells=tensors.pop("voxels"),
                offset=_offset(part.num_voxels for part in parts),
                of_point=tensors.pop("point_voxel"),
                voxel_from_lidar=torch.from_numpy(voxel_from_lidar),
                grid=self._grid,
            )
        return Batch(
            **tensors,
            point_offset=_offset(counts),
            voxels=voxels,
            frame_label=torch.from_numpy(frame_label),
            intrinsics=torch.from_numpy(intrinsics),
            camera_from_lidar=torch.from_numpy(camera_from_lidar),
            row=torch.from_numpy(row),
            classes=self._classes,
        )

    def _decoded(self, part: Part, key: Key) -> Part:
        frame = with_pixels(part.frame, self.image_shape, key)
        frame = with_pixel_label(frame, self.image_shape, self._prepare, key)
        return part if frame is part.frame else dataclasses.replace(part, frame=frame)

    def _change_calibration(
        self,
        intrinsics: Float32[np.ndarray, "B 4"],
        camera_from_lidar: Float32[np.ndarray, "B 4 4"],
        voxel_from_lidar: Float32[np.ndarray, "B 4 4"] | None,
        changes: Sequence[Augmentation],
    ) -> None:
        """Take the calibration of each frame along with its change, in place."""
        augment.change_calibrations(
            intrinsics, camera_from_lidar, changes, width_px=self.image_shape[1]
        )
        if voxel_from_lidar is not None:
            for i, change in enumerate(changes):
                voxel_from_lidar[i] = augment.change_pose(voxel_from_lidar[i], change)

    def _with_outliers(
        self,
        parts: list[Part],
        frame_label: UInt8[np.ndarray, "B"],
        intrinsics: Float32[np.ndarray, "B 4"],
        camera_from_lidar: Float32[np.ndarray, "B 4 4"],
        *,
        keys: Sequence[Key],
        seed: tuple[int, int],
    ) -> list[Part]:
        """Put synthetic outliers into frames; normal ones that got some are marked, in place."""
        if not self._outliers.changes_frames:
            return parts
        frames = [
            with_outliers(
                part.cloud(),
                intrinsics[i],
                camera_from_lidar[i],
                road_ids=self._classes.road_ids,
                config=self._outliers,
                seed=seed,
                key=keys[i],
            )
            for i, part in enumerate(parts)
        ]
        for i, frame in enumerate(frames):
            if frame_label[i] == NORMAL_LABEL and has_outliers(frame):
                frame_label[i] = OUTLIER_LABEL
        return [Part(frame=frame) for frame in frames]


def _check_offered(dataset: DatasetFacts, extras: Sequence[Extra], outliers: OutlierConfig) -> None:
    if "pixels" in extras and not dataset.has_pixel_labels:
        raise ValueError(
            f"{dataset.name} has no pixel labels, so pixels can be neither trained on nor "
            "evaluated; set model.pixel_head=false"
        )
    if outliers.changes_frames and not dataset.classes.road_ids:
        raise ValueError(
            f"{dataset.name} names no class of road, on which synthetic outliers stand; set "
            "outliers.raised_road=0 and outliers.perlin=0"
        )


def _changed(part: Part, change: Augmentation) -> Part:
    """The part with what its augmentation does; mirror and grey levels wait for the writing."""
    if change.only_mirrors:
        return Part(frame=part.frame, ego_box_m=part.ego_box_m, change=change)
    return Part(frame=augmented(part.cloud(), change))


def _offset(lengths: Iterable[int]) -> Int64[Tensor, "B"]:
    """Cumulative lengths."""
    # By NumPy: torch takes several times as long to read a list.
    return torch.from_numpy(np.array([*itertools.accumulate(lengths)], dtype=np.int64))
