"""What is taken from a record's listing and what is not believed."""

import dataclasses
import hashlib
import json
import logging
from typing import Any

import pytest

from pipeline.config.data import DataConfig
from pipeline.datasets.download.http import Web
from pipeline.datasets.download.zenodo import RecordFile, list_record
from tests.helpers.zenodo import RECORD, Zenodo

NAME = "AnoVox_Static_Mono_Town03.tar.gz"


@pytest.fixture
def asking(config: DataConfig, zenodo: Zenodo) -> DataConfig:
    zenodo.files[NAME] = b"data"
    return dataclasses.replace(
        config, zenodo_record=RECORD, zenodo_url=zenodo.records, max_retries=2
    )


def listed(config: DataConfig) -> list[RecordFile]:
    return list_record(config, Web(config))


def refused(config: DataConfig) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the caller checks the sentence
        listed(config)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isascii()
    return str(caught.value)


def test_name_size_md5_and_address_are_taken_from_the_listing(asking: DataConfig, zenodo: Zenodo):
    [file] = listed(asking)
    assert (file.name, file.num_bytes) == (NAME, 4)
    assert file.md5 == hashlib.md5(b"data").hexdigest()
    assert file.url == f"{zenodo.records}/{RECORD}/files/{NAME}/content"


def test_a_slash_at_the_end_of_the_address_is_no_harm(asking: DataConfig, zenodo: Zenodo):
    assert listed(dataclasses.replace(asking, zenodo_url=f"{zenodo.records}/")) == listed(asking)


def test_other_files_are_left_out_and_named_in_one_line(
    asking: DataConfig, zenodo: Zenodo, caplog: pytest.LogCaptureFixture
):
    zenodo.files |= {"README.md": b"1", "../x.zip": b"2"}
    with caplog.at_level(logging.INFO):
        assert [file.name for file in listed(asking)] == [NAME]
    assert "record 10888190: 'README.md', '../x.zip' left out, only .tar.gz is taken" in caplog.text


def test_a_record_without_archives_is_refused(asking: DataConfig, zenodo: Zenodo):
    zenodo.files = {"README.md": b"1"}
    assert refused(asking).startswith("record 10888190 offers no .tar.gz file ('README.md'); ")
    zenodo.files = {}
    assert "offers no .tar.gz file (it lists no file)" in refused(asking)


def test_a_record_that_is_not_there_is_refused_at_once(asking: DataConfig, zenodo: Zenodo):
    assert "the server answers 404" in refused(dataclasses.replace(asking, zenodo_record="1"))
    assert len(zenodo.requests) == 1


@pytest.mark.parametrize(
    "name",
    [
        "../x.tar.gz",
        "/etc/x.tar.gz",
        "a/x.tar.gz",
        "a\\x.tar.gz",
        "C:x.tar.gz",
        ".tar.gz",
        ".x.tar.gz",
        "a\0.tar.gz",
        "a\n.tar.gz",
        "\ud800.tar.gz",
        "x" * 300 + ".tar.gz",
    ],
    ids=ascii,
)
def test_a_name_that_is_no_plain_file_name_is_refused(
    asking: DataConfig, zenodo: Zenodo, name: str
):
    zenodo.listed[NAME] = {"key": name}
    assert "and is not downloaded; download it with a browser" in refused(asking)


@pytest.mark.parametrize(
    ("facts", "finding"),
    [
        ({"size": -1}, "has the size -1"),
        ({"size": "4"}, "has the size '4'"),
        ({"size": True}, "has the size True"),
        ({"size": None}, "has the size None"),
        ({"checksum": "sha256:00"}, "has no md5"),
        ({"checksum": None}, "has no md5"),
        ({"links": None}, "has no http(s) address"),
        ({"links": {}}, "has no http(s) address"),
        ({"links": {"self": "file:///etc/passwd"}}, "has no http(s) address"),
        ({"links": {"self": "http://a b"}}, "has no http(s) address"),
        ({"links": {"self": 1}}, "has no http(s) address"),
    ],
    ids=str,
)
def test_a_file_that_is_described_otherwise_than_zenodo_does_is_refused(
    asking: DataConfig, zenodo: Zenodo, facts: dict[str, Any], finding: str
):
    zenodo.listed[NAME] = facts
    assert finding in refused(asking)


def test_a_name_listed_twice_is_refused(asking: DataConfig, zenodo: Zenodo):
    zenodo.files["other.tar.gz"] = b"1"
    zenodo.listed["other.tar.gz"] = {"key": NAME}
    assert "lists a name twice" in refused(asking)


@pytest.mark.parametrize(
    "answer",
    [b"<html>", b"", b"[]", b"{}", b'{"files": 1}', b'{"files": [1]}', b"\xff", b"[" * 100_000],
    ids=lambda answer: ascii(answer[:20]),
)
def test_an_answer_that_is_no_listing_is_refused(asking: DataConfig, zenodo: Zenodo, answer: bytes):
    zenodo.listing = lambda: answer
    assert "is no list of a record's files" in refused(asking)


def test_a_listing_without_end_is_refused(
    asking: DataConfig, zenodo: Zenodo, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipeline.datasets.download.zenodo._MAX_LISTING_BYTES", 1000)
    zenodo.listing = lambda: json.dumps({"files": ["x" * 1000]}).encode()
    assert "is longer than 1000 bytes" in refused(asking)


def test_a_listing_that_breaks_off_is_asked_for_again(asking: DataConfig, zenodo: Zenodo):
    zenodo.listing_faults = [{"drop_after": 20}, {"status": 503}]
    assert [file.name for file in listed(asking)] == [NAME]
    assert len(zenodo.requests) == 3


def test_a_server_that_is_not_there_is_one_sentence(asking: DataConfig, zenodo: Zenodo):
    nobody = dataclasses.replace(asking, zenodo_url="http://127.0.0.1:9/api")
    assert "Connection refused (3 attempts in a row brought nothing)" in refused(nobody)
