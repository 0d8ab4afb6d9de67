"""What the first pass counts and refuses, without writing anything."""

import dataclasses
import gzip
import hashlib
import random
import tarfile
from pathlib import Path

import pytest

from pipeline.config.data import DataConfig
from pipeline.datasets.download.scan import Survey, survey_archive
from tests.helpers.tarballs import (
    Entry,
    entry,
    honest_entries,
    honest_files,
    quiet,
    tar_bytes,
    write_archive,
)

FOLDER = tarfile.DIRTYPE


def survey(path: Path, config: DataConfig, **limits) -> Survey:
    return survey_archive(path, dataclasses.replace(config, **limits), quiet("check"))


def survey_of(tmp_path: Path, config: DataConfig, entries: list[Entry], **limits) -> Survey:
    return survey(write_archive(tmp_path / "AnoVox.tar.gz", entries), config, **limits)


def test_files_bytes_and_disk_blocks_are_counted_exactly(archive: Path, config: DataConfig):
    files = honest_files()
    found = survey(archive, config)
    assert (found.num_files, found.num_bytes) == (6, sum(map(len, files.values())))
    # Four clouds of 5 blocks, one file of one block, one empty; 4 folders, and 2 of our own.
    assert found.disk_bytes == 4096 * (4 * 6 + 1) + 4096 * (4 + 2)
    assert found.md5 == hashlib.md5(archive.read_bytes()).hexdigest()


def test_one_top_folder_names_the_unpacked_folder(archive: Path, config: DataConfig):
    found = survey(archive.rename(archive.with_name("other.tar.gz")), config)
    assert (found.folder, found.is_own_top) == ("AnoVox_Static_Mono_Town03", True)


@pytest.mark.parametrize(
    "names", [["a/1", "b/1"], ["a/1", "README"], ["README"], [".hidden/1"]], ids=str
)
def test_anything_else_goes_into_a_folder_named_after_the_archive(
    tmp_path: Path, config: DataConfig, names: list[str]
):
    found = survey_of(tmp_path, config, [entry(name, b"1") for name in names])
    assert (found.folder, found.is_own_top) == ("AnoVox", False)


def test_a_dot_before_the_names_changes_nothing(tmp_path: Path, config: DataConfig):
    entries = [entry("./", kind=FOLDER), entry("./top", kind=FOLDER), entry("./top/a", b"1")]
    assert survey_of(tmp_path, config, entries).folder == "top"


REPEATED = {
    "a file twice": ([entry("a/b"), entry("a/b")], "'a/b' is there twice"),
    "a folder twice": ([entry("a", kind=FOLDER), entry("a", kind=FOLDER)], "'a' is there twice"),
    "one by a dot": ([entry("a/b"), entry("./a/b")], "'a/b' is there twice"),
    "a file, then a folder": ([entry("a"), entry("a", kind=FOLDER)], "'a' is there twice"),
    "a file over a folder": ([entry("a/b"), entry("a")], "'a' is a file and a folder"),
    "a file in a file": ([entry("a"), entry("a/b")], "'a/b' lies in a file"),
    "deep in a file": ([entry("a"), entry("a/b/c/d")], "'a/b/c/d' lies in a file"),
    "our note": ([entry("a/.unpacked.json")], "has the name of the note"),
    "our note on top": ([entry(".unpacked.json")], "has the name of the note"),
}


@pytest.mark.parametrize(("entries", "finding"), REPEATED.values(), ids=list(REPEATED))
def test_members_that_would_overwrite_each_other_are_refused(
    tmp_path: Path, config: DataConfig, entries: list[Entry], finding: str
):
    with pytest.raises(ValueError, match=finding):
        survey_of(tmp_path, config, entries)


def test_a_folder_may_be_listed_after_what_is_in_it(tmp_path: Path, config: DataConfig):
    found = survey_of(tmp_path, config, [entry("a/b", b"1"), entry("a", kind=FOLDER)])
    assert found.num_files == 1


def test_names_that_differ_in_case_are_two_files(tmp_path: Path, config: DataConfig):
    assert survey_of(tmp_path, config, [entry("top/a"), entry("top/A")]).num_files == 2


def test_too_many_members_are_refused_and_folders_nobody_listed_count(
    tmp_path: Path, config: DataConfig
):
    entries = [entry("a/b/c"), entry("a/d")]
    assert survey_of(tmp_path, config, entries, max_members=4).num_files == 2
    with pytest.raises(ValueError, match=r"more than data\.max_members=3 files and folders"):
        survey_of(tmp_path, config, entries, max_members=3)


def test_too_much_content_is_refused_by_the_header_alone(tmp_path: Path, config: DataConfig):
    entries = [entry("a", size=10**15)]
    with pytest.raises(ValueError, match=r"more than data\.max_unpacked_gb=500 GB"):
        survey_of(tmp_path, config, entries)


def test_the_limit_on_content_is_over_all_files(tmp_path: Path, config: DataConfig):
    noise = random.Random(0).randbytes(600)
    entries = [entry("a", noise), entry("b", noise)]
    assert survey_of(tmp_path, config, entries, max_unpacked_gb=1200e-9).num_bytes == 1200
    with pytest.raises(ValueError, match=r"max_unpacked_gb=1\.1e-06 GB; raise the limit only"):
        survey_of(tmp_path, config, entries, max_unpacked_gb=1100e-9)


def test_a_bomb_is_refused(tmp_path: Path, config: DataConfig):
    bomb = gzip.compress(tar_bytes([entry("a", bytes(40_000_000))]), compresslevel=1)
    (tmp_path / "AnoVox.tar.gz").write_bytes(bomb)
    with pytest.raises(ValueError, match=r"more than data\.max_ratio=20 times its size"):
        survey(tmp_path / "AnoVox.tar.gz", config)


def test_an_archive_without_files_is_refused(tmp_path: Path, config: DataConfig):
    with pytest.raises(ValueError, match="holds no file"):
        survey_of(tmp_path, config, [entry("a", kind=FOLDER)])


def test_nothing_is_written(tmp_path: Path, config: DataConfig):
    path = write_archive(tmp_path / "x.tar.gz", honest_entries(honest_files()))
    survey(path, config)
    assert list(tmp_path.iterdir()) == [path]
