"""Pixel labels at the stored image's crop and size, from the PNG of the recorded image.

A stored pixel is the mean of an area of recorded pixels, so its label is that of the area:
anomalous where at least half of it is, normal where all of it is, and ignored in between. Nearest
neighbours would drop thin objects at random; "any anomalous pixel wins" would make every object
larger than the image shows it.
"""

import io
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from pipeline.config.data import PrepareConfig
from pipeline.data.manifest import Balance
from pipeline.data.prepare.rows import stored_rows
from pipeline.datasets.protocol.classes import ANOMALOUS_LABEL, IGNORE_LABEL, NORMAL_LABEL

SAMPLED_FRAMES = 256
"""Frames that the balance of cells is counted on: the first of the split, which `jobs.prepare` has
shuffled."""
ROUNDING = 1e-4
"""What the box filter's float32 weights may be off; an area holds far fewer than 1e4 pixels."""


def decode_label(
    content: UInt8[np.ndarray, "N"],
    *,
    prepare: PrepareConfig,
    shape: tuple[int, int],
    place: str,
) -> UInt8[np.ndarray, "H W"]:
    """Labels of the stored image from a cell of `pixel_label`; ValueError unless it is sound."""
    try:
        with Image.open(io.BytesIO(content.tobytes())) as image:
            recorded = np.asarray(image)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(
            f"the pixel labels of {place} are damaged ({error}); delete its prepared folder and "
            "run jobs.prepare again"
        ) from None
    label = stored_label(recorded, prepare)
    if label.shape != shape:
        raise ValueError(
            f"the pixel labels of {place} have shape {label.shape} once reduced but the manifest "
            f"says {shape}; delete its prepared folder and run jobs.prepare again"
        )
    return label


def stored_label(
    recorded: UInt8[np.ndarray, "..."], prepare: PrepareConfig
) -> UInt8[np.ndarray, "H W"]:
    """Labels (0, 1, 255) of the recorded image reduced as `rows.stored_image` reduces the image."""
    height, width = recorded.shape
    new_height, top, bottom = stored_rows(height, width, prepare)
    if prepare.image_width == width:
        return recorded[top:bottom]
    size = (prepare.image_width, new_height)
    label = np.full((new_height, prepare.image_width), NORMAL_LABEL, np.uint8)
    # Most frames hold nothing but normal pixels, and their areas need not be measured.
    if recorded.any():
        label[_share(recorded == NORMAL_LABEL, size) < 1 - ROUNDING] = IGNORE_LABEL
        label[_share(recorded == ANOMALOUS_LABEL, size) >= 0.5 - ROUNDING] = ANOMALOUS_LABEL
    return label[top:bottom]


def _share(mask: Bool[np.ndarray, "..."], size: tuple[int, int]) -> Float32[np.ndarray, "H W"]:
    """Share of each stored pixel's area in which the mask is true; `size` is width, height."""
    image = Image.fromarray(mask.astype(np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BOX))


def cell_labels(label: UInt8[Tensor, "B H W"], *, stride: int) -> UInt8[Tensor, "B h w"]:
    """Labels of the cells of a map with this stride, from those of the stored pixels.

    Cell k sits at pixel stride * k and stands for the `stride` pixels around it. It is anomalous if
    any of them is, for small things would vanish otherwise; else ignored if any is; else normal.
    """
    by_rank = label.new_tensor([NORMAL_LABEL, IGNORE_LABEL, ANOMALOUS_LABEL])
    rank = (label == IGNORE_LABEL) + 2.0 * (label == ANOMALOUS_LABEL)
    pooled = F.max_pool2d(rank[:, None], stride, stride, padding=stride // 2)[:, 0]
    height, width = (-(-size // stride) for size in label.shape[1:])
    return by_rank[pooled[:, :height, :width].long()]


def cell_balance(labels: Iterable[UInt8[np.ndarray, "H W"]], *, stride: int) -> Balance:
    """Anomalous against normal cells of some frames' pixel labels; ValueError without either."""
    pos = neg = num_frames = 0
    for label in labels:
        cells = cell_labels(torch.from_numpy(label)[None], stride=stride)
        pos += int((cells == ANOMALOUS_LABEL).sum())
        neg += int((cells == NORMAL_LABEL).sum())
        num_frames += 1
    if pos == 0 or neg == 0:
        raise ValueError(
            f"the first {num_frames} frames of split train hold {pos} anomalous and {neg} normal "
            f"cells of {stride} x {stride} px, so pixels cannot be trained on; add scenes, widen "
            "prepare.image_crop or set model.pixel_head=false"
        )
    return Balance(prior=pos / (pos + neg), pos_weight=neg / pos)
