from pathlib import Path

import pytest

from pipeline.config.data import DataConfig
from pipeline.datasets.download.provenance import find_by_file, find_by_md5, read_stamp
from pipeline.datasets.download.unpack import unpack
from tests.helpers.tarballs import quiet


@pytest.fixture
def folder(archive: Path, config: DataConfig) -> Path:
    return unpack(archive, config, watch=quiet)


def test_a_folder_is_found_by_its_archive_and_by_the_md5(archive: Path, folder: Path):
    stamp = read_stamp(folder)
    assert stamp is not None
    assert find_by_file(folder.parent, archive) == (folder, stamp)
    assert find_by_md5(folder.parent, stamp.md5) == folder
    assert (stamp.archive, stamp.packed_bytes) == (archive.name, archive.stat().st_size)


def test_a_folder_is_found_under_another_name(archive: Path, folder: Path):
    renamed = folder.rename(folder.with_name("renamed"))
    assert find_by_file(folder.parent, archive) == (renamed, read_stamp(renamed))


def test_another_size_or_time_is_another_file(archive: Path, folder: Path):
    archive.write_bytes(archive.read_bytes() + b"\0")
    assert find_by_file(folder.parent, archive) is None
    assert find_by_md5(folder.parent, "0" * 32) is None


def test_unfinished_folders_and_plain_files_do_not_count(archive: Path, folder: Path):
    folder.rename(folder.with_name(".unpacking_x"))
    (folder.parent / "README").write_text("")
    assert find_by_file(folder.parent, archive) is None


def test_a_folder_without_a_note_has_no_stamp(tmp_path: Path):
    assert read_stamp(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", '{"archive": "x"}', "\x00"])
def test_a_note_of_another_kind_is_refused(folder: Path, text: str):
    (folder / ".unpacked.json").write_text(text)
    with pytest.raises(ValueError, match=r"\.unpacked\.json is not readable"):
        read_stamp(folder)
