"""One frame of a batch as NumPy arrays, with each point's place in the stored image."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, UInt8

from pipeline.data.batch import Batch
from pipeline.datasets.protocol.geometry import in_view, project


@dataclass(frozen=True, kw_only=True)
class FrameView:
    """P points of one frame (LiDAR frame, m) and its H x W image."""

    row: int
    """Global row number in the split."""
    frame_label: int
    points: Float32[np.ndarray, "P 4"]
    point_class: UInt8[np.ndarray, "P"]
    point_label: UInt8[np.ndarray, "P"]
    image: UInt8[np.ndarray, "3 H W"]
    pixel: Float64[np.ndarray, "P 2"]
    """u (column) and v (row) in pixels of the stored image; nan behind the camera."""
    in_view: Bool[np.ndarray, "P"]
    """The point's projection lies inside the stored image, before the camera."""


def frame_views(batch: Batch) -> Iterator[FrameView]:
    """The frames of a batch, in order."""
    ends = batch.point_offset.tolist()
    for frame, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        yield _view(batch, frame, slice(start, end))


def _view(batch: Batch, frame: int, own: slice) -> FrameView:
    points = batch.points[own].cpu().numpy()
    image = batch.image[frame].cpu().numpy()
    pixel, depth = project(
        points, _float64(batch.intrinsics[frame]), _float64(batch.camera_from_lidar[frame])
    )
    return FrameView(
        row=int(batch.row[frame]),
        frame_label=int(batch.frame_label[frame]),
        points=points,
        point_class=batch.point_class[own].cpu().numpy(),
        point_label=batch.point_label[own].cpu().numpy(),
        image=image,
        pixel=pixel,
        in_view=in_view(pixel, depth, image.shape[2], image.shape[1]),
    )


def _float64(values: torch.Tensor) -> np.ndarray:
    return values.cpu().numpy().astype(np.float64)
