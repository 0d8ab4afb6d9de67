"""Small archives in the shape of AnoVox, written by Python's tarfile."""

import gzip
import random
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

SCENE = "Scenario_01234567-89ab-4cde-8f01-23456789abcd"
SENSOR = "SEMANTIC-LIDAR(0, 0, 1.8)(0, 0, 0)_6343367489698313030"
Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **facts: Any) -> Entry:
    """A tar member; `facts` are set on the header as they are."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content


def tar_bytes(entries: Iterable[Entry], form: Literal[0, 1, 2] = tarfile.PAX_FORMAT) -> bytes:
    """A whole tar; the headers are written as they are, be they lies."""
    blocks = []
    for info, content in entries:
        blocks.append(info.tobuf(form, "utf-8", "surrogateescape"))
        blocks.append(content + bytes(-len(content) % 512))
    return b"".join(blocks) + bytes(1024)


def honest_files(num_frames: int = 4, top: str = "AnoVox_Static_Mono_Town03") -> dict[str, bytes]:
    """Paths as long as the real ones, with contents that hardly compress; one file is empty."""
    noise = random.Random(0)
    files = {f"{top}/{SCENE}/sensor_setup.json": b"{}", f"{top}/{SCENE}/ACTION/empty.csv": b""}
    for frame_id in range(998, 998 + num_frames):
        name = f"{top}/{SCENE}/{SENSOR}/{SENSOR}_{frame_id}.npy"
        files[name] = noise.randbytes(20_000 + frame_id)
    return files


def honest_entries(files: dict[str, bytes]) -> list[Entry]:
    """Folders first, as tar writes them, then the files."""
    folders = {"/".join(n.split("/")[:i]) for n in files for i in range(1, n.count("/") + 1)}
    made = [entry(name, kind=tarfile.DIRTYPE, mode=0o755) for name in sorted(folders)]
    return made + [entry(name, content) for name, content in files.items()]


def tree(folder: Path) -> dict[str, bytes]:
    """Contents by path relative to `folder`, the note left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".unpacked.json"
    }


def quiet(what: str) -> Callable[[int, int], None]:
    return lambda done, total: None


def write_archive(path: Path, entries: Iterable[Entry]) -> Path:
    """A .tar.gz of the entries."""
    path.write_bytes(gzip.compress(tar_bytes(entries)))
    return path
