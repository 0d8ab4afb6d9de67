"""Downloads over a bad connection, against a local server with Zenodo's interface."""

import dataclasses
import hashlib
import logging
import random
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.data import DataConfig
from pipeline.datasets.download import file_download as downloading
from pipeline.datasets.download.file_download import download
from pipeline.datasets.download.http import Web
from pipeline.datasets.download.zenodo import RecordFile, list_record
from tests.helpers.repository import REPOSITORY
from tests.helpers.zenodo import RECORD, Zenodo

NAME = "AnoVox_Static_Mono_Town03.tar.gz"
DATA = random.Random(3).randbytes(3_000_000)
SCRIPT = """
import sys
from pathlib import Path
from pipeline.datasets.download.file_download import download
from pipeline.datasets.download.zenodo import list_record
from pipeline.datasets.download.http import Web
from pipeline.config.data import DataConfig
config = DataConfig(zenodo_record="10888190", zenodo_url=sys.argv[1])
web = Web(config)
[file] = list_record(config, web)
download(file, Path(sys.argv[2]), web=web, progress=lambda done, total: None)
"""


@pytest.fixture
def patient(config: DataConfig, zenodo: Zenodo) -> DataConfig:
    """Waits so short that the tests are quick; gives up after three vain attempts."""
    zenodo.files[NAME] = DATA
    return dataclasses.replace(
        config, zenodo_record=RECORD, zenodo_url=zenodo.records, max_retries=3, stall_s=0.5
    )


def listed(config: DataConfig) -> RecordFile:
    [file] = list_record(config, Web(config))
    return file


def fetch(
    config: DataConfig, folder: Path, progress: Callable[[int, int], None] | None = None
) -> Path:
    said = progress or (lambda done, total: None)
    return download(listed(config), folder, web=Web(config), progress=said)


def refused(config: DataConfig, folder: Path) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the caller checks the sentence
        fetch(config, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def part(folder: Path, data: bytes) -> Path:
    path = folder / f"{NAME}.part"
    path.write_bytes(data)
    return path


def test_a_file_arrives_under_its_name(patient: DataConfig, tmp_path: Path):
    path = fetch(patient, tmp_path / "new" / "folder")
    assert path.read_bytes() == DATA
    assert [path] == list(path.parent.iterdir())


def test_a_file_that_is_there_is_not_downloaded_again(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path
):
    fetch(patient, tmp_path)
    fetch(patient, tmp_path)
    assert zenodo.ranges() == [None]


def test_a_partial_file_is_gone_on_with_from_its_last_byte(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path
):
    part(tmp_path, DATA[:1_234_567])
    assert fetch(patient, tmp_path).read_bytes() == DATA
    assert zenodo.ranges() == ["bytes=1234567-"]


def test_a_partial_file_that_is_complete_only_gets_its_name(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path
):
    part(tmp_path, DATA)
    assert fetch(patient, tmp_path).read_bytes() == DATA
    assert zenodo.ranges() == []


def test_dropped_connections_are_resumed_where_they_broke(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path
):
    zenodo.faults = [{"drop_after": 700_000}] * 4
    assert fetch(patient, tmp_path).read_bytes() == DATA
    wanted = [None, *(f"bytes={700_000 * n}-" for n in range(1, 5))]
    assert zenodo.ranges() == wanted  # more than max_retries: each brought something


def test_a_server_that_stalls_counts_as_dropped(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    zenodo.faults = [{"stall_after": 500_000, "stall_s": 1.5}]
    assert fetch(patient, tmp_path).read_bytes() == DATA
    assert zenodo.ranges() == [None, "bytes=500000-"]
    assert "timed out; next attempt in 0.0 s" in caplog.text


def test_a_slow_server_that_sends_is_waited_for(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path
):
    zenodo.faults = [{"stall_after": len(DATA), "stall_s": 0.3}]
    assert fetch(patient, tmp_path).read_bytes() == DATA
    assert zenodo.ranges() == [None]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path, status: int
):
    zenodo.faults = [{"status": status}, {"close": True}]
    assert fetch(patient, tmp_path).read_bytes() == DATA
    assert len(zenodo.ranges()) == 3


def test_the_wait_that_the_server_asks_for_is_kept(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path
):
    zenodo.faults = [{"status": 429, "headers": {"Retry-After": "1"}}]
    start = time.monotonic()
    fetch(patient, tmp_path)
    assert time.monotonic() - start >= 1


def test_attempts_that_bring_nothing_come_to_an_end_and_keep_what_is_there(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path
):
    zenodo.faults = [{"drop_after": 1000}] + [{"drop_after": 0}] * 10
    sentence = refused(patient, tmp_path)
    assert "the connection ended after 1000 bytes (4 attempts in a row brought nothing)" in sentence
    assert (tmp_path / f"{NAME}.part").read_bytes() == DATA[:1000]
    zenodo.faults = []
    assert fetch(patient, tmp_path).read_bytes() == DATA


def test_a_server_that_ignores_the_range_is_read_from_the_start(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    part(tmp_path, b"x" * 1000)
    zenodo.faults = [{"ignore_range": True}]
    assert fetch(patient, tmp_path).read_bytes() == DATA
    assert "the server cannot resume; from the start" in caplog.text


def test_a_server_that_always_starts_anew_and_breaks_off_does_not_hold_the_job_for_ever(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path
):
    zenodo.faults = [{"ignore_range": True, "drop_after": 1000}] * 20
    assert "4 attempts in a row brought nothing" in refused(patient, tmp_path)
    assert len(zenodo.ranges()) == 5


def test_redirects_are_followed_with_the_range(patient: DataConfig, zenodo: Zenodo, tmp_path: Path):
    part(tmp_path, DATA[:10])
    elsewhere = f"{zenodo.url}/mirror/{NAME}/content"
    zenodo.faults = [{"status": 302, "headers": {"Location": elsewhere}}]
    assert fetch(patient, tmp_path).read_bytes() == DATA
    assert zenodo.ranges() == ["bytes=10-", "bytes=10-"]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirect_to_something_that_is_not_the_web_is_refused(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path, target: str
):
    zenodo.faults = [{"status": 302, "headers": {"Location": target}}] * 9
    sentence = refused(patient, tmp_path)
    assert "the server answers 302" in sentence or "unknown url type: ftp; check" in sentence
    assert len(zenodo.ranges()) == 1
    assert (tmp_path / f"{NAME}.part").read_bytes() == b""


def test_a_redirect_in_a_circle_is_refused_at_once(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path
):
    circle = f"{zenodo.records}/{RECORD}/files/{NAME}/content"
    zenodo.faults = [{"status": 302, "headers": {"Location": circle}}] * 100
    assert "infinite loop" in refused(patient, tmp_path)


def test_a_file_that_is_gone_is_refused_at_once(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path
):
    zenodo.faults = [{"status": 404}]
    assert "the server answers 404" in refused(patient, tmp_path)
    assert len(zenodo.ranges()) == 1


def test_a_restricted_file_is_refused_with_a_way_out(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path
):
    zenodo.faults = [{"status": 403}]
    assert "download restricted files with a browser" in refused(patient, tmp_path)


def test_a_wrong_md5_is_refused_and_nothing_is_deleted(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path
):
    zenodo.listed[NAME] = {"checksum": f"md5:{'0' * 32}"}
    found = hashlib.md5(DATA).hexdigest()
    for _ in range(2):
        sentence = refused(patient, tmp_path)
        assert f"is complete but has md5 {found}, while the record says {'0' * 32}" in sentence
        assert (tmp_path / f"{NAME}.part").read_bytes() == DATA
    assert not (tmp_path / NAME).exists()
    assert zenodo.ranges() == [None]


def test_a_damaged_partial_file_is_noticed_by_the_md5(patient: DataConfig, tmp_path: Path):
    part(tmp_path, b"x" * 1000)
    assert "delete it to download it again" in refused(patient, tmp_path)


@pytest.mark.parametrize("start", [0, 1000])
def test_a_size_other_than_the_records_is_refused(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path, start: int
):
    zenodo.listed[NAME] = {"size": len(DATA) + 1}
    kept = part(tmp_path, DATA[:start])
    sentence = refused(patient, tmp_path)
    assert f"has {len(DATA)} bytes, but the record says {len(DATA) + 1}" in sentence
    assert kept.read_bytes() == DATA[:start]


def test_a_partial_file_larger_than_the_whole_is_refused_and_kept(
    patient: DataConfig, tmp_path: Path
):
    kept = part(tmp_path, DATA + b"1")
    assert f"has {len(DATA) + 1} bytes already" in refused(patient, tmp_path)
    assert kept.stat().st_size == len(DATA) + 1


def test_a_file_of_another_size_under_the_final_name_is_refused_and_kept(
    patient: DataConfig, tmp_path: Path
):
    (tmp_path / NAME).write_bytes(b"1")
    assert "has 1 bytes, but the record says 3000000" in refused(patient, tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"1"


@pytest.mark.parametrize(
    "sent", ["bytes 0-2999999/3000000", "bytes 11-2999999/3000000", "", "bytes */3000000"]
)
def test_a_range_that_was_not_asked_for_is_refused(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path, sent: str
):
    part(tmp_path, DATA[:10])
    zenodo.faults = [{"headers": {"Content-Range": sent}}]
    assert "asked for the bytes from 10 on, the server sends" in refused(patient, tmp_path)
    assert (tmp_path / f"{NAME}.part").read_bytes() == DATA[:10]


def test_more_than_was_announced_is_not_taken(patient: DataConfig, zenodo: Zenodo, tmp_path: Path):
    zenodo.files[NAME] = DATA + b"more"
    md5 = hashlib.md5(DATA).hexdigest()
    zenodo.listed[NAME] = {"size": len(DATA), "checksum": f"md5:{md5}"}
    assert "3000004 bytes, but the record says 3000000" in refused(patient, tmp_path)


def test_progress_counts_what_this_call_downloads(patient: DataConfig, tmp_path: Path):
    said: list[tuple[int, int]] = []
    part(tmp_path, DATA[:500_000])
    fetch(patient, tmp_path, lambda done, total: said.append((done, total)))
    assert said[-1] == (3, 3)
    assert all(total == 3 for _, total in said)
    assert said == sorted(said)


def test_the_disk_needed_is_said_and_one_that_is_too_small_is_refused(
    patient: DataConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as changed:
        changed.setattr(downloading.shutil, "disk_usage", lambda path: usage(10**9, 0, 2_999_999))
        assert "make room or set data.root to a larger disk" in refused(patient, tmp_path)
    with caplog.at_level(logging.INFO):
        fetch(patient, tmp_path)
    assert "0.00 of 0.00 GB to download, then about 0.00 GB unpacked; " in caplog.text


def test_two_jobs_do_not_download_the_same_file_at_once(patient: DataConfig, tmp_path: Path):
    asked = []

    def nested(done: int, total: int) -> None:
        if not asked:
            asked.append(refused(patient, tmp_path))

    fetch(patient, tmp_path, nested)
    assert "another job is downloading into" in asked[0]


def test_a_killed_download_is_finished_by_the_next(
    patient: DataConfig, zenodo: Zenodo, tmp_path: Path
):
    words = [sys.executable, "-c", SCRIPT, zenodo.records, str(tmp_path)]
    zenodo.faults = [{"stall_after": 2_000_000, "stall_s": 60}]
    process = subprocess.Popen(words, cwd=REPOSITORY)
    unfinished = tmp_path / f"{NAME}.part"
    deadline = time.monotonic() + 30
    while not (unfinished.exists() and unfinished.stat().st_size == 2_000_000):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert fetch(patient, tmp_path).read_bytes() == DATA
    assert zenodo.ranges() == [None, "bytes=2000000-"]
