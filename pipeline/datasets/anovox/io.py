"""Checked loading of `.npy`, `.png` and text files: whole, of the expected form, or a FrameError.

A header is compared with the file's size before anything is allocated, and nothing is unpickled.
"""

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pipeline.datasets.anovox.png import START, read_lines, unfiltered
from pipeline.datasets.protocol.frames import FrameError

NUM_COLUMNS = 4
MAX_TEXT_BYTES = 1_000_000
_MAX_PNG_EXTRA_BYTES = 1_000_000
_NPY_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_PNG_HEAD_BYTES = 24


def load_table(path: Path, dtypes: Sequence[str]) -> NDArray:
    """A `.npy` table (N, 4), N >= 1, finite, C-contiguous and writable, of one of `dtypes`.

    Fortran order, which AnoVox's clouds have, is read right. Raises FrameError.
    """
    return np.ascontiguousarray(load_columns(path, dtypes).T)


def load_columns(path: Path, dtypes: Sequence[str]) -> NDArray:
    """`load_table` turned over (4, N): as clouds lie on disk, so without moving a number."""
    try:
        with path.open("rb") as file:
            shape, fortran_order, dtype = _npy_header(path, file)
            _check_table(path, file, shape, dtype, dtypes)
            flat = np.fromfile(file, dtype, shape[0] * NUM_COLUMNS)
    except OSError as error:
        raise _unreadable(path, error) from None
    if flat.size != shape[0] * NUM_COLUMNS:
        raise damaged(path, "it became shorter while it was read")
    if not np.isfinite(flat).all():
        raise damaged(path, "it holds nan or infinite values")
    return flat.reshape(NUM_COLUMNS, -1) if fortran_order else flat.reshape(-1, NUM_COLUMNS).T


def load_image(path: Path, *, mode: str, width: int, height: int) -> NDArray[np.uint8]:
    """A PNG of exactly this size as (H, W, 3) for mode RGB or (H, W) for mode L. FrameError."""
    return unfiltered(load_lines(path, mode=mode, width=width, height=height), mode=mode)


def load_lines(path: Path, *, mode: str, width: int, height: int) -> NDArray[np.uint8]:
    """`load_image` short of its last step, `png.unfiltered`: all checks are done. FrameError."""
    content = _read(path, at_most=6 * width * height + _MAX_PNG_EXTRA_BYTES)
    try:
        return read_lines(content, mode=mode, width=width, height=height)
    except ValueError as error:
        raise damaged(path, str(error)) from None


def read_image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of a PNG, by its header. FrameError if it is none."""
    try:
        with path.open("rb") as file:
            head = file.read(_PNG_HEAD_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from None
    if len(head) < _PNG_HEAD_BYTES or not head.startswith(START):
        raise damaged(path, "it is not a PNG")
    width, height = struct.unpack_from(">II", head, len(START))
    return width, height


def load_text(path: Path) -> str:
    """A small UTF-8 text file. FrameError if it is empty, large or not text."""
    content = _read(path, at_most=MAX_TEXT_BYTES)
    if not content:
        raise damaged(path, "it is empty")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise damaged(path, "it is not UTF-8 text") from None


def damaged(path: Path, finding: str) -> FrameError:
    """The error of a file with this finding."""
    return FrameError(f"{path}: {finding}; re-extract the archive or leave the frame out")


def _read(path: Path, *, at_most: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(at_most + 1)
    except OSError as error:
        raise _unreadable(path, error) from None
    if len(content) > at_most:
        raise damaged(path, f"it has more than {at_most} bytes, too many for what it is")
    return content


def _unreadable(path: Path, error: OSError) -> FrameError:
    return damaged(path, f"it cannot be read ({error.strerror})")


def _npy_header(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = npy.read_magic(file)
        if version not in _NPY_READERS:
            raise ValueError(f"version {version[0]}.{version[1]}")
        return _NPY_READERS[version](file)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, TokenError) as error:
        raise damaged(path, f"its .npy header cannot be read ({error})") from None


def _check_table(
    path: Path,
    file: BinaryIO,
    shape: tuple[int, ...],
    dtype: np.dtype,
    dtypes: Sequence[str],
) -> None:
    """The header against the rules and against the file's size, before anything is allocated."""
    if dtype not in [np.dtype(name) for name in dtypes]:
        raise damaged(path, f"its values are {dtype} instead of {' or '.join(dtypes)}")
    if len(shape) != 2 or shape[1] != NUM_COLUMNS or shape[0] < 1:
        raise damaged(path, f"its shape is {shape} instead of (N, {NUM_COLUMNS}) with N >= 1")
    start = file.tell()
    expected = start + shape[0] * NUM_COLUMNS * dtype.itemsize
    size = file.seek(0, io.SEEK_END)
    if size != expected:
        raise damaged(path, f"it has {size} bytes, but its header promises {expected}")
    file.seek(start)
