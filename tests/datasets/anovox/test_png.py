"""PNG files against Pillow, and pixels that its decoder would let pass."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.datasets.anovox.png import NUM_CHANNELS, read_lines, unfiltered

HEIGHT, WIDTH = 6, 9


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def png(packed: bytes, *, mode: str = "RGB", interlaced: int = 0, parts: int = 1) -> bytes:
    colour_type = {"L": 0, "RGB": 2}[mode]
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, colour_type, 0, 0, interlaced)
    edges = np.linspace(0, len(packed), parts + 1).astype(int)
    pixels = [chunk(b"IDAT", packed[a:b]) for a, b in itertools.pairwise(edges)]
    chunks = [chunk(b"IHDR", header), *pixels, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def decoded(content: bytes, mode: str) -> np.ndarray:
    lines = read_lines(content, mode=mode, width=WIDTH, height=HEIGHT)
    return unfiltered(lines, mode=mode)


def lines_of(mode: str, filters: list[int], seed: int) -> np.ndarray:
    size = (HEIGHT, 1 + WIDTH * NUM_CHANNELS[mode])
    lines = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    lines[:, 0] = filters
    return lines


@settings(deadline=None)  # the first example may wait for the compiler
@given(
    st.sampled_from(["L", "RGB"]),
    st.lists(st.integers(0, 4), min_size=HEIGHT, max_size=HEIGHT),
    st.integers(0, 2**31),
    st.integers(1, 4),
)
def test_any_filters_in_any_number_of_chunks_give_the_pixels_of_pillow(
    mode: str, filters: list[int], seed: int, parts: int
):
    content = png(zlib.compress(lines_of(mode, filters, seed).tobytes()), mode=mode, parts=parts)
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(decoded(content, mode), np.asarray(image))


PIXELS = lines_of("RGB", [0] * HEIGHT, 0).tobytes()
REFUSED = {
    "interlaced": (png(zlib.compress(PIXELS), interlaced=1), "it is interlaced"),
    "a byte too many": (png(zlib.compress(PIXELS + b"\0")), "169 bytes of them instead of 168"),
    "a row too few": (png(zlib.compress(PIXELS[:-28])), "140 bytes of them instead of 168"),
    "a stream without its end": (png(zlib.compress(PIXELS)[:-4]), "pixels cannot be decoded"),
    "a wrong checksum of the pixels": (
        png(zlib.compress(PIXELS)[:-1] + b"\xff"),
        "Incorrect checksum",
    ),
    "an unknown filter": (png(zlib.compress(b"\x05" + PIXELS[1:])), "a row has an unknown filter"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_pixels_that_are_not_whole_are_refused(case: str):
    content, finding = REFUSED[case]
    with pytest.raises(ValueError, match=finding):
        decoded(content, "RGB")


def test_pixels_are_writable_and_do_not_share_memory():
    first, second = (decoded(png(zlib.compress(PIXELS)), "RGB") for _ in range(2))
    first[:] = 0
    assert second.any()
