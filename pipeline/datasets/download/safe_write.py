"""Writing below one folder and nowhere else.

Every part of a path is opened relative to the folder before it, and links are never followed, so
nothing that lies in the target can lead a write out of it. Files are only ever created, never
opened for writing: one that is a hard link to something outside is replaced, not written through.
"""

import errno
import io
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
# Without O_NONBLOCK, opening a named pipe would wait for its other end.
_OLD_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


@contextmanager
def open_top(path: Path) -> Iterator[int]:
    """Descriptor of the folder below which everything happens; ValueError if it is a link."""
    top = _open_at(None, str(path), path.name)
    try:
        yield top
    finally:
        os.close(top)


@contextmanager
def open_folder(top: int, path: tuple[str, ...]) -> Iterator[int]:
    """Descriptor of the folder `path` below `top`; missing ones are made.

    Raises ValueError when something on the way is a link or a file.
    """
    folder = os.dup(top)
    try:
        for part in path:
            inner = _open_or_make(folder, part, path)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def write_file(top: int, path: tuple[str, ...], *, size: int, content: Iterator[bytes]) -> None:
    """Make the file `path` below `top` hold `content` of `size` bytes, with mode 0644.

    One that an earlier attempt left is compared with the content and kept when it is the same.
    """
    with open_folder(top, path[:-1]) as folder:
        old = _open_old(folder, path)
        if old is None:
            _create(folder, path[-1], content)
            return
        with old:
            if os.fstat(old.fileno()).st_size != size:
                os.unlink(path[-1], dir_fd=folder)
                _create(folder, path[-1], content)
                return
            num_same, rest = _compare(old, content)
            if rest is not None:
                os.unlink(path[-1], dir_fd=folder)
                old.seek(0)
                same = iter(lambda: old.read(min(1 << 20, num_same - old.tell())), b"")
                _create(folder, path[-1], itertools.chain(same, rest))


def _open_or_make(folder: int, part: str, path: tuple[str, ...]) -> int:
    try:
        return _open_at(folder, part, "/".join(path))
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(part, 0o755, dir_fd=folder)
        return _open_at(folder, part, "/".join(path))


def _open_at(folder: int | None, part: str, shown: str) -> int:
    try:
        return os.open(part, _FOLDER_FLAGS, dir_fd=folder)
    except OSError as error:
        # Kernels differ in what they say of a link that is no folder.
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise ValueError(_in_the_way(shown)) from None
        raise


def _open_old(folder: int, path: tuple[str, ...]) -> io.BufferedIOBase | None:
    try:
        found = os.lstat(path[-1], dir_fd=folder)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(_in_the_way("/".join(path)))
    return os.fdopen(os.open(path[-1], _OLD_FILE_FLAGS, dir_fd=folder), "rb")


def _compare(
    old: io.BufferedIOBase, content: Iterator[bytes]
) -> tuple[int, Iterator[bytes] | None]:
    """Bytes that are the same, and the content from the first piece that is not."""
    num_same = 0
    for chunk in content:
        if old.read(len(chunk)) != chunk:
            return num_same, itertools.chain([chunk], content)
        num_same += len(chunk)
    return num_same, None


def _create(folder: int, name: str, content: Iterator[bytes]) -> None:
    with os.fdopen(os.open(name, _NEW_FILE_FLAGS, 0o644, dir_fd=folder), "wb") as file:
        for chunk in content:
            file.write(chunk)


def _in_the_way(name: str) -> str:
    return (
        f"{name!r} in the folder of an unfinished unpacking is a link or another thing than the "
        "archive says; delete that folder (.unpacking_...) and start again"
    )
