"""The first pass over an archive: every member checked and counted before a byte is written.

The size in a gzip file's last bytes is modulo 2^32, so the only honest count is to inflate it all:
it costs about as long as the unpacking itself without the writing, and yields the md5 as well.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.data import DataConfig
from pipeline.datasets.download.gzip_stream import PackedFile, TarBytes
from pipeline.datasets.download.tar_reader import Member, read_members, refusal
from pipeline.runtime.progress import Progress

SUFFIX = ".tar.gz"
STAMP_FILE = ".unpacked.json"
"""Lies in an unpacked folder and says which archive it came from."""
_DISK_BLOCK_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What an archive holds and where it goes."""

    archive: str
    md5: str
    """Of the packed file."""
    num_files: int
    num_bytes: int
    """Content of the files."""
    disk_bytes: int
    """What files and folders take on a disk with blocks of 4 KiB."""
    folder: str
    """Name of the unpacked folder: the archive's one top folder, else the archive's own name."""
    is_own_top: bool
    """Whether `folder` is the archive's top folder; otherwise its members go into `folder`."""


class Census:
    """Counts members and refuses repeated ones and too many; state is the names seen so far."""

    def __init__(self, archive: str, config: DataConfig) -> None:
        self._archive, self._config = archive, config
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._listed: set[str] = set()
        self._num_bytes = self._disk_bytes = 0

    def add(self, member: Member) -> None:
        """Raises ValueError for a member that must not come after those before it."""
        name = "/".join(member.path)
        if finding := next(self._findings(member, name), ""):
            raise ValueError(refusal(self._archive, name, finding))
        self._folders.update("/".join(member.path[:i]) for i in range(1, len(member.path)))
        (self._folders if member.is_folder else self._files).add(name)
        self._listed.add(name)
        self._num_bytes += member.size
        self._disk_bytes += -(-member.size // _DISK_BLOCK_BYTES) * _DISK_BLOCK_BYTES
        self._check_limits()

    def _findings(self, member: Member, name: str) -> Iterator[str]:
        if name in self._listed:
            yield "is there twice"
        if name in (self._files if member.is_folder else self._folders):
            yield "is a file and a folder"
        if any("/".join(member.path[:i]) in self._files for i in range(1, len(member.path))):
            yield "lies in a file"
        if len(member.path) <= 2 and member.path[-1:] == (STAMP_FILE,):
            yield "has the name of the note that is left in an unpacked folder"

    def _check_limits(self) -> None:
        limit = self._config.max_members
        if len(self._files) + len(self._folders) > limit:
            raise ValueError(
                f"{self._archive} holds more than data.max_members={limit} files and folders; "
                "raise the limit only if you trust where it comes from"
            )
        if self._num_bytes > self._config.max_unpacked_gb * 1e9:
            raise ValueError(
                f"{self._archive} unpacks to more than data.max_unpacked_gb="
                f"{self._config.max_unpacked_gb:g} GB; raise the limit only if you trust where it "
                "comes from"
            )

    def survey(self, md5: str) -> Survey:
        """Raises ValueError when there is no file at all."""
        if not self._files:
            raise ValueError(f"{self._archive} holds no file; get it from its source again")
        stem = self._archive.removesuffix(SUFFIX)
        tops = {name.split("/")[0] for name in self._files | self._folders if name}
        top = min(tops)
        is_own_top = len(tops) == 1 and top in self._folders and not top.startswith(".")
        return Survey(
            archive=self._archive,
            md5=md5,
            num_files=len(self._files),
            num_bytes=self._num_bytes,
            disk_bytes=self._disk_bytes + _DISK_BLOCK_BYTES * (len(self._folders) + 2),
            folder=top if is_own_top else stem,
            is_own_top=is_own_top,
        )


@contextmanager
def open_archive(
    archive: Path, config: DataConfig, progress: Progress
) -> Iterator[tuple[TarBytes, PackedFile]]:
    """The archive's tar bytes, and the packed file beneath them that knows the md5."""
    if not archive.is_file():
        raise ValueError(f"{archive} is not there or no file; correct data.archives")
    with archive.open("rb") as file:
        packed = PackedFile(file, num_bytes=archive.stat().st_size, progress=progress)
        yield TarBytes(packed, name=archive.name, max_ratio=config.max_ratio), packed


def survey_archive(archive: Path, config: DataConfig, progress: Progress) -> Survey:
    """Read the archive to its end; ValueError for whatever must not be unpacked."""
    census = Census(archive.name, config)
    with open_archive(archive, config, progress) as (tar, packed):
        for member, _ in read_members(tar):
            census.add(member)
        return census.survey(packed.md5)
