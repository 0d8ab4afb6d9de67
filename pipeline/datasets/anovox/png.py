"""PNG files of AnoVox's two kinds, 8 bits RGB or grey: checked whole, inflated, decoded.

Inflating is what a decoder spends most of its time on. ISA-L does it two and a half times as fast
as the zlib of Pillow, and refuses what Pillow lets pass: pixels that are too many or too few, and a
wrong checksum behind them. Every finding is a ValueError; the caller knows the path.
"""

import struct
from collections.abc import Iterator

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

START = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\x0dIHDR"
NUM_CHANNELS = {"L": 1, "RGB": 3}
_COLOUR_TYPES = {"L": 0, "RGB": 2}
_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
_LAST_FILTER = 4


def read_lines(content: bytes, *, mode: str, width: int, height: int) -> NDArray[np.uint8]:
    """The inflated lines (H, 1 + W C) of a PNG of exactly this form, each a filter and its pixels.

    Whatever `unfiltered` makes of them is an image, so checks alone need not call it.
    """
    if not content.startswith(START):
        raise ValueError(f"it is not a PNG ({len(content)} bytes)")
    chunks = list(_chunks(content))
    if chunks[-1][0] != b"IEND":
        raise ValueError("the PNG has no end")
    _check_header(content, mode, width, height)
    size = (height, 1 + width * NUM_CHANNELS[mode])
    packed = b"".join(data for kind, data in chunks if kind == b"IDAT")
    return _inflated(packed, size)


def unfiltered(lines: NDArray[np.uint8], *, mode: str) -> NDArray[np.uint8]:
    """The image (H, W) for mode L or (H, W, 3) for mode RGB whose lines were read."""
    # Jobs that decode nothing do without the compiler.
    from pipeline.datasets.anovox.kernels import unfilter

    height, num_channels = len(lines), NUM_CHANNELS[mode]
    image = np.empty((height, lines.shape[1] - 1), np.uint8)
    unfilter(lines, num_channels, image)
    return image if mode == "L" else image.reshape(height, -1, num_channels)


def _check_header(content: bytes, mode: str, width: int, height: int) -> None:
    """So nothing is inflated whose size is not the expected one."""
    found_width, found_height, depth, colour_type, _, _, interlaced = struct.unpack_from(
        ">IIBBBBB", content, len(START)
    )
    if (depth, colour_type) != (8, _COLOUR_TYPES[mode]):
        found = _MODES.get(colour_type, f"colour type {colour_type}")
        raise ValueError(f"its mode is {found} with {depth} bits instead of {mode} with 8")
    if (found_width, found_height) != (width, height):
        raise ValueError(
            f"its size is {found_width} x {found_height}, but sensor_setup.json says "
            f"{width} x {height}"
        )
    if interlaced:
        raise ValueError("it is interlaced, which no file of AnoVox is")


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Types and contents in order, each checksum verified."""
    view, at = memoryview(content), 8
    while at < len(content):
        end = at + 12 + int.from_bytes(view[at : at + 4], "big")
        if at + 12 > len(content) or end > len(content):
            raise ValueError(f"the PNG is truncated at byte {len(content)}")
        checksum = int.from_bytes(view[end - 4 : end], "big")
        if isal_zlib.crc32(view[at + 4 : end - 4]) != checksum:
            raise ValueError(f"a PNG checksum is wrong before byte {end}")
        yield bytes(view[at + 4 : at + 8]), view[at + 8 : end - 4]
        at = end


def _inflated(packed: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    stream = isal_zlib.decompressobj()
    expected = size[0] * size[1]
    try:
        # One byte more than expected: a stream that does not end there is noticed, not inflated.
        pixels = stream.decompress(packed, expected + 1)
    except isal_zlib.error as error:  # pyright: ignore[reportGeneralTypeIssues]
        raise ValueError(f"its pixels cannot be decoded ({error})") from None
    if len(pixels) != expected or not stream.eof:
        raise ValueError(
            f"its pixels cannot be decoded ({len(pixels)} bytes of them instead of {expected})"
        )
    lines = np.frombuffer(pixels, np.uint8).reshape(size)
    if lines[:, 0].max() > _LAST_FILTER:
        raise ValueError("its pixels cannot be decoded (a row has an unknown filter)")
    return lines
