"""What the config asks for is there afterwards, and is fetched and unpacked only once."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from pipeline.config.data import DataConfig
from pipeline.datasets.download.fetch import take_in
from tests.helpers.tarballs import entry, quiet, tree, write_archive
from tests.helpers.zenodo import RECORD, Zenodo


def packed(folder: Path, name: str) -> Path:
    return write_archive(folder / f"{name}.tar.gz", [entry(f"{name}/file", name.encode())])


@pytest.fixture
def asking(config: DataConfig, zenodo: Zenodo, tmp_path: Path) -> DataConfig:
    """A record with two archives and a text."""
    for name in ("AnoVox_A", "AnoVox_B"):
        zenodo.files[f"{name}.tar.gz"] = packed(tmp_path, name).read_bytes()
    zenodo.files["README.md"] = b"1"
    return dataclasses.replace(config, zenodo_record=RECORD, zenodo_url=zenodo.records)


def names_in(config: DataConfig) -> set[str]:
    return {path.name for path in Path(config.root).iterdir()}


def test_nothing_asked_for_is_nothing_done(config: DataConfig):
    assert take_in(config, quiet) == []
    assert not Path(config.root).exists()


def test_archives_are_unpacked_in_their_order_each_against_its_own_md5(
    config: DataConfig, tmp_path: Path
):
    paths = [packed(tmp_path, "b"), packed(tmp_path, "a")]
    sums = [hashlib.md5(path.read_bytes()).hexdigest() for path in paths]
    both = dataclasses.replace(config, archives=[*map(str, paths)], md5=sums)
    assert [folder.name for folder in take_in(both, quiet)] == ["b", "a"]
    swapped = dataclasses.replace(both, md5=sums[::-1])
    with pytest.raises(ValueError, match=r"b\.tar\.gz has md5 .* was expected"):
        take_in(swapped, quiet)


def test_a_record_is_downloaded_and_unpacked(asking: DataConfig):
    said: list[str] = []
    folders = take_in(asking, lambda what: (said.append(what), quiet(what))[1])
    assert folders == [Path(asking.root) / "AnoVox_A", Path(asking.root) / "AnoVox_B"]
    assert tree(folders[1]) == {"file": b"AnoVox_B"}
    assert names_in(asking) == {"AnoVox_A", "AnoVox_B", ".downloads"}
    name = "AnoVox_A.tar.gz"
    assert said[:3] == [f"download {name}", f"check {name}", f"unpack {name}"]


def test_what_is_unpacked_is_not_downloaded_again_even_when_the_packed_files_are_gone(
    asking: DataConfig, zenodo: Zenodo
):
    folders = take_in(asking, quiet)
    for path in (Path(asking.root) / ".downloads").iterdir():
        path.unlink()
    assert take_in(asking, quiet) == folders
    assert len(zenodo.ranges()) == 2


def test_an_archive_got_by_hand_counts_as_the_records(
    asking: DataConfig, zenodo: Zenodo, tmp_path: Path
):
    by_hand = [str(tmp_path / "AnoVox_A.tar.gz")]
    take_in(dataclasses.replace(asking, zenodo_record="", archives=by_hand), quiet)
    take_in(asking, quiet)
    assert len(zenodo.ranges()) == 1


def test_a_record_and_archives_may_be_asked_for_together(asking: DataConfig, tmp_path: Path):
    both = dataclasses.replace(asking, archives=[str(packed(tmp_path, "AnoVox_C"))])
    names = [folder.name for folder in take_in(both, quiet)]
    assert names == ["AnoVox_A", "AnoVox_B", "AnoVox_C"]


def test_a_wrong_md5_leaves_no_unpacked_folder(asking: DataConfig, zenodo: Zenodo):
    zenodo.listed["AnoVox_B.tar.gz"] = {"checksum": f"md5:{'0' * 32}"}
    with pytest.raises(ValueError, match="is complete but has md5"):
        take_in(asking, quiet)
    assert names_in(asking) == {"AnoVox_A", ".downloads"}


def test_a_packed_file_that_was_damaged_on_the_disk_is_noticed(asking: DataConfig):
    take_in(asking, quiet)
    path = Path(asking.root) / ".downloads" / "AnoVox_A.tar.gz"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    (Path(asking.root) / "AnoVox_A").rename(Path(asking.root).parent / "moved")
    with pytest.raises(ValueError, match=r"AnoVox_A\.tar\.gz"):
        take_in(asking, quiet)
    assert names_in(asking) == {"AnoVox_B", ".downloads"}
