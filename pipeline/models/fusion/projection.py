"""Where points lie in their frame's image, and what a feature map holds there.

Pixel j's value sits at u = j (u' = s * u for a resized image, no half pixel), and cell k of a map
with stride s sits at pixel s * k, because every strided layer of the backbone is centred on every
second cell.
"""

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from pipeline.data.batch import Batch
from pipeline.models.image import FeatureMap
from pipeline.models.layers import constant, full_precision

_MIN_DEPTH_M = 0.1
"""As in protocol.geometry.in_view."""


def project_points(
    batch: Batch, frame: Int64[Tensor, "P"]
) -> tuple[Float32[Tensor, "P 2"], Bool[Tensor, "P"]]:
    """Pixel (u, v) of each point in its frame's image, and whether it lies inside the image.

    Seen: depth > 0.1 m, 0 <= u < W, 0 <= v < H. Pixels of unseen points have no meaning.
    """
    with full_precision(batch.points):
        fx, fy, cx, cy = batch.intrinsics.unbind(1)
        right, down, forward, _ = batch.camera_from_lidar.unbind(1)
        # Rows of K [R | t]: pixel coordinates times depth, and depth itself.
        across = fx[:, None] * right + cx[:, None] * forward
        along = fy[:, None] * down + cy[:, None] * forward
        matrix = torch.stack([across, along, forward], dim=1).index_select(0, frame)
        scaled = (matrix[:, :, :3] * batch.points[:, None, :3]).sum(2) + matrix[:, :, 3]
    depth = scaled[:, 2]
    uv = scaled[:, :2] / depth.clamp(min=_MIN_DEPTH_M)[:, None]
    return uv, (depth > _MIN_DEPTH_M) & ((uv >= 0) & (uv < size_of_images(batch))).all(dim=1)


def size_of_images(batch: Batch) -> Float32[Tensor, "2"]:
    """Width and height of the batch's images in pixels."""
    return constant((batch.image.shape[3], batch.image.shape[2]), batch.points.device)


def sample(
    features: FeatureMap, uv: Float32[Tensor, "N 2"], frame: Int64[Tensor, "N"]
) -> Float32[Tensor, "N C"]:
    """Bilinear samples at pixels (u, v) of frames; beyond the last cell its value is kept."""
    height, width = features.values.shape[2:]
    last = constant((width - 1, height - 1), uv.device)
    place = torch.minimum((uv / features.stride).clamp(min=0), last)
    low = place.floor()
    right, down = (place - low).unbind(1)
    x0, y0 = low.long().unbind(1)
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    top, bottom = (frame * height + y0) * width, (frame * height + y1) * width
    cells = torch.stack([top + x0, top + x1, bottom + x0, bottom + x1], dim=1)
    left, up = 1 - right, 1 - down
    weights = torch.stack([left * up, right * up, left * down, right * down], dim=1)
    table = features.values.permute(0, 2, 3, 1).flatten(0, 2).float()
    return F.embedding_bag(cells, table, per_sample_weights=weights, mode="sum")
