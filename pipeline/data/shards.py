"""Shards: Arrow IPC files that are whole or not there, memory-mapped for reading.

Uncompressed, one block per file: a row's arrays are views of the page cache, which all workers and
trials of a machine share. A shard is written under a temporary name, hashed and renamed, so a
killed writer leaves no half shard behind a shard's name.
"""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pipeline.config.data import PrepareConfig
from pipeline.data.manifest import Shard, file_hash, flush_file
from pipeline.data.schema import METADATA_NAMES, ROW, row_schema, to_block

SCHEMAS = tuple(
    row_schema(PrepareConfig(image=image, points=points))
    for image in ("raw", "png", "jpeg")
    for points in ("float32", "int16_cm")
)
"""What `prepare` can write; a file of any other schema is not ours."""


def write_shard(
    folder: Path,
    split: str,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    schema: pa.Schema = ROW,
) -> Shard:
    """Write rows as `folder/split/name`; the returned record holds its size and hash."""
    path = folder / split / name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{name}.{uuid.uuid4().hex}.tmp")
    with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(to_block(rows, schema))
    shard = Shard(
        split=split,
        name=name,
        num_rows=len(rows),
        num_bytes=temporary.stat().st_size,
        sha256=file_hash(temporary),
    )
    temporary.replace(path)
    return shard


def flush(folder: Path, shards: Sequence[Shard]) -> None:
    """Wait until the shards are on disk; not in the tasks that write them, whose CPUs would idle.

    Until then a power cut may leave a shard that is not what its hash says, which is written again.
    """
    for shard in shards:
        flush_file(folder / shard.split / shard.name)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of a killed writer."""
    for path in folder.rglob(".*.tmp"):
        path.unlink()


def open_shard(folder: Path, shard: Shard) -> pa.RecordBatch:
    """The shard's block, memory-mapped; ValueError when the file is torn or of another make.

    Size and structure are checked; the hash is not, since that would read the whole file.
    """
    path = str(check_size(folder, shard))
    return block_of(pa.memory_map(path), shard, place=path)


def check_size(folder: Path, shard: Shard) -> Path:
    """The shard's path; ValueError when the file there is torn or missing."""
    path = folder / shard.split / shard.name
    found = path.stat().st_size if path.is_file() else 0
    if found != shard.num_bytes:
        raise ValueError(
            f"shard {path} has {found} bytes but its manifest says {shard.num_bytes}; "
            "it is torn: run jobs.prepare again"
        )
    return path


def block_of(source: pa.NativeFile | pa.Buffer, shard: Shard, *, place: str) -> pa.RecordBatch:
    """The block in an open shard; ValueError when it is of another make than the manifest says."""
    try:
        block = pa.ipc.open_file(source).get_batch(0)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"shard {place} is no Arrow file ({error}); delete it and run jobs.prepare again"
        ) from None
    ours = any(block.schema.equals(schema, check_metadata=True) for schema in SCHEMAS)
    if not ours or block.num_rows != shard.num_rows:
        raise ValueError(
            f"shard {place} has other columns or rows than this program writes; "
            "delete its folder and run jobs.prepare again"
        )
    return block


def read_metadata(folder: Path, shards: Sequence[Shard]) -> pd.DataFrame:
    """The metadata columns of every row, with `split`, `shard` and `row_in_shard`, in row order."""
    tables = []
    for shard in shards:
        frames = open_shard(folder, shard).select(METADATA_NAMES).to_pandas()
        place = {"split": shard.split, "shard": shard.name, "row_in_shard": range(shard.num_rows)}
        tables.append(frames.assign(**place))
    return pd.concat(tables, ignore_index=True)


def is_whole(folder: Path, shard: Shard) -> bool:
    """Whether the shard's file has the recorded size and hash."""
    path = folder / shard.split / shard.name
    if not path.is_file() or path.stat().st_size != shard.num_bytes:
        return False
    return file_hash(path) == shard.sha256
