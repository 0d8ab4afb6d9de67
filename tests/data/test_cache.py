"""Shards on object storage are copied once per node, checked, and then read like any others."""

import dataclasses
import json
import threading
from pathlib import Path

import pyarrow.fs as pa_fs
import pytest
import torch
from moto.server import ThreadedMotoServer

from pipeline.config.load import load, merge
from pipeline.config.schema import Config
from pipeline.data.block_reader import BlockReader
from pipeline.data.cache import enough_space, fetch_split, is_remote
from pipeline.data.manifest import MANIFEST, read_manifest, write_manifest
from pipeline.data.prepare.prepare import find_blocks, prepare
from pipeline.data.readers import open_reader
from pipeline.data.stream import stream_dataset

BOX = Config().data.ego_box_m


def quiet(line: str) -> None:
    pass


@pytest.fixture
def store(tmp_path: Path, random_row, write_prepared) -> Path:
    """A prepared folder `blocks/abc` with two train shards and one of val."""
    rows = [random_row(i, 5 + i) for i in range(6)]
    folder = tmp_path / "bucket" / "blocks" / "abc"
    place = write_prepared(folder, {"train": [rows[:3], rows[3:5]], "val": [rows[5:]]})
    for name in ("splits.json", "quarantine.json"):
        (place / name).write_text("{}")
    return place


@pytest.fixture
def config(store: Path, tmp_path: Path) -> Config:
    place = {"blocks": f"file://{store.parent}", "cache": str(tmp_path / "cache")}
    return merge(Config(), {"data": place})


def assert_same_rows(config: Config, store: Path) -> None:
    folder = find_blocks(config)
    copied = open_reader(config, folder, "train", num_sweeps=1, say=quiet)
    direct = BlockReader(store, "train", ego_box_m=BOX)
    rows = range(direct.num_rows)
    ours, theirs = (one.batch(rows, augment_seed=None) for one in (copied, direct))
    names = vars(ours).keys() - {"pixel_label", "voxels", "host_offset", "classes"}
    assert all(torch.equal(getattr(ours, name), getattr(theirs, name)) for name in names)


def test_a_file_uri_gives_the_same_rows_as_the_folder(config: Config, store: Path, tmp_path: Path):
    assert_same_rows(config, store)
    assert find_blocks(config) == tmp_path / "cache" / "abc"


def test_the_prepared_folder_itself_may_be_the_uri(config: Config, store: Path):
    own = merge(config, {"data": {"blocks": f"file://{store}"}})
    assert find_blocks(own) == find_blocks(config)


def test_only_the_split_that_is_opened_is_copied(config: Config, store: Path):
    folder = find_blocks(config)
    assert not list(folder.rglob("*.arrow"))
    open_reader(config, folder, "val", num_sweeps=1, say=quiet)
    assert [path.parent.name for path in folder.rglob("*.arrow")] == ["val"]


def test_a_second_reader_copies_nothing(config: Config, store: Path):
    said: list[str] = []
    folder = fetch_split(config, "train", say=said.append)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.arrow")}
    assert len(said) == 1
    assert "2/2 shards of train" in said[0]
    fetch_split(config, "train", say=said.append)
    assert len(said) == 1
    assert times == {path: path.stat().st_mtime_ns for path in folder.rglob("*.arrow")}


def test_ranks_that_open_at_once_copy_once(config: Config, store: Path):
    said: list[str] = []
    threads = [
        threading.Thread(target=fetch_split, args=(config, "train"), kwargs={"say": said.append})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 1
    assert_same_rows(config, store)


def test_what_a_killed_copy_left_is_cleaned_and_its_whole_shards_are_kept(
    config: Config, store: Path
):
    folder = fetch_split(config, "train", say=quiet)
    first, second = sorted(folder.rglob("*.arrow"))
    kept = first.stat().st_mtime_ns
    second.rename(second.with_name(f".{second.name}.half.tmp"))
    assert_same_rows(config, store)
    assert first.stat().st_mtime_ns == kept
    assert not list(folder.rglob("*.tmp"))


def test_a_shard_that_was_torn_on_the_way_is_refused_and_not_kept(config: Config, store: Path):
    path = store / "train" / "shard-00001.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"shard-00001\.arrow is not the one that its manifest"):
        fetch_split(config, "train", say=quiet)
    names = [p.name for p in Path(config.data.cache).rglob("*") if "00001" in p.name]
    assert names == []


def test_a_disk_too_small_is_one_sentence_before_anything_is_copied(config: Config, store: Path):
    manifest = read_manifest(store)
    huge = [dataclasses.replace(shard, num_bytes=10**18) for shard in manifest.shards]
    write_manifest(store, dataclasses.replace(manifest, shards=huge))
    with pytest.raises(ValueError, match=r"GB free but split train needs 2000000000\.0 GB"):
        fetch_split(config, "train", say=quiet)
    assert not list(Path(config.data.cache).rglob("*.arrow"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
def test_a_disk_that_fills_up_while_copying_is_one_sentence(config: Config, store: Path):
    with (
        pytest.raises(ValueError, match=r"^the disk of data\.cache=.* is full; make room or give"),
        enough_space(config),
        Path("/dev/full").open("wb", buffering=0) as file,
    ):
        file.write(b"x")


def test_other_shards_under_the_same_hash_are_refused(config: Config, store: Path):
    fetch_split(config, "train", say=quiet)
    facts = json.loads((store / MANIFEST).read_text())
    (store / MANIFEST).write_text(json.dumps(facts | {"root": "elsewhere"}))
    with pytest.raises(ValueError, match="caches other shards than now lie at file://"):
        fetch_split(config, "train", say=quiet)


def test_a_uri_without_shards_of_this_config_says_so(config: Config, store: Path):
    other = merge(config, {"prepare": {"image_width": 100}})
    with pytest.raises(
        ValueError,
        match=r"no shards made by .* \(1 made otherwise\); copy a prep",
    ):
        find_blocks(other)


def test_a_uri_that_cannot_be_read_is_one_sentence(config: Config, tmp_path: Path):
    missing = merge(config, {"data": {"blocks": f"file://{tmp_path}/nowhere"}})
    with pytest.raises(ValueError, match=r"nowhere cannot be read \(.*\); check the address"):
        find_blocks(missing)


def test_shards_are_not_prepared_on_remote_storage(config: Config):
    with pytest.raises(ValueError, match="shards are written to a local folder"):
        prepare(config, lambda done, total: None)


@pytest.mark.slow
def test_the_stream_reads_remote_shards_where_they_lie(config: Config, store: Path, ray_session):
    streaming = merge(config, {"data": {"reader": "stream"}})
    folder = find_blocks(streaming)
    rows = [row["row"] for row in stream_dataset(streaming, folder).take_all()]
    assert sorted(rows) == [0, 1, 2, 3, 4]
    assert not list(folder.rglob("*.arrow"))


def test_remote_places_survive_loading_and_need_a_cache(tmp_path: Path):
    uri = "s3://bucket/blocks?region=eu-west-1"
    config = load(None, [f"data.blocks={uri}", f"data.cache={tmp_path}"])
    assert config.data.blocks == uri
    assert is_remote(config.data.blocks)
    with pytest.raises(ValueError, match=r"remote storage, and shards are memory-mapped"):
        load(None, [f"data.blocks={uri}"])
    with pytest.raises(ValueError, match=r"has a scheme that is not read; it takes a local path"):
        load(None, ["data.blocks=ftp://host/blocks", f"data.cache={tmp_path}"])


def test_an_s3_server_gives_the_same_rows(config: Config, store: Path, monkeypatch):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        address = f"scheme=http&endpoint_override={host}%3A{port}&allow_bucket_creation=true"
        s3, _ = pa_fs.FileSystem.from_uri(f"s3://shards/blocks?{address}")
        s3.create_dir("shards")
        local = pa_fs.LocalFileSystem()
        pa_fs.copy_files(str(store), "shards/blocks/abc", local, s3)
        remote = merge(config, {"data": {"blocks": f"s3://shards/blocks?{address}"}})
        assert_same_rows(remote, store)
    finally:
        server.stop()
