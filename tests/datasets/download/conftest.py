from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config.data import DataConfig
from tests.helpers.tarballs import honest_entries, honest_files, write_archive
from tests.helpers.zenodo import Zenodo, serve


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    return DataConfig(root=str(tmp_path / "anovox"), retry_wait_s=0.01, stall_s=5)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """One top folder, two files beside four sensor files."""
    path = tmp_path / "AnoVox_Static_Mono_Town03.tar.gz"
    return write_archive(path, honest_entries(honest_files()))


@pytest.fixture
def zenodo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zenodo]:
    """A record without files, reached without the proxy that a machine may have."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as served:
        yield served
