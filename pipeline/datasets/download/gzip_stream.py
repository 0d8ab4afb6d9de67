"""The tar bytes inside a .tar.gz, with the packed bytes counted and hashed on the way.

The gzip layer checks its own length and checksum; whatever is wrong with it becomes one sentence.
"""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from typing import Any, cast

from pipeline.runtime.progress import Progress

CHUNK_BYTES = 1 << 20
_UNJUDGED_BYTES = 16_000_000
"""Small archives may be mostly padding; the ratio is judged beyond this many tar bytes."""


def megabytes(num_bytes: int) -> int:
    """Rounded up, so that nothing but an empty file has 0."""
    return -(-num_bytes // 1_000_000)


class PackedFile:
    """A file being read once, front to back: what the gzip layer takes its bytes from."""

    def __init__(self, file: io.BufferedIOBase, *, num_bytes: int, progress: Progress) -> None:
        self._file, self._total, self._progress = file, num_bytes, progress
        self._hash = hashlib.md5(usedforsecurity=False)
        self.num_read = 0

    def read(self, size: int = -1) -> bytes:
        """Up to `size` packed bytes."""
        data = self._file.read(size)
        self._hash.update(data)
        self.num_read += len(data)
        if data:
            self._progress(megabytes(self.num_read), megabytes(self._total))
        return data

    @property
    def md5(self) -> str:
        """Of the bytes read so far: of the whole file once the tar has been read to its end."""
        return self._hash.hexdigest()


class TarBytes:
    """The unpacked stream; `name` is the archive's, for the sentences.

    Every method raises ValueError for a truncated or damaged stream, and where it grows beyond
    `max_ratio` times the packed bytes read.
    """

    def __init__(self, packed: PackedFile, *, name: str, max_ratio: float) -> None:
        self.name = name
        self._packed, self._max_ratio = packed, max_ratio
        self._gzip = gzip.GzipFile(fileobj=cast(Any, packed), mode="rb")
        self._num_bytes = 0

    def read_exactly(self, size: int) -> bytes:
        """`size` bytes, not fewer."""
        return b"".join(self.chunks(size))

    def chunks(self, size: int) -> Iterator[bytes]:
        """`size` bytes in pieces of at most a megabyte; nothing larger is ever held."""
        while size > 0:
            data = self.read(min(size, CHUNK_BYTES))
            if not data:
                raise ValueError(self._broken("ends in the middle of its content"))
            size -= len(data)
            yield data

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end of a whole gzip stream."""
        try:
            data = self._gzip.read(size)
        except EOFError:
            raise ValueError(self._broken("is truncated")) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(self._broken(f"is damaged or no gzip file ({error})")) from None
        self._num_bytes += len(data)
        if self._num_bytes > max(_UNJUDGED_BYTES, self._max_ratio * self._packed.num_read):
            raise ValueError(
                f"{self.name} unpacks to more than data.max_ratio={self._max_ratio:g} times its "
                "size; raise the limit only if you trust where it comes from"
            )
        return data

    def _broken(self, finding: str) -> str:
        return f"{self.name} {finding} after {self._packed.num_read} bytes; download it again"
