"""A shard is whole or refused; a killed writer leaves nothing behind a shard's name."""

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.data.manifest import file_hash
from pipeline.data.schema import ragged
from pipeline.data.shards import (
    is_whole,
    open_shard,
    read_metadata,
    remove_leftovers,
    write_shard,
)

NAME = "shard-00000.arrow"


def test_a_written_shard_is_whole_and_says_its_hash(tmp_path: Path, random_row):
    shard = write_shard(tmp_path, "train", NAME, [random_row(i, 5) for i in range(3)])
    path = tmp_path / "train" / NAME
    assert shard.num_rows == 3
    assert shard.num_bytes == path.stat().st_size
    assert shard.sha256 == file_hash(path)
    assert is_whole(tmp_path, shard)
    assert open_shard(tmp_path, shard).num_rows == 3


def test_the_same_rows_give_the_same_bytes(tmp_path: Path, random_row):
    rows = [random_row(i, 5) for i in range(3)]
    shards = [write_shard(tmp_path / name, "train", NAME, rows) for name in ("a", "b")]
    assert shards[0] == shards[1]


def test_a_shard_without_rows_can_be_written_and_read(tmp_path: Path):
    shard = write_shard(tmp_path, "train", NAME, [])
    assert open_shard(tmp_path, shard).num_rows == 0
    assert read_metadata(tmp_path, [shard]).empty


def test_a_truncated_shard_is_refused_in_one_sentence(tmp_path: Path, random_row):
    shard = write_shard(tmp_path, "train", NAME, [random_row(0, 50)])
    path = tmp_path / "train" / NAME
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"shard .* is torn: run jobs\.prepare again"):
        open_shard(tmp_path, shard)
    assert not is_whole(tmp_path, shard)


def test_a_missing_shard_is_refused(tmp_path: Path, random_row):
    shard = write_shard(tmp_path, "train", NAME, [random_row(0, 50)])
    (tmp_path / "train" / NAME).unlink()
    with pytest.raises(ValueError, match="has 0 bytes but its manifest says"):
        open_shard(tmp_path, shard)


def test_a_file_that_is_no_arrow_file_is_refused(tmp_path: Path, random_row):
    shard = write_shard(tmp_path, "train", NAME, [random_row(0, 50)])
    (tmp_path / "train" / NAME).write_bytes(b"x" * shard.num_bytes)
    with pytest.raises(ValueError, match="is no Arrow file"):
        open_shard(tmp_path, shard)
    assert not is_whole(tmp_path, shard)


def test_a_changed_byte_is_found_by_the_hash(tmp_path: Path, random_row):
    shard = write_shard(tmp_path, "train", NAME, [random_row(0, 50)])
    path = tmp_path / "train" / NAME
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert not is_whole(tmp_path, shard)


def test_another_number_of_rows_than_noted_is_refused(tmp_path: Path, random_row):
    shard = write_shard(tmp_path, "train", NAME, [random_row(0, 50)])
    with pytest.raises(ValueError, match="other columns or rows"):
        open_shard(tmp_path, dataclasses.replace(shard, num_rows=2))


def test_metadata_comes_in_row_order_with_its_place(tmp_path: Path, random_row):
    shards = [
        write_shard(
            tmp_path, "val", f"shard-0000{n}.arrow", [random_row(3 * n + i, 4) for i in (0, 1)]
        )
        for n in (0, 1)
    ]
    frames = read_metadata(tmp_path, shards)
    assert frames["frame_id"].tolist() == [995, 996, 998, 999]
    assert frames["row_in_shard"].tolist() == [0, 1, 0, 1]
    assert frames["shard"].tolist() == [s.name for s in shards for _ in (0, 1)]


def test_mapped_rows_outlive_the_names_that_opened_them(tmp_path: Path, random_row):
    row = random_row(0, 500)
    values, _ = ragged(open_shard(tmp_path, write_shard(tmp_path, "train", NAME, [row])), "points")
    (tmp_path / "train" / NAME).unlink()
    assert (values.reshape(-1, 4) == row["points"]).all()


ENDLESS_WRITER = """
import sys
from pathlib import Path
import numpy as np
import pipeline.data.shards as shards
from pipeline.data.schema import ROW, value_type
import pyarrow as pa

def cell(field):
    if pa.types.is_large_list(field.type):
        kind, width = value_type(field.type)
        return np.zeros((4_000_000, width), kind)
    if pa.types.is_fixed_size_list(field.type):
        return np.zeros(field.type.list_size)
    return {"string": "", "double": 0.0, "large_binary": b""}.get(str(field.type), 0)

row = {field.name: cell(field) for field in ROW}
print("ready", flush=True)
while True:
    shards.write_shard(Path(sys.argv[1]), "train", "shard-00000.arrow", [row])
    (Path(sys.argv[1]) / "train" / "shard-00000.arrow").unlink()
"""


@pytest.mark.slow
def test_a_writer_killed_in_the_middle_leaves_only_a_temporary_file(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS_WRITER, str(tmp_path)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        half_written = [p for p in tmp_path.rglob(".*.tmp") if p.stat().st_size > 1_000_000]
        if half_written:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    names = [path.name for path in (tmp_path / "train").iterdir()]
    assert names, "the writer was killed between two shards"
    assert all(name.endswith(".tmp") for name in names)
    remove_leftovers(tmp_path)
    assert not list((tmp_path / "train").iterdir())
