"""Run folders on object storage: worked on in a local folder of every node, mirrored there.

`storage_path=s3://bucket/runs` becomes, when the config is loaded, a folder under `storage_cache`
that everything writes to, and `storage_mirror`, the address. The address is the truth: before a
training starts or goes on, each node makes its local checkpoints equal to those there, so that all
ranks restore the same one and a lost node loses nothing. Without a mirror all of this does nothing.
"""

import contextlib
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from pipeline.config.schema import Config
from pipeline.runtime.file_lock import file_lock

_LOCK = ".lock"
_CHUNK_BYTES = 8 * 2**20
NOT_AT_THE_END = ("checkpoints", "ray")
"""Folders with a way of their own: checkpoints travel when written, Ray writes to the address."""


def place(config: Config, name: str) -> str:
    """`name` under the storage path as Ray needs it: reachable from every node."""
    if not config.storage_mirror:
        return str(Path(config.storage_path) / name)
    address, mark, query = config.storage_mirror.partition("?")
    return f"{address.rstrip('/')}/{name}{mark}{query}"


def to_remote_uris(config: Config, facts: dict[str, Any]) -> dict[str, Any]:
    """Replaces local run paths in a job's result by their remote URIs."""
    if not config.storage_mirror:
        return facts
    address = config.storage_mirror.partition("?")[0].rstrip("/")

    def addressed(value: Any) -> Any:
        if isinstance(value, list):
            return [addressed(one) for one in value]
        return value.replace(config.storage_path, address) if isinstance(value, str) else value

    return {key: addressed(value) for key, value in facts.items()}


@contextlib.contextmanager
def synced(config: Config) -> Iterator[None]:
    """Upload what the block wrote under the storage path (tables, figures), failed or not.

    Raises ValueError before the block when the address cannot be reached.
    """
    if not config.storage_mirror:
        yield
        return
    _demand_reachable(config)
    Path(config.storage_path).mkdir(parents=True, exist_ok=True)
    # File systems keep coarser times than the clock.
    started = time.time() - 1.0
    try:
        yield
    finally:
        remote, base = _remote(config)
        for path in _written_since(Path(config.storage_path), started):
            _upload(remote, path, f"{base}/{path.relative_to(config.storage_path).as_posix()}")


def fetch_file(config: Config, path: Path) -> None:
    """Make the local file `path` what lies at the address, if it is there."""
    if not config.storage_mirror:
        return
    remote, base = _remote(config)
    source = f"{base}/{_relative(config, path)}"
    if remote.get_file_info(source).type == fs.FileType.File:
        _download(remote, source, path)


def fetch_files(config: Config, folder: Path) -> None:
    """Make the files of `folder`, not of its subfolders, those at the address."""
    if not config.storage_mirror:
        return
    remote, base = _remote(config)
    there = f"{base}/{_relative(config, folder)}"
    infos = remote.get_file_info(fs.FileSelector(there, allow_not_found=True))
    found = {info.base_name: info.path for info in infos if info.type == fs.FileType.File}
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_file() and path.name not in found:
            path.unlink()
    for name, source in found.items():
        _download(remote, source, folder / name)


def push_file(config: Config, path: Path) -> None:
    """Upload one file now: what must be known even if this node is lost before the job ends."""
    if not config.storage_mirror:
        return
    remote, base = _remote(config)
    _upload(remote, path, f"{base}/{_relative(config, path)}")


def push_results(config: Config, folder: Path) -> None:
    """Upload the tables, figures and notes of a run folder now."""
    for path in _written_since(folder, -math.inf):
        push_file(config, path)


def push_folders(config: Config, folder: Path, *, last: str) -> None:
    """Make the address' subfolders of `folder` those that lie here.

    A subfolder is whole once it has its file `last`, which is therefore uploaded last and deleted
    first: a node that is killed in between leaves none that looks whole and is not.
    """
    if not config.storage_mirror:
        return
    remote, base = _remote(config)
    there = f"{base}/{_relative(config, folder)}"
    ours = {path.name for path in folder.iterdir() if (path / last).is_file()}
    for name in sorted(ours):
        if _content(remote, f"{there}/{name}/{last}") != (folder / name / last).read_bytes():
            files = sorted((folder / name).iterdir(), key=lambda path: path.name == last)
            for path in files:
                _upload(remote, path, f"{there}/{name}/{path.name}")
    for name in _subfolders(remote, there) - ours:
        if _content(remote, f"{there}/{name}/{last}") is not None:
            remote.delete_file(f"{there}/{name}/{last}")
        remote.delete_dir(f"{there}/{name}")


def fetch_folders(config: Config, folder: Path, *, last: str) -> None:
    """Make the subfolders of `folder` the whole ones at the address: fetch, replace, delete.

    Safe for the ranks of a node at once. Other files of `folder` stay.
    """
    if not config.storage_mirror:
        return
    remote, base = _remote(config)
    there = f"{base}/{_relative(config, folder)}"
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(folder / _LOCK):
        whole = {
            name: content
            for name in _subfolders(remote, there)
            if (content := _content(remote, f"{there}/{name}/{last}")) is not None
        }
        for path in [path for path in folder.iterdir() if path.is_dir()]:
            note = path / last
            if not note.is_file() or note.read_bytes() != whole.get(path.name):
                shutil.rmtree(path)
        for name in whole:
            if not (folder / name).exists():
                _fetch_folder(remote, f"{there}/{name}", folder / name)


def _fetch_folder(remote: fs.FileSystem, source: str, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir()
    for info in remote.get_file_info(fs.FileSelector(source)):
        if info.type == fs.FileType.File:
            _download(remote, info.path, temporary / info.base_name)
    temporary.rename(target)


def _remote(config: Config) -> tuple[fs.FileSystem, str]:
    remote, base = fs.FileSystem.from_uri(config.storage_mirror)
    return remote, base.rstrip("/")


def _relative(config: Config, path: Path) -> str:
    if not path.is_relative_to(config.storage_path):
        raise ValueError(
            f"{path} lies outside of {config.storage_path}, the local copy of "
            f"{config.storage_mirror}; give its address under storage_path"
        )
    return path.relative_to(config.storage_path).as_posix()


def _demand_reachable(config: Config) -> None:
    """A run must not end before it is told that its results cannot be stored."""
    probe = f".anovox-{uuid.uuid4().hex}"
    try:
        remote, base = _remote(config)
        remote.create_dir(base, recursive=True)
        with remote.open_output_stream(f"{base}/{probe}") as file:
            file.write(b"may be written")
        remote.delete_file(f"{base}/{probe}")
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"storage_path={config.storage_mirror} cannot be written ({reason}); check the "
            "address, that the bucket exists, the network and the rights to it"
        ) from None


def _written_since(root: Path, started: float) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name not in NOT_AT_THE_END]
        for name in files:
            path = Path(folder) / name
            if not name.startswith(".") and path.stat().st_mtime >= started:
                yield path


def _subfolders(remote: fs.FileSystem, place: str) -> set[str]:
    infos = remote.get_file_info(fs.FileSelector(place, allow_not_found=True))
    return {info.base_name for info in infos if info.type == fs.FileType.Directory}


def _content(remote: fs.FileSystem, path: str) -> bytes | None:
    """A small file's content; None when there is none."""
    if remote.get_file_info(path).type != fs.FileType.File:
        return None
    with remote.open_input_file(path) as file:
        return file.read()


def _upload(remote: fs.FileSystem, path: Path, target: str) -> None:
    remote.create_dir(target.rpartition("/")[0], recursive=True)
    with path.open("rb") as file, remote.open_output_stream(target) as stream:
        shutil.copyfileobj(file, stream, _CHUNK_BYTES)


def _download(remote: fs.FileSystem, source: str, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    with remote.open_input_stream(source) as stream, temporary.open("wb") as file:
        shutil.copyfileobj(stream, file, _CHUNK_BYTES)
    temporary.replace(path)
