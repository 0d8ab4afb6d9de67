"""`model.alignment`: which pixel a point looks at. One true answer and two controls."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from pipeline.data.batch import Batch
from pipeline.models.fusion.projection import project_points, size_of_images

Alignment = Literal["projection", "none", "scrambled"]


@dataclass(frozen=True, kw_only=True)
class ImageView:
    """The N of P points that look at their frame's image."""

    num_points: int
    """P."""
    rows: Int64[Tensor, "N"]
    """Ascending."""
    frame: Int64[Tensor, "N"]
    place: Float32[Tensor, "N 3"]
    """In the LiDAR frame, metres."""
    uv: Float32[Tensor, "N 2"] | None
    """Pixels; None where nobody says where a point lies in the image (`none`)."""
    image_size: Float32[Tensor, "2"]
    """Width and height, in pixels."""


def view_of(batch: Batch, alignment: Alignment) -> ImageView:
    """The view of the batch's points.

    `projection`: points in view, at their true pixels. `scrambled`: the same points at wrong
    pixels. `none`: all points, at no pixel; the calibration is not read.
    """
    frame = batch.point_frame()
    if alignment == "none":
        return _view(batch, torch.arange(frame.shape[0], device=frame.device), frame, None)
    uv, seen = project_points(batch, frame)
    rows = seen.nonzero().squeeze(1)
    uv, frame = uv.index_select(0, rows), frame.index_select(0, rows)
    if alignment == "scrambled":
        uv = scrambled(uv, frame, batch)
    return _view(batch, rows, frame, uv)


def _view(batch: Batch, rows: Tensor, frame: Tensor, uv: Tensor | None) -> ImageView:
    return ImageView(
        num_points=batch.points.shape[0],
        rows=rows,
        frame=frame,
        place=batch.points[:, :3].index_select(0, rows),
        uv=uv,
        image_size=size_of_images(batch),
    )


def scrambled(
    uv: Float32[Tensor, "N 2"], frame: Int64[Tensor, "N"], batch: Batch
) -> Float32[Tensor, "N 2"]:
    """Pixels under a wrong calibration, another one for each frame and the same in every epoch.

    The camera is rolled by 60 to 300 degrees about its image's centre and its principal point moved
    by a quarter to three quarters of the image. Pixels wrap at the border: whether a point is in
    view, which is worth something by itself, stays true.
    """
    size = size_of_images(batch)
    draw = _draws(batch.row)
    angle = (math.pi / 3 + math.pi * 4 / 3 * draw[:, 0]).float()
    shift = size * (0.25 + 0.5 * draw[:, 1:]).float()
    cos, sin = angle.cos().index_select(0, frame), angle.sin().index_select(0, frame)
    x, y = (uv - size / 2).unbind(1)
    turned = torch.stack([cos * x - sin * y, sin * x + cos * y], dim=1)
    return (turned + size / 2 + shift.index_select(0, frame)).remainder(size)


def _draws(row: Int64[Tensor, "B"]) -> Float64[Tensor, "B 3"]:
    """Numbers in [0, 1) that follow from a frame's row in its split alone.

    An additive recurrence with the powers of 1 / 1.2207, the root of x^4 = x + 1: it fills the cube
    evenly, so that no two neighbouring frames share a calibration.
    """
    step = torch.tensor([1.2207440846**-k for k in (1, 2, 3)], dtype=torch.float64)
    return ((row[:, None] + 1) * step.to(row.device)).remainder(1)
