"""What the model sees: ragged batches, clouds concatenated with offsets, no padding anywhere."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64, Shaped, UInt8
from torch import Tensor

from pipeline.datasets.protocol.classes import ClassTable
from pipeline.datasets.protocol.facts import VoxelGrid


@dataclass(frozen=True, kw_only=True)
class Voxels:
    """The data set's own grids of B frames; their V occupied cells lie one frame after the other.

    A cell's lower corner is `cells[:, :3]` * `grid.size_m` - `grid.offset_m` in the axes to which
    `voxel_from_lidar` takes the frame's points.
    """

    cells: Int32[Tensor, "V 4"]
    """vx, vy, vz and class id."""
    offset: Int64[Tensor, "B"]
    """Cumulative number of cells, as `Batch.point_offset`."""
    of_point: Int32[Tensor, "P"]
    """Row of `cells` that holds the point (by its exact place, without the LiDAR's noise), or -1;
    -1 for points of past clouds."""
    voxel_from_lidar: Float32[Tensor, "B 4 4"]
    grid: VoxelGrid

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Voxels":
        """The same cells on `device`."""
        return Voxels(**_moved(self, device, non_blocking=non_blocking))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B frames; their P points lie one frame after the other. Both B and P may be 0.

    Labels are 0 normal, 1 anomalous, 255 ignore, in training also 2 synthetic outlier (`outliers`).
    Points are in the LiDAR frame (x forward, y left, z up, metres, intensity); `camera_from_lidar`
    takes them to the camera (X right, Y down, Z forward), `intrinsics` (fx, fy, cx, cy) from there
    to pixels of `image` as stored, where pixel column j covers j <= u < j + 1. With
    `data.num_sweeps` > 1 points have a fifth column, relative time in seconds: 0 for the current
    cloud, which comes first in each frame, negative for past ones, whose labels are 255.
    """

    image: UInt8[Tensor, "B 3 H W"]
    """RGB; channels last in memory."""
    points: Float32[Tensor, "P columns"]
    point_offset: Int64[Tensor, "B"]
    """Cumulative number of points: frame i owns points[offset[i-1]:offset[i]], offset[-1] == P."""
    point_class: UInt8[Tensor, "P"]
    point_label: UInt8[Tensor, "P"]
    frame_label: UInt8[Tensor, "B"]
    intrinsics: Float32[Tensor, "B 4"]
    camera_from_lidar: Float32[Tensor, "B 4 4"]
    row: Int64[Tensor, "B"]
    """Global row numbers in the split: join with `BlockReader.index` for the metadata."""
    pixel_label: UInt8[Tensor, "B H W"] | None = None
    """Of the image as stored; None unless the reader was asked for `pixels`."""
    voxels: Voxels | None = None
    """None unless the reader was asked for `voxels` and the data set has some."""
    classes: ClassTable | None = None
    """What the ids of `point_class` mean; None in batches that are only scored."""
    host_offset: Int64[Tensor, "B"] | None = None
    """`point_offset` on the host, where that is known without waiting for a GPU."""

    @property
    def num_frames(self) -> int:
        """B."""
        return self.image.shape[0]

    @property
    def known_classes(self) -> ClassTable:
        """`classes` of a batch that is trained on or counted."""
        assert self.classes is not None, "a batch without labels has no class table"
        return self.classes

    def counts(self) -> Int64[Tensor, "B"]:
        """Points of each frame."""
        return torch.diff(self.point_offset, prepend=self.point_offset.new_zeros(1))

    def point_frame(self) -> Int64[Tensor, "P"]:
        """Frame (0 to B - 1) of each point."""
        frames = torch.arange(self.num_frames, device=self.point_offset.device)
        return torch.repeat_interleave(frames, self.counts(), output_size=self.points.shape[0])

    def sizes(self) -> list[int]:
        """`counts` as numbers that Python can use; waits for a GPU unless the host knows them.

        One frame's points are all points, which also torch.export, for which the number is a
        symbol, can go on with.
        """
        if self.num_frames == 1:
            return [self.points.shape[0]]
        is_here = self.point_offset.device.type == "cpu"
        known = self.point_offset if is_here else self.host_offset
        offset = self.point_offset.cpu() if known is None else known
        return np.diff(offset.numpy(), prepend=0).tolist()

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The same batch on `device`."""
        moved = _moved(self, device, non_blocking=non_blocking)
        if self.point_offset.device.type == "cpu":
            moved["host_offset"] = self.point_offset
        else:
            moved["host_offset"] = self.host_offset
        return Batch(**moved)

    def parts(self, size: int) -> list["Batch"]:
        """The frames in batches of at most `size`; one batch, itself, where there are no more."""
        if self.num_frames <= size:
            return [self]
        assert self.voxels is None
        ends = [0, *itertools.accumulate(self.sizes())]
        firsts = range(0, self.num_frames, size)
        return [self._part(first, min(first + size, self.num_frames), ends) for first in firsts]

    def _part(self, first: int, last: int, ends: Sequence[int]) -> "Batch":
        """Frames `first` to `last` - 1; frame i's points begin at `ends[i]`."""
        frames, points = slice(first, last), slice(ends[first], ends[last])
        pixel_label, host = self.pixel_label, self.host_offset
        return Batch(
            image=self.image[frames],
            points=self.points[points],
            point_offset=self.point_offset[frames] - ends[first],
            point_class=self.point_class[points],
            point_label=self.point_label[points],
            frame_label=self.frame_label[frames],
            intrinsics=self.intrinsics[frames],
            camera_from_lidar=self.camera_from_lidar[frames],
            row=self.row[frames],
            classes=self.classes,
            pixel_label=None if pixel_label is None else pixel_label[frames],
            host_offset=None if host is None else host[frames] - ends[first],
        )

    def tensors(self) -> Iterator[Tensor]:
        """All that the batch holds on its device, its voxels' too; not what the host knows."""
        for record in (self, self.voxels):
            values = vars(record).items() if record is not None else ()
            yield from (
                value
                for name, value in values
                if isinstance(value, Tensor) and name != "host_offset"
            )

    def of_current(
        self, values: Shaped[Tensor, "P *rest"]
    ) -> tuple[Shaped[Tensor, "N *rest"], Tensor]:
        """Those of the points' `values` that belong to current clouds, and their offsets (B,)."""
        if self.points.shape[1] == 4:
            return values, self.point_offset
        current = self.points[:, 4] == 0
        counts = self.point_offset.new_zeros(self.num_frames)
        counts = counts.index_add(0, self.point_frame(), current.to(counts.dtype))
        return values[current], counts.cumsum(0)

    def without_past(self) -> "Batch":
        """The same frames with their current clouds only and four columns."""
        if self.points.shape[1] == 4:
            return self
        current = self.points[:, 4] == 0
        point_class, offset = self.of_current(self.point_class)
        voxels = self.voxels
        if voxels is not None:
            voxels = dataclasses.replace(voxels, of_point=voxels.of_point[current])
        return dataclasses.replace(
            self,
            voxels=voxels,
            points=self.points[current, :4],
            point_offset=offset,
            host_offset=None if offset.device.type == "cuda" else offset,
            point_class=point_class,
            point_label=self.point_label[current],
        )


def _moved(
    record: Batch | Voxels, device: torch.device | str, *, non_blocking: bool
) -> dict[str, Any]:
    """The record's fields, tensors of them on `device`."""
    values = ((field.name, getattr(record, field.name)) for field in dataclasses.fields(record))
    return {
        name: value.to(device, non_blocking=non_blocking)
        if isinstance(value, Tensor | Voxels)
        else value
        for name, value in values
    }
