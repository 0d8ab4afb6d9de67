"""Whole or not at all: the first time, the second, and where something is in the way."""

import hashlib
import json
import logging
import os
import stat
import subprocess
import tarfile
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline.config.data import DataConfig
from pipeline.datasets.download.unpack import unpack
from tests.helpers.tarballs import (
    SCENE,
    entry,
    honest_entries,
    honest_files,
    quiet,
    tree,
    write_archive,
)

NAME = "AnoVox_Static_Mono_Town03"


def run(archive: Path, config: DataConfig, md5: str = "") -> Path:
    return unpack(archive, config, md5=md5, watch=quiet)


def refused(archive: Path, config: DataConfig, md5: str = "") -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the caller checks the sentence
        run(archive, config, md5)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def names_in(config: DataConfig) -> set[str]:
    return {path.name for path in Path(config.root).iterdir()}


# ---- the first time


def test_the_bytes_are_those_that_were_packed(archive: Path, config: DataConfig):
    folder = run(archive, config)
    assert folder == Path(config.root) / NAME
    files = {name.removeprefix(f"{NAME}/"): data for name, data in honest_files().items()}
    assert tree(folder) == files
    assert names_in(config) == {NAME}


def test_the_note_says_where_the_folder_came_from(archive: Path, config: DataConfig):
    note = json.loads((run(archive, config) / ".unpacked.json").read_text())
    assert note["archive"] == archive.name
    assert note["md5"] == md5_of(archive)
    assert note["num_files"] == 6


def test_an_archive_made_by_the_tar_command_is_unpacked(tmp_path: Path, config: DataConfig):
    source = tmp_path / "source"
    for name, data in honest_files().items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    subprocess.run(["tar", "-czf", tmp_path / "x.tar.gz", "-C", source, "."], check=True)
    assert tree(run(tmp_path / "x.tar.gz", config)) == tree(source / NAME)


def test_archives_without_one_top_folder_get_one(tmp_path: Path, config: DataConfig):
    entries = [entry("README", b"1"), entry("a/b", b"2")]
    folder = run(write_archive(tmp_path / "two.tar.gz", entries), config)
    assert folder.name == "two"
    assert tree(folder) == {"README": b"1", "a/b": b"2"}


def test_modes_of_the_archive_do_not_count(tmp_path: Path, config: DataConfig):
    entries = [
        entry("a", kind=tarfile.DIRTYPE, mode=0o7000),
        entry("a/b", b"1", mode=0o6777, uid=0),
        entry("a/empty", kind=tarfile.DIRTYPE, mode=0),
    ]
    folder = run(write_archive(tmp_path / "x.tar.gz", entries), config)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert all(mode & 0o7022 == 0 for mode in modes.values())
    assert not modes[folder / "b"] & 0o111
    assert (folder / "empty").is_dir()


def test_both_passes_tell_their_progress_up_to_the_end(archive: Path, config: DataConfig):
    said: list[tuple[str, int, int]] = []
    unpack(
        archive,
        config,
        watch=lambda what: lambda done, total: said.append((what, done, total)),
    )
    assert said[0] == (f"check {archive.name}", 1, 1)
    assert said[-1] == (f"unpack {archive.name}", 1, 1)


def test_the_disk_needed_and_free_is_said_before_it_starts(
    archive: Path, config: DataConfig, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO):
        run(archive, config)
    assert "needs 0.00 GB on disk for 6 files; " in caplog.text
    assert f"GB are free under {config.root}" in caplog.text


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    archive: Path, config: DataConfig, monkeypatch: pytest.MonkeyPatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**6, 0, 80_000))
    assert "0.00 GB are free under" in (sentence := refused(archive, config))
    assert sentence.endswith("make room or set data.root to a larger disk")
    assert not list(Path(config.root).rglob("*.npy"))


# ---- the second time


def test_a_second_start_finds_it_done_without_reading_the_archive(
    archive: Path, config: DataConfig
):
    folder = run(archive, config)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    def never(what: str):
        raise AssertionError(what)

    assert unpack(archive, config, watch=never) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_copy_under_another_name_and_time_is_recognised_by_its_bytes(
    archive: Path, config: DataConfig
):
    folder = run(archive, config)
    other = archive.rename(archive.with_name("copy.tar.gz"))
    os.utime(other, (1, 1))
    assert run(other, config) == folder
    assert names_in(config) == {NAME}


def test_the_right_md5_is_accepted_and_a_wrong_one_writes_nothing(
    archive: Path, config: DataConfig
):
    wrong = "0" * 32
    assert refused(archive, config, wrong).startswith(
        f"{archive} has md5 {md5_of(archive)}, but {wrong} was expected; download it again"
    )
    assert names_in(config) == set()
    run(archive, config, md5_of(archive))
    assert f"but {wrong} was expected" in refused(archive, config, wrong)


def test_a_folder_that_is_there_is_not_unpacked_over(archive: Path, config: DataConfig):
    mine = Path(config.root) / NAME / "mine"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"1")
    assert "exists already and was not unpacked by this job" in refused(archive, config)
    assert tree(mine.parent) == {"mine": b"1"}
    assert names_in(config) == {NAME}


def test_a_folder_of_another_archive_is_not_unpacked_over(
    archive: Path, config: DataConfig, tmp_path: Path
):
    before = tree(run(archive, config))
    other = write_archive(tmp_path / "part_2.tar.gz", [entry(f"{NAME}/a", b"1")])
    assert f"came from {archive.name}, so part_2.tar.gz is not" in refused(other, config)
    assert tree(Path(config.root) / NAME) == before


def test_a_damaged_note_is_one_sentence(archive: Path, config: DataConfig):
    (run(archive, config) / ".unpacked.json").write_text('{"archive": ')
    assert ".unpacked.json is not readable" in refused(archive, config)


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("none.tar.gz", "is not there or no file; correct data.archives"),
        (".tar.gz", "is not named <name>.tar.gz; rename the file"),
        ("x.zip", "is not named <name>.tar.gz; rename the file"),
        ("a\\b.tar.gz", "has a slash or backslash in its name; rename the file"),
    ],
)
def test_a_file_of_another_name_is_refused(
    archive: Path, config: DataConfig, name: str, finding: str
):
    if name != "none.tar.gz":
        archive.rename(archive.with_name(name))
    assert finding in refused(archive.with_name(name), config)


# ---- things in the way


def outside_is_empty(tmp_path: Path) -> bool:
    return list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("place", ["", "files", f"files/{NAME}", f"files/{NAME}/{SCENE}"])
def test_a_link_in_the_hidden_folder_leads_nowhere(
    archive: Path, config: DataConfig, tmp_path: Path, place: str
):
    (tmp_path / "outside").mkdir()
    hidden = Path(config.root) / f".unpacking_{NAME}"
    if place:
        hidden.mkdir(parents=True)
        identity = json.dumps({"archive": archive.name, "md5": md5_of(archive)})
        (hidden / "archive.json").write_text(identity)
    link = hidden / place if place else hidden
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "outside")
    assert "is a link or another thing" in refused(archive, config)
    assert outside_is_empty(tmp_path)


def test_a_link_for_the_note_leads_nowhere(archive: Path, config: DataConfig, tmp_path: Path):
    (tmp_path / "outside").mkdir()
    hidden = Path(config.root) / f".unpacking_{NAME}"
    (hidden / "files" / NAME).mkdir(parents=True)
    identity = json.dumps({"archive": archive.name, "md5": md5_of(archive)})
    (hidden / "archive.json").write_text(identity)
    (hidden / "files" / NAME / ".unpacked.json").symlink_to(tmp_path / "outside" / "note")
    assert "is a link or another thing" in refused(archive, config)
    assert outside_is_empty(tmp_path)


def test_a_link_with_the_name_of_the_folder_is_not_replaced(
    archive: Path, config: DataConfig, tmp_path: Path
):
    (tmp_path / "outside").mkdir()
    Path(config.root).mkdir()
    (Path(config.root) / NAME).symlink_to(tmp_path / "outside")
    assert "exists already and was not unpacked by this job" in refused(archive, config)
    assert outside_is_empty(tmp_path)


def test_a_root_that_is_a_link_to_a_larger_disk_is_used(
    archive: Path, config: DataConfig, tmp_path: Path
):
    (tmp_path / "disk").mkdir()
    Path(config.root).symlink_to(tmp_path / "disk")
    run(archive, config)
    assert (tmp_path / "disk" / NAME / SCENE).is_dir()


# ---- hostile archives, whole


@pytest.mark.parametrize("position", [0, 3, 10])
@pytest.mark.parametrize(
    "hostile",
    [
        entry("../escaped", b"x"),
        entry("/tmp/escaped", b"x"),
        entry(f"{NAME}/../../escaped", b"x"),
        entry(f"{NAME}/link", kind=tarfile.SYMTYPE, linkname="../.."),
        entry(f"{NAME}/hard", kind=tarfile.LNKTYPE, linkname="../../escaped"),
        entry(f"{NAME}/pipe", kind=tarfile.FIFOTYPE),
        entry(f"{NAME}", b"x"),
    ],
    ids=lambda hostile: hostile[0].name,
)
def test_one_hostile_member_anywhere_leaves_nothing_at_all(tmp_path: Path, hostile, position: int):
    root = tmp_path / "deep" / "deeper" / "root"
    entries = honest_entries(honest_files())
    entries.insert(position, hostile)
    archive = write_archive(tmp_path / "hostile.tar.gz", entries)
    sentence = refused(archive, DataConfig(root=str(root)))
    assert sentence.startswith(f"{archive.name}: member ")
    assert list(root.iterdir()) == []
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        *("deep", "deeper", "hostile.tar.gz", "root")
    ]


def test_a_link_that_is_written_through_afterwards_is_refused(tmp_path: Path, config: DataConfig):
    entries = [entry("a/x", kind=tarfile.SYMTYPE, linkname="/tmp"), entry("a/x/escaped", b"1")]
    archive = write_archive(tmp_path / "hostile.tar.gz", entries)
    assert "is a symbolic link" in refused(archive, config)
    assert names_in(config) == set()


@pytest.mark.parametrize("length", [100, 0.5, -1])
def test_a_cut_archive_leaves_nothing(archive: Path, config: DataConfig, length: float):
    data = archive.read_bytes()
    archive.write_bytes(data[: int(length * len(data)) if length == 0.5 else int(length)])
    assert refused(archive, config).endswith("; download it again")
    assert names_in(config) == set()
