"""Every kind of member that must not be unpacked, and every form in which honest ones come."""

import gzip
import io
import tarfile

import pytest

from pipeline.datasets.download.gzip_stream import PackedFile, TarBytes
from pipeline.datasets.download.tar_reader import read_members
from tests.helpers.tarballs import (
    SENSOR,
    Entry,
    entry,
    honest_entries,
    honest_files,
    tar_bytes,
)


def opened(tar: bytes, max_ratio: float = 2000) -> TarBytes:
    data = gzip.compress(tar)
    packed = PackedFile(io.BytesIO(data), num_bytes=len(data), progress=lambda done, total: None)
    return TarBytes(packed, name="x.tar.gz", max_ratio=max_ratio)


def contents(tar: bytes) -> dict[str, bytes | None]:
    """Content by path; None for a folder."""
    return {
        "/".join(member.path): None if member.is_folder else b"".join(content)
        for member, content in read_members(opened(tar))
    }


def refused(tar: bytes) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the caller checks the sentence
        for _ in read_members(opened(tar)):
            pass
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.isascii()
    assert "x.tar.gz" in sentence
    return sentence


# ---- honest archives


@pytest.mark.parametrize(
    "form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["GNU long names", "pax names"]
)
def test_long_names_and_contents_come_back_in_both_formats(form):
    files = honest_files()
    found = contents(tar_bytes(honest_entries(files), form))
    assert {name: data for name, data in found.items() if data is not None} == files
    assert any(len(name) > 150 for name in found)
    assert {name for name, data in found.items() if data is None} >= {"AnoVox_Static_Mono_Town03"}


def test_the_prefix_of_a_ustar_name_is_joined():
    name = f"{'a' * 90}/{'b' * 90}"
    assert contents(tar_bytes([entry(name, b"1")], tarfile.USTAR_FORMAT)) == {name: b"1"}


def test_names_outside_ascii_come_back():
    assert contents(tar_bytes([entry("stra\u00dfe", b"1")])) == {"stra\u00dfe": b"1"}


def test_the_target_itself_may_be_a_member():
    entries = [entry("./", kind=tarfile.DIRTYPE), entry("./a", b"1")]
    assert contents(tar_bytes(entries)) == {"": None, "a": b"1"}


def test_comments_and_times_in_extension_headers_are_no_harm():
    info, data = entry("a", b"1")
    info.pax_headers = {"mtime": "1.5", "comment": "=\n=", "SCHILY.dev": "3"}
    tar = tarfile.TarInfo.create_pax_global_header({"comment": "from somewhere"})
    assert contents(tar + tar_bytes([(info, data)])) == {"a": b"1"}


def test_a_size_given_by_pax_wins():
    info, _ = entry("a")
    info.pax_headers = {"size": "3"}
    assert contents(tar_bytes([(info, b"123")])) == {"a": b"123"}


def test_content_that_nobody_reads_is_skipped():
    members = [member.path for member, _ in read_members(opened(tar_bytes(two_files())))]
    assert members == [("a",), ("b",)]


def two_files() -> list[Entry]:
    return [entry("a", b"1" * 700), entry("b", b"2" * 512)]


# ---- hostile members


def with_pax(name: str, **headers: str) -> Entry:
    info, data = entry(name)
    info.pax_headers = headers
    return info, data


HOSTILE = {
    "absolute": (entry("/etc/passwd", b"x"), "'/etc/passwd' has an absolute name"),
    "absolute folder": (entry("/etc/", kind=tarfile.DIRTYPE), "'/etc' has an absolute name"),
    "root": (entry("/", kind=tarfile.DIRTYPE), "has an empty part in its name"),
    "parent": (entry("../out", b"x"), "'../out' has '..' in its name"),
    "parent inside": (entry("a/../../out", b"x"), "has '..' in its name"),
    "parent folder": (entry("..", kind=tarfile.DIRTYPE), "has '..' in its name"),
    "parent by pax": (with_pax("a", path="../out"), "'../out' has '..' in its name"),
    "NUL by pax": (with_pax("a", path="a\0b"), "'a\\x00b' has a control character"),
    "newline": (entry("a\nb"), "has a control character in its name"),
    "backslash": (entry("..\\out", b"x"), "has a slash or backslash in its name"),
    "drive letter": (entry("C:/out", b"x"), "has a drive letter in its name"),
    "undecodable": (entry("a\udcff"), "has a name that is not UTF-8"),
    "long part": (entry("x" * 300), "has a part of more than 240 bytes in its name"),
    "long path": (entry("x/" * 600 + "y"), "has a name of more than 1024 bytes"),
    "empty name": (entry(""), "has an empty part in its name"),
    "file with a folder's name": (entry("a/", b"x"), "has an empty part in its name"),
    "file named as the target": (entry("./", b"x"), "has no name"),
    "symbolic link": (entry("a", kind=tarfile.SYMTYPE, linkname="/etc"), "is a symbolic link"),
    "hard link": (entry("a", kind=tarfile.LNKTYPE, linkname="b"), "is a hard link"),
    "character device": (entry("a", kind=tarfile.CHRTYPE), "is a character device"),
    "block device": (entry("a", kind=tarfile.BLKTYPE), "is a block device"),
    "named pipe": (entry("a", kind=tarfile.FIFOTYPE), "is a named pipe"),
    "sparse": (entry("a", kind=tarfile.GNUTYPE_SPARSE), "is a sparse file"),
    "sparse by pax": (
        with_pax("a", **{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
        "announces a sparse file",
    ),
    "socket or other": (entry("a", kind=b"s"), "is of the unknown type b's'"),
    "contiguous": (entry("a", kind=tarfile.CONTTYPE), "is of the unknown type b'7'"),
    "negative size": (entry("a", size=-1), "has a size of -1 bytes"),
    "folder with content": (entry("a", b"x", kind=tarfile.DIRTYPE), "has a size of 1 bytes"),
    "odd size by pax": (with_pax("a", size="1e3"), "has a damaged header record"),
    "endless size by pax": (with_pax("a", size="9" * 5000), "has a damaged header record"),
}


@pytest.mark.parametrize(("hostile", "finding"), HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_member_is_refused_by_name_and_finding(hostile: Entry, finding: str):
    form = tarfile.GNU_FORMAT if hostile[0].size < 0 else tarfile.PAX_FORMAT
    sentence = refused(tar_bytes([entry("before", b"1"), hostile, entry("after")], form))
    assert sentence.startswith("x.tar.gz: member ")
    assert finding in sentence
    assert sentence.endswith("get it from its source again")


def test_names_for_all_members_at_once_are_refused():
    tar = tarfile.TarInfo.create_pax_global_header({"path": "../out"})
    assert "sets names or sizes for all members" in refused(tar + tar_bytes(two_files()))


@pytest.mark.parametrize(
    "record", [b"x", b"5 a=b", b"99 a=b\n", b"6 a=bc\n", b"6 abc\n", b"0 a=b\n", b" a=b\n"]
)
def test_a_damaged_extension_header_is_refused(record: bytes):
    tar = tar_bytes([entry("pax", record, kind=tarfile.XHDTYPE), entry("a")], tarfile.GNU_FORMAT)
    assert "has a damaged header record" in refused(tar)


def test_an_extension_header_that_would_fill_the_memory_is_refused():
    tar = tar_bytes([entry("pax", bytes(70_000), kind=tarfile.XHDTYPE)], tarfile.GNU_FORMAT)
    assert "has a header of 70000 bytes" in refused(tar)


# ---- damage


def test_a_damaged_header_is_no_end_of_the_archive():
    tar = bytearray(tar_bytes([entry("a"), entry("b")]))
    tar[512 + 5] ^= 1
    assert "holds a damaged tar header (bad checksum)" in refused(bytes(tar))


@pytest.mark.parametrize("length", [0, 100, 512, 600, 512 + 700, 512 + 1024, 2 * 512 + 1024])
def test_a_cut_tar_is_refused_wherever_it_is_cut(length: int):
    assert "ends in the middle of its content" in refused(tar_bytes(two_files())[:length])


def test_one_block_of_zeros_is_no_end():
    tar = tar_bytes(two_files())[:-512] + tar_bytes([entry("c")])
    assert "has no proper end of archive" in refused(tar)


def test_an_end_after_an_extension_header_is_refused():
    tar = tar_bytes([entry(SENSOR * 3)], tarfile.GNU_FORMAT)
    assert "ends after the header of a member" in refused(tar[: -512 - 1024] + bytes(1024))


def test_zeros_may_follow_the_end_and_nothing_else():
    tar = tar_bytes(two_files())
    assert set(contents(tar + bytes(20_480))) == {"a", "b"}
    assert "holds data after its end" in refused(tar + bytes(512) + tar)
