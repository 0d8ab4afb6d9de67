"""What a Zenodo record offers: its .tar.gz files, as the listing of the record describes them."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.data import DataConfig
from pipeline.datasets.download.http import Web, is_web_address
from pipeline.datasets.download.member_names import check_part, shown
from pipeline.datasets.download.scan import SUFFIX

logger = logging.getLogger(__name__)
_MAX_LISTING_BYTES = 10_000_000


@dataclass(frozen=True, kw_only=True)
class RecordFile:
    """One .tar.gz file of a record."""

    name: str
    """A plain file name."""
    num_bytes: int
    md5: str
    url: str


def list_record(config: DataConfig, web: Web) -> list[RecordFile]:
    """The .tar.gz files of `data.zenodo_record`; the others are named in one line.

    Raises ValueError for a record that is not there, has none, or describes one in a way that
    cannot be trusted.
    """
    url = f"{config.zenodo_url.rstrip('/')}/{config.zenodo_record}"
    described = _described(url, web.read(url, max_bytes=_MAX_LISTING_BYTES))
    archives = [file for file in described if str(file.get("key")).endswith(SUFFIX)]
    others = ", ".join(shown(str(file.get("key"))) for file in described if file not in archives)
    if not archives:
        raise ValueError(
            f"record {config.zenodo_record} offers no {SUFFIX} file "
            f"({others or 'it lists no file'}); "
            "correct data.zenodo_record, or see on its page whether its files are restricted"
        )
    if others:
        logger.info(
            "record %s: %s left out, only %s is taken", config.zenodo_record, others, SUFFIX
        )
    files = [_record_file(config.zenodo_record, file) for file in archives]
    if len({file.name for file in files}) < len(files):
        raise ValueError(
            f"record {config.zenodo_record} lists a name twice; correct data.zenodo_record"
        )
    return files


def _described(url: str, data: bytes) -> Sequence[Mapping[str, Any]]:
    try:
        files = json.loads(data)["files"]
    except (ValueError, KeyError, TypeError, RecursionError):
        files = None
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise ValueError(
            f"{url} is no list of a record's files; correct data.zenodo_record or data.zenodo_url"
        )
    return files


def _record_file(record: str, file: Mapping[str, Any]) -> RecordFile:
    name, size, links = file["key"], file.get("size"), file.get("links")
    url = links.get("self") if isinstance(links, dict) else None
    checksum = re.fullmatch(r"md5:([0-9a-f]{32})", str(file.get("checksum")))
    try:
        check_part(name)
        if name.startswith("."):
            raise ValueError("has a hidden name")
        if type(size) is not int or size <= 0:
            raise ValueError(f"has the size {size!r}")
        if checksum is None:
            raise ValueError("has no md5")
        if not isinstance(url, str) or not is_web_address(url):
            raise ValueError("has no http(s) address")
    except ValueError as error:
        raise ValueError(
            f"record {record}: file {shown(name)} {error} and is not downloaded; download it with "
            "a browser and give it as data.archives if you trust it"
        ) from None
    return RecordFile(name=name, num_bytes=size, md5=checksum[1], url=url)
