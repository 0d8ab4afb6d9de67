"""What the model sees: ragged batches, clouds concatenated with offsets, no padding anywhere."""

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B frames; their P points lie one frame after the other. Both B and P may be 0.

    Labels are 0 normal, 1 anomalous, 255 ignore. Points are in the LiDAR frame (x forward, y left,
    z up, metres, intensity); `camera_from_lidar` takes them to the camera (X right, Y down, Z
    forward), `intrinsics` (fx, fy, cx, cy) from there to pixels of `image` as stored, where pixel
    column j covers j <= u < j + 1.
    """

    image: UInt8[Tensor, "B 3 H W"]
    points: Float32[Tensor, "P 4"]
    point_offset: Int64[Tensor, "B"]
    """Cumulative number of points: frame i owns points[offset[i-1]:offset[i]], offset[-1] == P."""
    point_class: UInt8[Tensor, "P"]
    point_label: UInt8[Tensor, "P"]
    frame_label: UInt8[Tensor, "B"]
    intrinsics: Float32[Tensor, "B 4"]
    camera_from_lidar: Float32[Tensor, "B 4 4"]
    row: Int64[Tensor, "B"]
    """Global row numbers in the split: join with `BlockReader.index` for the metadata."""

    @property
    def num_frames(self) -> int:
        """B."""
        return self.image.shape[0]

    def counts(self) -> Int64[Tensor, "B"]:
        """Points of each frame."""
        return torch.diff(self.point_offset, prepend=self.point_offset.new_zeros(1))

    def point_frame(self) -> Int64[Tensor, "P"]:
        """Frame (0 to B - 1) of each point."""
        frames = torch.arange(self.num_frames, device=self.point_offset.device)
        return torch.repeat_interleave(frames, self.counts(), output_size=self.points.shape[0])

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on `device`."""
        moved = {f.name: getattr(self, f.name).to(device) for f in dataclasses.fields(self)}
        return Batch(**moved)
