"""Pixel labels at the stored image's crop and size, from the PNG of the recorded image.

A stored pixel is the mean of an area of recorded pixels, so its label is that of the area:
anomalous where at least half of it is, normal where all of it is, and ignored in between. Nearest
neighbours would drop thin objects at random; "any anomalous pixel wins" would make every object
larger than the image shows it.
"""

import io

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, UnidentifiedImageError

from pipeline.anovox.labels import ANOMALOUS_LABEL, IGNORE_LABEL, NORMAL_LABEL
from pipeline.data.rows import stored_rows
from pipeline.data_config import PrepareConfig

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
