"""A PNG writer three to ten times faster than PIL's defaults: PNG is what bounds the frame rate.

Every row is stored as its difference to the row above (filter "Up", done by NumPy at once), then
deflated at level 1. Camera noise does not compress, so its match search is limited to runs
(Z_RLE); id and depth images keep the default strategy, with which depth is 25 times smaller.
"""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FILTER_UP = 2
_COLOUR_TYPE = {1: 0, 3: 2}
"""PNG's colour type by number of channels: grey ("L") and RGB."""


def write_png(path: Path, image: NDArray[np.uint8], *, is_noisy: bool = False) -> None:
    """Write (H, W) as "L" or (H, W, 3) as "RGB"; lossless whatever `is_noisy` says."""
    path.write_bytes(compress_png(image, is_noisy=is_noisy))


def compress_png(image: NDArray[np.uint8], *, is_noisy: bool = False) -> bytes:
    """PNG file of (H, W) or (H, W, 3) uint8."""
    height, width = image.shape[:2]
    num_channels = image.shape[2] if image.ndim == 3 else 1
    rows = image.reshape(height, width * num_channels)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _FILTER_UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPE[num_channels], 0, 0, 0)
    data = _deflate(filtered, strategy=zlib.Z_RLE if is_noisy else zlib.Z_DEFAULT_STRATEGY)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _deflate(data: Any, *, strategy: int) -> bytes:
    compressor = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
    return compressor.compress(data) + compressor.flush()


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
