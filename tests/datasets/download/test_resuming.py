"""An unpacking that was stopped or killed at any point is finished by the next start."""

import dataclasses
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.data import DataConfig
from pipeline.datasets.download.unpack import unpack
from tests.helpers.repository import REPOSITORY
from tests.helpers.tarballs import SCENE, entry, honest_entries, quiet, tree, write_archive

NAME = "AnoVox_Static_Mono_Town03"
# Unpacks argv[1] under argv[2]; at its argv[3]th report of progress it is killed (0 = never).
KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.datasets.download.unpack import unpack
from pipeline.config.data import DataConfig
reports = 0
def report(done, total):
    global reports
    reports += 1
    if reports == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
unpack(Path(sys.argv[1]), DataConfig(root=sys.argv[2]), watch=lambda what: report)
"""


class Stopped(Exception):
    """Raised by a progress report: the job ends there, as it does at an interrupt."""


def stopping_at(report: int) -> Callable[[str], Callable[[int, int], None]]:
    count = 0

    def progress(done: int, total: int) -> None:
        nonlocal count
        count += 1
        if count == report:
            raise Stopped

    return lambda what: progress


def run(archive: Path, config: DataConfig) -> Path:
    return unpack(archive, config, watch=quiet)


def names_in(config: DataConfig) -> set[str]:
    return {path.name for path in Path(config.root).iterdir()}


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Files of all lengths around the pieces in which they are read, 1.5 MB in all."""
    noise, files = random.Random(1), {}
    for number, length in enumerate((8191, 8192, 8193, 65536, 300_000, 1, 0, 512, 513, 1_050_000)):
        files[f"{NAME}/{SCENE}/{number}.npy"] = noise.randbytes(length)
    path = tmp_path / "packed" / f"{NAME}.tar.gz"
    path.parent.mkdir()
    return write_archive(path, honest_entries(files))


@pytest.fixture
def expected(large: Path) -> dict[str, bytes]:
    """What Python's own reader finds in the large archive."""
    with tarfile.open(large) as tar:
        files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        return {name.removeprefix(f"{NAME}/"): file.read() for name, file in files.items() if file}


def num_reports(large: Path, tmp_path: Path) -> int:
    """Progress reports of both passes."""
    count = 0

    def progress(done: int, total: int) -> None:
        nonlocal count
        count += 1

    unpack(large, DataConfig(root=str(tmp_path / "whole")), watch=lambda what: progress)
    return count


def test_it_goes_on_after_any_stop(
    large: Path, expected: dict[str, bytes], config: DataConfig, tmp_path: Path
):
    total = num_reports(large, tmp_path)
    for report in [*range(total // 2, total, max(1, total // 40)), total]:
        root = dataclasses.replace(config, root=str(tmp_path / f"root-{report}"))
        with pytest.raises(Stopped):
            unpack(large, root, watch=stopping_at(report))
        assert not (Path(root.root) / NAME).exists()
        assert tree(run(large, root)) == expected
        assert names_in(root) == {NAME}


def test_many_stops_one_after_the_other_end_in_the_same_bytes(
    large: Path, expected: dict[str, bytes], config: DataConfig, tmp_path: Path
):
    total, chance = num_reports(large, tmp_path), random.Random(2)
    for _ in range(10):
        with pytest.raises(Stopped):
            unpack(large, config, watch=stopping_at(chance.randint(total // 2, total)))
    assert tree(run(large, config)) == expected


def test_files_that_are_whole_are_not_written_again(
    large: Path, expected: dict[str, bytes], config: DataConfig, tmp_path: Path
):
    total = num_reports(large, tmp_path)
    with pytest.raises(Stopped):
        unpack(large, config, watch=stopping_at(total - 10))
    files = Path(config.root) / f".unpacking_{NAME}" / "files" / NAME
    whole = {n for n, data in tree(files).items() if data == expected[n]}
    kept = {name: (files / name).stat().st_ino for name in whole}
    assert 3 <= len(kept) < len(expected)
    folder = run(large, config)
    assert {name: (folder / name).stat().st_ino for name in kept} == kept


def test_files_that_a_crash_left_with_holes_are_written_again(
    large: Path, expected: dict[str, bytes], config: DataConfig, tmp_path: Path
):
    total = num_reports(large, tmp_path)
    with pytest.raises(Stopped):
        unpack(large, config, watch=stopping_at(total - 1))
    files = Path(config.root) / f".unpacking_{NAME}" / "files" / NAME
    for number, length in ((0, 8191), (4, 300_000)):
        (files / SCENE / f"{number}.npy").write_bytes(bytes(length))
    assert tree(run(large, config)) == expected


def test_leftovers_of_another_archive_of_that_name_do_not_mix_in(
    large: Path, config: DataConfig, tmp_path: Path
):
    total = num_reports(large, tmp_path)
    with pytest.raises(Stopped):
        unpack(large, config, watch=stopping_at(total - 1))
    write_archive(large, [entry(f"{NAME}/only", b"1")])
    assert tree(run(large, config)) == {"only": b"1"}
    assert names_in(config) == {NAME}


def test_a_kill_between_the_last_rename_and_the_clearing_up_leaves_nothing(
    archive: Path, config: DataConfig
):
    folder = run(archive, config)
    left = Path(config.root) / f".unpacking_{NAME}"
    left.mkdir()
    (left / "archive.json").write_text("{}")
    assert run(archive, config) == folder
    assert names_in(config) == {NAME}


def start(large: Path, root: Path, report: int) -> subprocess.Popen:
    words = [sys.executable, "-c", KILLED, str(large), str(root), str(report)]
    return subprocess.Popen(words, cwd=REPOSITORY)


def test_a_killed_process_is_finished_by_the_next(
    large: Path, expected: dict[str, bytes], tmp_path: Path
):
    total = num_reports(large, tmp_path)
    for report in (total // 2 + 3, total - total // 4, total - 2):
        assert start(large, tmp_path / "root", report).wait(60) == -signal.SIGKILL
        assert not (tmp_path / "root" / NAME).exists()
    assert start(large, tmp_path / "root", 0).wait(60) == 0
    assert tree(tmp_path / "root" / NAME) == expected


@pytest.mark.parametrize(
    "num_kills", [pytest.param(3, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.long)]
)
def test_kills_at_random_moments_leave_nothing_or_all(
    large: Path, expected: dict[str, bytes], tmp_path: Path, num_kills: int
):
    chance, final = random.Random(), tmp_path / "root" / NAME
    for _ in range(num_kills):
        process = start(large, tmp_path / "root", 0)
        time.sleep(chance.uniform(0.05, 0.8))
        process.kill()
        process.wait()
        if final.exists():
            assert tree(final) == expected
            for path in sorted(final.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            final.rmdir()
    assert start(large, tmp_path / "root", 0).wait(60) == 0
    assert tree(final) == expected


def test_two_jobs_do_not_unpack_the_same_archive_at_once(archive: Path, config: DataConfig):
    def nested(what: str) -> Callable[[int, int], None]:
        if what.startswith("unpack"):
            with pytest.raises(ValueError, match="another job is unpacking into"):
                run(archive, config)
        return quiet(what)

    assert unpack(archive, config, watch=nested).is_dir()


def test_an_archive_that_changes_between_the_passes_is_not_believed(
    archive: Path, config: DataConfig
):
    def changing(what: str) -> Callable[[int, int], None]:
        if what.startswith("unpack"):
            write_archive(archive, [entry(f"{NAME}/other", b"1")])
        return quiet(what)

    with pytest.raises(ValueError, match="was changed while it was being unpacked"):
        unpack(archive, config, watch=changing)
    assert not (Path(config.root) / NAME).exists()
