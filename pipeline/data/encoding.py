"""How images and points become the cells of a row, and points are read back.

Without torch: `jobs.prepare` starts many processes, and importing torch would double their memory
and their start. Images are read back in `decoding`, with torchvision.
"""

import io

import numpy as np
from jaxtyping import Float32, Int16, UInt8
from PIL import Image

from pipeline.config.data import PrepareConfig
from pipeline.datasets.protocol.frames import FrameError

UNITS_PER_STEP = np.array([0.01, 0.01, 0.01, 1 / 32767], dtype=np.float32)
"""Metres (x, y, z) and intensity per step of an int16 point."""
LAST_STEP = 32767


def encode_image(
    image: UInt8[np.ndarray, "H W 3"], config: PrepareConfig
) -> UInt8[np.ndarray, "H W 3"] | bytes:
    """The image's cell: the pixels themselves, or a PNG or JPEG file of them."""
    if config.image == "raw":
        return image
    buffer = io.BytesIO()
    if config.image == "png":
        Image.fromarray(image).save(buffer, format="PNG")
    else:
        Image.fromarray(image).save(buffer, format="JPEG", quality=config.jpeg_quality)
    return buffer.getvalue()


def encode_points(
    points: Float32[np.ndarray, "P 4"], kind: str, *, place: str
) -> Float32[np.ndarray, "P 4"] | Int16[np.ndarray, "P 4"]:
    """The cloud's cell for `prepare.points`; FrameError where int16 centimetres do not reach.

    Rounding to centimetres moves a point by up to 0.5 cm along each axis, intensity by 1 / 65534.
    """
    if kind == "float32":
        return points
    steps = np.rint(points.astype(np.float64) / UNITS_PER_STEP.astype(np.float64))
    beyond = np.abs(steps) > LAST_STEP
    if beyond.any():
        row, column = np.argwhere(beyond)[0]
        what = ("x", "y", "z", "intensity")[column]
        raise FrameError(
            f"{place}: {what} of point {row} is {points[row, column]:g}, but prepare.points="
            "int16_cm holds up to 327.67 m and intensity 1; set prepare.points=float32"
        )
    return steps.astype(np.int16)


def decode_points(stored: Int16[np.ndarray, "P 4"]) -> Float32[np.ndarray, "P 4"]:
    """Metres and intensity of int16 points."""
    return stored * UNITS_PER_STEP
