"""Shards on object storage, copied once per node to a local folder and used from there.

`data.blocks` may be a URI that pyarrow.fs understands (s3://, gs://, file://): a prepared folder or
the folder above it. The copy lies in `data.cache/<hash of the blocks>`. A file lock lets the ranks
and trials of a node copy once; a shard is written under a temporary name and gets its own when
size and hash are those of the manifest, so a killed copy goes on where it stopped.
"""

import errno
import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import ArrowInvalid, fs

from pipeline.config.schema import Config
from pipeline.data.folders import SOURCES, Prepared, choose_folder
from pipeline.data.manifest import (
    INDEX,
    MANIFEST,
    QUARANTINE,
    SPLIT_FILE,
    Shard,
    read_manifest,
    replace_durably,
)
from pipeline.data.shards import remove_leftovers
from pipeline.runtime.file_lock import file_lock
from pipeline.runtime.progress import Say

_CHUNK_BYTES = 4 * 2**20
_LOCK = ".lock"
SAY_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Store:
    """A prepared folder on object storage."""

    filesystem: fs.FileSystem
    path: str
    facts: Mapping[str, Any]
    """Content of its `manifest.json`."""

    def read(self, name: str) -> bytes:
        """A small file's content."""
        with self.filesystem.open_input_file(f"{self.path}/{name}") as file:
            return file.read()


def is_remote(place: str) -> bool:
    """Whether `data.blocks` is a URI."""
    return "://" in place


def find_store(config: Config) -> Store:
    """The prepared folder that a remote `data.blocks` means, by the rule of local ones.

    Raises ValueError when it cannot be read, or holds none that fits, or several.
    """
    uri = config.data.blocks
    try:
        filesystem, place = fs.FileSystem.from_uri(uri)
        found = list(_found(filesystem, place.rstrip("/")))
    except (ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"data.blocks={uri} cannot be read ({reason}); check the address, the network and the "
            "rights to it"
        ) from None
    chosen = choose_folder(config, found, place=place.rstrip("/"))
    return Store(filesystem=filesystem, path=chosen.place, facts=chosen.facts)


def _found(filesystem: fs.FileSystem, place: str) -> Iterator[Prepared]:
    """The prepared folder `place`, or those in it."""
    children = filesystem.get_file_info(fs.FileSelector(place))
    folders = [child.path for child in children if child.type == fs.FileType.Directory]
    if any(child.base_name == MANIFEST for child in children):
        folders = [place]
    for path in sorted(folders):
        facts, sources = (_json(filesystem, f"{path}/{name}") for name in (MANIFEST, SOURCES))
        if facts is not None:
            yield Prepared(place=path, facts=facts, sources=sources or [])


def _json(filesystem: fs.FileSystem, path: str) -> Any:
    """Content of a file; None where there is none."""
    if filesystem.get_file_info(path).type != fs.FileType.File:
        return None
    with filesystem.open_input_file(path) as file:
        return json.loads(file.read())


def fetch_tables(config: Config) -> Path:
    """The local folder of a remote `data.blocks`, with manifest, index and splits; no shards.

    Raises ValueError when it already holds other shards under the same hash.
    """
    store = find_store(config)
    folder = Path(config.data.cache) / store.facts["blocks_hash"]
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(folder / _LOCK), enough_space(config):
        manifest = store.read(MANIFEST)
        path = folder / MANIFEST
        if path.is_file() and path.read_bytes() != manifest:
            raise ValueError(
                f"{folder} caches other shards than now lie at {config.data.blocks}; delete it"
            )
        if not path.is_file():
            # The manifest comes last: with it the folder counts as whole.
            for name in (INDEX, SPLIT_FILE, QUARANTINE, MANIFEST):
                _write(folder / name, store.read(name))
    return folder


def fetch_split(config: Config, split: str, *, say: Say) -> Path:
    """`fetch_tables` and the split's shards; `say` takes progress lines while they are copied.

    Raises ValueError when the disk is too small or a shard arrives torn.
    """
    folder = fetch_tables(config)
    shards = read_manifest(folder).shards_of(split)
    with file_lock(folder / _LOCK), enough_space(config):
        missing = [shard for shard in shards if not _is_there(folder, shard)]
        if missing:
            _demand_space(config, folder, missing)
            (folder / split).mkdir(exist_ok=True)
            remove_leftovers(folder / split)
            _copy_all(find_store(config), folder, missing, say)
    return folder


def _copy_all(store: Store, folder: Path, shards: Sequence[Shard], say: Say) -> None:
    total = sum(shard.num_bytes for shard in shards)
    started = last = time.monotonic()
    done = 0
    for number, shard in enumerate(shards, 1):
        _copy(store, folder, shard)
        done += shard.num_bytes
        now = time.monotonic()
        if number == len(shards) or now - last >= SAY_EVERY_S:
            last, rate = now, done / max(now - started, 1e-9)
            say(
                f"cache: {number}/{len(shards)} shards of {shard.split}, {done / 1e9:.2f} of "
                f"{total / 1e9:.2f} GB, {rate / 1e6:.0f} MB/s, ETA {(total - done) / rate:.0f} s"
            )


def _copy(store: Store, folder: Path, shard: Shard) -> None:
    path = folder / shard.split / shard.name
    temporary = path.with_name(f".{shard.name}.{uuid.uuid4().hex}.tmp")
    digest = hashlib.sha256()
    source = f"{store.path}/{shard.split}/{shard.name}"
    try:
        with store.filesystem.open_input_stream(source) as remote, temporary.open("wb") as file:
            while chunk := remote.read(_CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if temporary.stat().st_size != shard.num_bytes or digest.hexdigest() != shard.sha256:
        temporary.unlink()
        raise ValueError(
            f"shard {source} is not the one that its manifest lists (other size or hash); copy the "
            "prepared folder to the object storage again"
        )
    replace_durably(temporary, path)


def _is_there(folder: Path, shard: Shard) -> bool:
    """A shard has its name only once its hash has been checked."""
    path = folder / shard.split / shard.name
    return path.is_file() and path.stat().st_size == shard.num_bytes


def _demand_space(config: Config, folder: Path, shards: Sequence[Shard]) -> None:
    need, free = sum(shard.num_bytes for shard in shards), shutil.disk_usage(folder).free
    if need > free:
        raise ValueError(
            f"data.cache={config.data.cache} has {free / 1e9:.1f} GB free but split "
            f"{shards[0].split} needs {need / 1e9:.1f} GB; make room, give another folder, or set "
            "data.reader=stream, which leaves the train split where it is"
        )


@contextmanager
def enough_space(config: Config) -> Iterator[None]:
    """The disk may fill up while we copy: others write to it as well."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ValueError(
            f"the disk of data.cache={config.data.cache} is full; make room or give another folder"
        ) from None


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_bytes(content)
    replace_durably(temporary, path)
