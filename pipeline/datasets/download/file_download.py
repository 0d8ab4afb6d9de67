"""A file of a record onto the disk: resumed where it stopped, named only when its md5 is right."""

import fcntl
import hashlib
import io
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from pipeline.datasets.download.gzip_stream import CHUNK_BYTES, megabytes
from pipeline.datasets.download.http import Dropped, Response, Web, dropping
from pipeline.datasets.download.zenodo import RecordFile
from pipeline.runtime.progress import Progress

logger = logging.getLogger(__name__)


def download(file: RecordFile, folder: Path, *, web: Web, progress: Progress) -> Path:
    """`file` in `folder`; what an earlier attempt left there as `.part` is gone on with.

    `progress` counts what this call downloads. Raises ValueError where size or md5 is not as the
    record says (nothing is deleted then), where the disk is too small, or the server gives up.
    """
    path = folder / file.name
    if path.is_file():
        return _checked_size(path, file)
    folder.mkdir(parents=True, exist_ok=True)
    part = _Part(folder / f"{file.name}.part", file)
    with part.file:
        part.lock()
        part.take_what_is_there()
        part.check_space()
        part.fetch(web, progress)
        part.check_md5()
        os.fsync(part.file.fileno())
        part.path.rename(path)
    return path


def _checked_size(path: Path, file: RecordFile) -> Path:
    """The md5 was right when it got its name, and is looked at again by the unpacking."""
    if path.stat().st_size != file.num_bytes:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes, but the record says {file.num_bytes}; "
            "delete it to download it again"
        )
    return path


class _Part:
    """The unfinished file; state is the open file and count and hash of what it holds."""

    def __init__(self, path: Path, file: RecordFile) -> None:
        self.path, self._wanted = path, file
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        self.file: io.BufferedIOBase = os.fdopen(os.open(path, flags, 0o644), "r+b")
        self._hash = hashlib.md5(usedforsecurity=False)
        self._num_bytes = 0

    def lock(self) -> None:
        """Keep a second job away until the file is closed."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another job is downloading into {self.path}; wait for it to end and start again"
            ) from None

    def take_what_is_there(self) -> None:
        """Hash what an earlier attempt left; ValueError if that is more than the whole file."""
        while data := self.file.read(CHUNK_BYTES):
            self._take(data)
        if self._num_bytes > self._wanted.num_bytes:
            raise ValueError(
                f"{self.path} has {self._num_bytes} bytes already, but the record says "
                f"{self._wanted.num_bytes}; delete it to start again"
            )

    def check_space(self) -> None:
        """Say what is needed and what is free; the unpacking will say more exactly."""
        missing = self._wanted.num_bytes - self._num_bytes
        free = shutil.disk_usage(self.path.parent).free
        fact = (
            f"{self._wanted.name}: {missing / 1e9:.2f} of {self._wanted.num_bytes / 1e9:.2f} GB to "
            f"download, then about {1.5 * self._wanted.num_bytes / 1e9:.2f} GB unpacked; "
            f"{free / 1e9:.2f} GB are free under {self.path.parent}"
        )
        if missing > free:
            raise ValueError(f"{fact}: make room or set data.root to a larger disk")
        logger.info("%s", fact)

    def fetch(self, web: Web, progress: Progress) -> None:
        """Download what is missing; after it the file has its full size."""
        start = self._num_bytes
        total = megabytes(self._wanted.num_bytes - start)

        def attempt() -> None:
            if self._num_bytes == self._wanted.num_bytes:
                return
            with web.open(self._wanted.url, first_byte=self._num_bytes) as response:
                self._place(response)
                self._receive(response, lambda: progress(self._gained(start), total))

        web.patiently(self._wanted.url, attempt, gain=lambda: self._num_bytes)

    def _gained(self, start: int) -> int:
        """Megabytes since `start`; none while a server that starts again catches up."""
        return megabytes(max(0, self._num_bytes - start))

    def _place(self, response: Response) -> None:
        """Go to where the response begins: a server may ignore the range and send all."""
        if response.status == 200:
            if self._num_bytes:
                logger.warning("%s: the server cannot resume; from the start", self._wanted.name)
            self._restart()
            self._expect_size(response.headers.get("Content-Length"))
            return
        sent = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", sent)
        if match is None or int(match[1]) != self._num_bytes:
            raise ValueError(
                f"{self._wanted.url}: asked for the bytes from {self._num_bytes} on, the server "
                f"sends {sent!r}; download the file with a browser and give it as data.archives"
            )
        self._expect_size(match[2])

    def _expect_size(self, sent: str | None) -> None:
        if sent not in (None, "*", str(self._wanted.num_bytes)):
            raise ValueError(
                f"{self._wanted.url}: the server's file has {sent} bytes, but the record says "
                f"{self._wanted.num_bytes}; it was changed or cut: start the job again later"
            )

    def _restart(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self._hash = hashlib.md5(usedforsecurity=False)
        self._num_bytes = 0

    def _receive(self, response: Response, tell: Callable[[], None]) -> None:
        while self._num_bytes < self._wanted.num_bytes:
            with dropping():
                data = response.read1(CHUNK_BYTES)
            if not data:
                raise Dropped(f"the connection ended after {self._num_bytes} bytes")
            data = data[: self._wanted.num_bytes - self._num_bytes]
            self.file.write(data)
            self.file.flush()
            self._take(data)
            tell()

    def _take(self, data: bytes) -> None:
        self._hash.update(data)
        self._num_bytes += len(data)

    def check_md5(self) -> None:
        """Raises ValueError with both sums; the file stays where it is."""
        if self._hash.hexdigest() != self._wanted.md5:
            raise ValueError(
                f"{self.path} is complete but has md5 {self._hash.hexdigest()}, while the record "
                f"says {self._wanted.md5}; delete it to download it again"
            )
