import contextlib
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from pipeline.datasets.anovox.io import load_image, load_table, load_text
from pipeline.datasets.protocol.frames import FrameError

FLOATS = ("<f4", "<f8")
SHARED_FOLDER = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def saved(path: Path, table: np.ndarray) -> Path:
    np.save(path, table)
    return path


def npy_bytes(header: str, payload: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + payload


@given(
    hnp.arrays(
        st.sampled_from(FLOATS),
        st.tuples(st.integers(1, 30), st.just(4)),
        elements=st.floats(-100, 100, width=32),
    ),
    st.booleans(),
)
@SHARED_FOLDER
def test_tables_come_back_bit_for_bit_in_either_order(
    tmp_path: Path, table: np.ndarray, fortran: bool
):
    path = saved(tmp_path / "t.npy", np.asfortranarray(table) if fortran else table)
    loaded = load_table(path, FLOATS)
    assert loaded.dtype == table.dtype
    assert loaded.flags.c_contiguous
    assert loaded.flags.writeable
    assert np.array_equal(loaded, table)


def test_anovox_writes_fortran_order_and_it_is_read_column_by_column(tmp_path: Path):
    table = np.arange(12, dtype=np.float32).reshape(4, 3).T
    path = saved(tmp_path / "t.npy", table)
    assert b"'fortran_order': True" in path.read_bytes()
    assert load_table(path, FLOATS).tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


HUGE = "{'descr': '<f4', 'fortran_order': True, 'shape': (1000000000000, 4), }"
SMALL = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4), }"
NEGATIVE = "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }"
TABLE = np.ones((5, 4), np.float32)


def with_value(value: float) -> np.ndarray:
    table = TABLE.copy()
    table[3, 1] = value
    return table


DAMAGED_TABLES: dict[str, tuple[bytes | np.ndarray, str]] = {
    "empty file": (b"", "header cannot be read"),
    "not numpy": (b"hello, this is no array at all", "header cannot be read"),
    "cut inside the header": (npy_bytes(SMALL)[:60], "header cannot be read"),
    "header promises 16 TB": (npy_bytes(HUGE, b"\0" * 64), "promises 16000000000128"),
    "no payload": (npy_bytes(SMALL), "has 128 bytes, but its header promises 144"),
    "cut payload": (npy_bytes(SMALL, b"\0" * 15), "has 143 bytes"),
    "bytes after the end": (npy_bytes(SMALL, b"\0" * 17), "has 145 bytes"),
    "negative rows": (npy_bytes(NEGATIVE, b"\0" * 16), "shape is"),
    "unclosed header": (npy_bytes(SMALL[:-2]), "header cannot be read"),
    "nested header": (npy_bytes("(" * 110), "header cannot be read"),
    "newer version": (b"\x93NUMPY\x03\x00" + b"\0" * 80, "version 3.0"),
    "pickled objects": (np.array([[{}, 1, 2, 3]], object), "values are object"),
    "integers": (TABLE.astype(np.int32), "int32 instead of <f4 or <f8"),
    "half floats": (TABLE.astype(np.float16), "float16 instead of"),
    "big endian": (TABLE.astype(">f4"), ">f4 instead of"),
    "three columns": (TABLE[:, :3], "shape is .5, 3."),
    "one dimension": (TABLE.ravel(), "shape is .20,. instead"),
    "no rows": (TABLE[:0], "shape is .0, 4. instead"),
    "nan": (with_value(np.nan), "nan or infinite"),
    "infinity": (with_value(-np.inf), "nan or infinite"),
}


@pytest.mark.parametrize("case", DAMAGED_TABLES)
def test_a_damaged_table_is_refused_with_its_path_and_the_finding(tmp_path: Path, case: str):
    content, finding = DAMAGED_TABLES[case]
    path = tmp_path / "t.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(FrameError, match=finding) as caught:
        load_table(path, FLOATS)
    assert str(caught.value).startswith(f"{path}: ")
    assert "re-extract" in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    for path, finding in ((tmp_path / "gone", "No such file"), (tmp_path, "Is a directory")):
        for load in (
            lambda p: load_table(p, FLOATS),
            lambda p: load_image(p, mode="L", width=1, height=1),
            load_text,
        ):
            with pytest.raises(FrameError, match=finding):
                load(path)


@given(st.integers(0, 127), st.integers(0, 255))
@SHARED_FOLDER
def test_any_changed_byte_of_a_table_header_is_refused_or_harmless(
    tmp_path: Path, at: int, value: int
):
    path = saved(tmp_path / "t.npy", TABLE)
    content = bytearray(path.read_bytes())
    content[at] = value
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(FrameError):
            assert load_table(path, FLOATS).size == TABLE.size


RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def save_png(path: Path, image: Image.Image | np.ndarray) -> Path:
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path)
    return path


def test_images_come_back_pixel_for_pixel(tmp_path: Path):
    rgb = load_image(save_png(tmp_path / "a.png", RGB), mode="RGB", width=9, height=6)
    grey = load_image(save_png(tmp_path / "b.png", RGB[..., 0]), mode="L", width=9, height=6)
    assert np.array_equal(rgb, RGB)
    assert np.array_equal(grey, RGB[..., 0])
    assert rgb.flags.writeable


DAMAGED_IMAGES: dict[str, tuple[Image.Image, str]] = {
    "grey": (Image.new("L", (9, 6)), "mode is L with 8 bits instead of RGB"),
    "palette": (Image.new("P", (9, 6)), "mode is P"),
    "alpha": (Image.new("RGBA", (9, 6)), "mode is RGBA"),
    "sixteen bits": (Image.new("I;16", (9, 6)), "mode is L with 16 bits"),
    "black and white": (Image.new("1", (9, 6)), "mode is L with 1 bits"),
    "other size": (Image.new("RGB", (6, 9)), "size is 6 x 9, but sensor_setup.json says 9 x 6"),
}


@pytest.mark.parametrize("case", DAMAGED_IMAGES)
def test_an_image_of_another_mode_or_size_is_refused(tmp_path: Path, case: str):
    image, finding = DAMAGED_IMAGES[case]
    path = save_png(tmp_path / "a.png", image)
    with pytest.raises(FrameError, match=finding):
        load_image(path, mode="RGB", width=9, height=6)


def test_colour_where_ids_are_expected_is_refused(tmp_path: Path):
    path = save_png(tmp_path / "a.png", RGB)
    with pytest.raises(FrameError, match="mode is RGB with 8 bits instead of L"):
        load_image(path, mode="L", width=9, height=6)


def test_a_png_cut_anywhere_is_refused(tmp_path: Path):
    path = save_png(tmp_path / "a.png", RGB)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(FrameError, match=r"not a PNG|truncated|no end"):
            load_image(path, mode="RGB", width=9, height=6)


def test_any_changed_byte_of_a_png_is_refused(tmp_path: Path):
    path = save_png(tmp_path / "a.png", RGB)
    content = path.read_bytes()
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 0x10
        path.write_bytes(changed)
        with pytest.raises(FrameError):
            load_image(path, mode="RGB", width=9, height=6)


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def png(width: int, height: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BROKEN_PIXELS: dict[str, Callable[[], bytes]] = {
    "no rows": lambda: png(9, 6, b""),
    "no pixels": lambda: png(9, 6, b"").replace(chunk(b"IDAT", zlib.compress(b"")), b""),
    "not compressed": lambda: png(9, 6, b"").replace(
        chunk(b"IDAT", zlib.compress(b"")), chunk(b"IDAT", b"abc" * 50)
    ),
}


@pytest.mark.parametrize("case", BROKEN_PIXELS)
def test_a_png_with_right_checksums_and_broken_pixels_is_refused(tmp_path: Path, case: str):
    path = tmp_path / "a.png"
    path.write_bytes(BROKEN_PIXELS[case]())
    with pytest.raises(FrameError, match="pixels cannot be decoded"):
        load_image(path, mode="RGB", width=9, height=6)


def test_a_decompression_bomb_is_refused_by_its_size_without_a_warning(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(png(60_000, 60_000, b"\0" * 1000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FrameError, match="size is 60000 x 60000"):
            load_image(path, mode="RGB", width=768, height=512)


def test_an_image_file_far_larger_than_its_pixels_is_not_read(tmp_path: Path):
    path = save_png(tmp_path / "a.png", RGB)
    path.write_bytes(path.read_bytes() + chunk(b"tEXt", b"x" * 2_000_000))
    with pytest.raises(FrameError, match="more than 1000324 bytes, too many for what it is"):
        load_image(path, mode="RGB", width=9, height=6)


def test_text_must_be_small_utf_8(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("speed ; 3.5\n")
    assert load_text(path) == "speed ; 3.5\n"
    for content, finding in ((b"", "is empty"), (b"\xff", "not UTF-8"), (b"a" * 10**7, "too many")):
        path.write_bytes(content)
        with pytest.raises(FrameError, match=finding):
            load_text(path)
