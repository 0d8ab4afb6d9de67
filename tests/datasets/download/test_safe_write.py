"""Writes stay below the top folder, whatever lies in it."""

import os
from pathlib import Path

import pytest

from pipeline.datasets.download.safe_write import open_folder, open_top, write_file


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "top").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"mine")
    return tmp_path / "top"


def write(top: Path, name: str, content: bytes, piece: int = 3) -> None:
    pieces = (content[i : i + piece] for i in range(0, len(content), piece))
    with open_top(top) as folder:
        write_file(folder, tuple(name.split("/")), size=len(content), content=pieces)


def refused(top: Path, name: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the caller checks the sentence
        write(top, name, b"theirs")
    assert "is a link or another thing" in str(caught.value)
    return str(caught.value)


def untouched(top: Path) -> bool:
    outside = top.parent / "outside"
    return (
        list(outside.iterdir()) == [outside / "file"] and (outside / "file").read_bytes() == b"mine"
    )


def num_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_is_written_with_its_folders_and_plain_modes(top: Path):
    old = os.umask(0o022)
    write(top, "a/b/c", b"0123456789")
    os.umask(old)
    assert (top / "a/b/c").read_bytes() == b"0123456789"
    assert (top / "a/b/c").stat().st_mode & 0o7777 == 0o644
    assert (top / "a/b").stat().st_mode & 0o7777 == 0o755


def test_a_folder_that_is_there_is_used(top: Path):
    (top / "a").mkdir()
    with open_top(top) as folder:
        for _ in range(2):
            with open_folder(folder, ("a", "b")):
                pass
    assert (top / "a" / "b").is_dir()


def test_no_descriptor_stays_open(top: Path):
    before = num_descriptors()
    write(top, "a/b/c", b"1")
    write(top, "a/b/c", b"2")
    (top / "link").symlink_to("a")
    refused(top, "link/b/c")
    assert num_descriptors() == before


def test_the_same_content_is_kept_as_it_is(top: Path):
    write(top, "a", b"0123456789")
    before = (top / "a").stat()
    write(top, "a", b"0123456789")
    assert (top / "a").stat() == before


@pytest.mark.parametrize(
    "old", [b"", b"0", b"012345678", b"01234567890", b"x123456789", b"0123x56789", b"012345678x"]
)
@pytest.mark.parametrize("piece", [1, 3, 100])
def test_another_content_is_replaced_whatever_is_the_same_in_it(top: Path, old: bytes, piece: int):
    (top / "a").write_bytes(old)
    write(top, "a", b"0123456789", piece)
    assert (top / "a").read_bytes() == b"0123456789"


def test_a_hard_link_to_something_outside_is_replaced_not_written_through(top: Path):
    (top / "a").hardlink_to(top.parent / "outside" / "file")
    write(top, "a", b"them")
    assert (top / "a").read_bytes() == b"them"
    assert untouched(top)


def test_a_link_is_never_followed(top: Path):
    (top / "file").symlink_to(top.parent / "outside" / "file")
    (top / "none").symlink_to(top.parent / "outside" / "none")
    (top / "folder").symlink_to(top.parent / "outside")
    (top / "a").mkdir()
    (top / "a" / "up").symlink_to("../../outside")
    assert "'file'" in refused(top, "file")
    for name in ("none", "folder/file", "folder/new", "a/up/new"):
        refused(top, name)
    assert untouched(top)


def test_a_pipe_does_not_hang_and_a_folder_is_no_file(top: Path):
    os.mkfifo(top / "pipe")
    (top / "folder").mkdir()
    refused(top, "pipe")
    refused(top, "folder")


def test_a_file_is_no_folder(top: Path):
    (top / "a").write_bytes(b"1")
    refused(top, "a/b")


def test_the_top_itself_may_not_be_a_link(top: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    refused(tmp_path / "link", "new")
    assert untouched(top)
