"""Made-up streets as batches for tests of models and losses: flat ground, walls, a box."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from pipeline.data.batch import Batch
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES

CAMERA_FROM_LIDAR = torch.tensor(
    [[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float32
)


def street_batch(
    *,
    num_points: tuple[int, ...] = (600, 500),
    height: int = 32,
    width: int = 96,
    seed: int = 0,
) -> Batch:
    """Frames with these numbers of points; the points of the box are anomalous, 5 % are ignored."""
    generator = torch.Generator().manual_seed(seed)
    frames = [_cloud(count, generator) for count in num_points]
    num_frames = len(frames)
    points = torch.cat([torch.zeros(0, 4), *(points for points, _ in frames)])
    labels = [torch.zeros(0, dtype=torch.uint8), *(label for _, label in frames)]
    images = [_image(height, width, generator) for _ in frames]
    focal = width / 2
    return Batch(
        image=torch.stack(images)
        if frames
        else torch.zeros(0, 3, height, width, dtype=torch.uint8),
        points=points,
        point_offset=torch.tensor(num_points, dtype=torch.int64).cumsum(0),
        point_class=torch.zeros(len(points), dtype=torch.uint8),
        point_label=torch.cat(labels),
        frame_label=torch.arange(num_frames).remainder(2).to(torch.uint8),
        intrinsics=torch.tensor([focal, focal, width / 2, height / 2]).repeat(num_frames, 1),
        camera_from_lidar=CAMERA_FROM_LIDAR.repeat(num_frames, 1, 1),
        row=torch.arange(num_frames),
        classes=ANOVOX_CLASSES,
    )


def _cloud(num_points: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    draw = torch.rand(num_points, 4, generator=generator)
    x, y = draw[:, 0] * 90 - 30, draw[:, 1] * 36 - 18
    z = torch.where(y.abs() > 10, draw[:, 2] * 6 - 1.8, -1.8 + 0.02 * draw[:, 2])
    in_box = draw[:, 3] < 0.05
    x, y = torch.where(in_box, 12 + x / 60, x), torch.where(in_box, 1 + y / 20, y)
    z = torch.where(in_box, -1.8 + 1.5 * draw[:, 2], z)
    label = in_box.to(torch.uint8)
    label[draw[:, 3] > 0.95] = 255
    return torch.stack([x, y, z, draw[:, 3]], dim=1), label


def _image(height: int, width: int, generator: torch.Generator) -> Tensor:
    image = torch.rand(3, 1, 1, generator=generator) * 150 + 20 * torch.rand(
        3, height, width, generator=generator
    )
    left, top = (
        int(torch.randint(0, side // 2, (1,), generator=generator)) for side in (width, height)
    )
    image[:, top : top + height // 4, left : left + width // 4] = 230
    return image.to(torch.uint8)


def with_values(batch: Batch, **changes: Any) -> Batch:
    """The batch with some tensors replaced."""
    return dataclasses.replace(batch, **changes)


def only_frame(batch: Batch, frame: int) -> Batch:
    """One frame of a batch as a batch of its own."""
    end = int(batch.point_offset[frame])
    begin = int(batch.point_offset[frame - 1]) if frame else 0
    one = slice(frame, frame + 1)
    return Batch(
        image=batch.image[one],
        points=batch.points[begin:end],
        point_offset=torch.tensor([end - begin]),
        point_class=batch.point_class[begin:end],
        point_label=batch.point_label[begin:end],
        frame_label=batch.frame_label[one],
        intrinsics=batch.intrinsics[one],
        camera_from_lidar=batch.camera_from_lidar[one],
        row=batch.row[one],
        classes=batch.classes,
    )
