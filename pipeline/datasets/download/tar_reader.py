"""The files and folders of a tar stream, one after the other, each checked before it is given out.

The headers are read here and not by `tarfile.open`, which takes a damaged header for the end of
the archive, and whose extraction filter some Python 3.11 releases let be bypassed (CVE-2025-4517).
Formats: ustar, GNU long names, POSIX (pax) names and sizes. Anything else is refused.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.datasets.download.gzip_stream import CHUNK_BYTES, TarBytes
from pipeline.datasets.download.member_names import shown, split_path

_BLOCK_BYTES = tarfile.BLOCKSIZE
_END = b"\0" * _BLOCK_BYTES
_MAX_EXTENSION_BYTES = 65_536
"""Long names and pax records are held in memory; honest ones take some hundred bytes."""
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclass(frozen=True, kw_only=True)
class Member:
    """A regular file or a folder."""

    path: tuple[str, ...]
    """Plain parts of its name, relative to the target; () is the target itself."""
    is_folder: bool
    size: int
    """Content in bytes; 0 for a folder."""


class _NamedBytes:
    """What extension headers said about the next member."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.size: int | None = None


def read_members(tar: TarBytes) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """Each member with its content; content that the caller leaves is skipped.

    Raises ValueError for the first thing that is no plain file or folder, for damage, and for
    anything after the end of the archive.
    """
    said = _NamedBytes()
    while (header := tar.read_exactly(_BLOCK_BYTES)) != _END:
        info = _parse(tar, header)
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE):
            _read_extension(tar, info, said)
            continue
        member = _member(tar, info, said)
        content = tar.chunks(member.size)
        yield member, content
        for _ in content:
            pass
        _skip_padding(tar, member.size)
        said = _NamedBytes()
    _check_end(tar, said)


def refusal(archive: str, name: str, finding: str) -> str:
    """The sentence that refuses a whole archive for one member."""
    return (
        f"{archive}: member {shown(name)} {finding}; nothing of this archive is unpacked, because "
        "AnoVox holds plain files and folders only: get it from its source again"
    )


def _parse(tar: TarBytes, header: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except UnicodeDecodeError:
        name = header[:100].rstrip(b"\0").decode("utf-8", "backslashreplace")
        raise ValueError(refusal(tar.name, name, "has a name that is not UTF-8")) from None
    except tarfile.HeaderError as error:
        raise ValueError(
            f"{tar.name} holds a damaged tar header ({error}); download it again"
        ) from None


def _member(tar: TarBytes, info: tarfile.TarInfo, said: _NamedBytes) -> Member:
    name = info.name if said.name is None else said.name
    size = info.size if said.size is None else said.size
    try:
        is_folder = _is_folder(info.type)
        if size < 0 or (is_folder and size > 0):
            raise ValueError(f"has a size of {size} bytes")
        path = split_path(name.rstrip("/") if is_folder else name)
        if not path and not is_folder:
            raise ValueError("has no name")
    except ValueError as error:
        raise ValueError(refusal(tar.name, name, str(error))) from None
    return Member(path=path, is_folder=is_folder, size=size)


def _is_folder(kind: bytes) -> bool:
    if kind not in (*_FILES, tarfile.DIRTYPE):
        raise ValueError(f"is {_KINDS.get(kind, f'of the unknown type {kind!r}')}")
    return kind == tarfile.DIRTYPE


def _read_extension(tar: TarBytes, info: tarfile.TarInfo, said: _NamedBytes) -> None:
    if not 0 <= info.size <= _MAX_EXTENSION_BYTES:
        raise ValueError(refusal(tar.name, info.name, f"has a header of {info.size} bytes"))
    data = tar.read_exactly(info.size)
    _skip_padding(tar, info.size)
    try:
        if info.type == tarfile.GNUTYPE_LONGNAME:
            said.name = data.removesuffix(b"\0").decode("utf-8")
        elif info.type == tarfile.XHDTYPE:
            _apply(_pax_records(data), said)
        elif _pax_records(data).keys() & {"path", "size"}:
            raise ValueError("sets names or sizes for all members")
    except UnicodeDecodeError:
        raise ValueError(refusal(tar.name, info.name, "has a name that is not UTF-8")) from None
    except ValueError as error:
        raise ValueError(refusal(tar.name, info.name, str(error))) from None


def _apply(records: dict[str, bytes], said: _NamedBytes) -> None:
    if any(key.startswith("GNU.sparse.") for key in records):
        raise ValueError("announces a sparse file")
    if "path" in records:
        said.name = records["path"].decode("utf-8")
    if "size" in records:
        said.size = _decimal(records["size"])


def _pax_records(data: bytes) -> dict[str, bytes]:
    """`length key=value\\n` records (POSIX.1-2001, pax); the length counts the whole record."""
    records: dict[str, bytes] = {}
    while data:
        digits, space, _ = data.partition(b" ")
        length = _decimal(digits)
        record = data[len(digits) + 1 : length]
        key, equals, value = record.removesuffix(b"\n").partition(b"=")
        if not (space and equals and record.endswith(b"\n")) or length > len(data):
            raise ValueError("has a damaged header record")
        records[key.decode("utf-8")] = value
        data = data[length:]
    return records


def _decimal(digits: bytes) -> int:
    # At most 20 digits: int() of thousands is slow, and refuses in words of its own.
    if not digits.isdigit() or len(digits) > 20:
        raise ValueError("has a damaged header record")
    return int(digits)


def _skip_padding(tar: TarBytes, size: int) -> None:
    tar.read_exactly(-size % _BLOCK_BYTES)


def _check_end(tar: TarBytes, said: _NamedBytes) -> None:
    """A tar ends with two blocks of zeros; only more zeros may follow."""
    if said.name is not None or said.size is not None:
        raise ValueError(f"{tar.name} ends after the header of a member; download it again")
    if tar.read_exactly(_BLOCK_BYTES) != _END:
        raise ValueError(f"{tar.name} has no proper end of archive; download it again")
    while data := tar.read(CHUNK_BYTES):
        if data.count(0) != len(data):
            raise ValueError(f"{tar.name} holds data after its end; get it from its source again")
