"""The note in an unpacked folder that says which archive it came from."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets.download.safe_write import write_file
from pipeline.datasets.download.scan import STAMP_FILE, Survey


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """Content of `.unpacked.json`."""

    archive: str
    """File name of the .tar.gz."""
    packed_bytes: int
    mtime_ns: int
    """The packed file's, so that it need not be hashed again to be recognised."""
    md5: str
    num_files: int
    num_bytes: int
    """Content of the files."""


def stamp_of(archive: Path, survey: Survey) -> Stamp:
    """The note for an archive that was surveyed."""
    facts = archive.stat()
    return Stamp(
        archive=archive.name,
        packed_bytes=facts.st_size,
        mtime_ns=facts.st_mtime_ns,
        md5=survey.md5,
        num_files=survey.num_files,
        num_bytes=survey.num_bytes,
    )


def write_stamp(files: int, folder: str, stamp: Stamp) -> None:
    """Into `folder` below the descriptor `files`, before it gets its final name."""
    data = json.dumps(dataclasses.asdict(stamp), indent=1).encode()
    write_file(files, (folder, STAMP_FILE), size=len(data), content=iter([data]))


def read_stamp(folder: Path) -> Stamp | None:
    """None where there is none; ValueError for one that this program did not write."""
    path = folder / STAMP_FILE
    if not path.is_file():
        return None
    try:
        return Stamp(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is not readable ({error}); delete its folder to have the archive unpacked "
            "again, or move the folder out of data.root"
        ) from None


def find_by_md5(root: Path, md5: str) -> Path | None:
    """The folder under `root` that came from the archive of this md5."""
    found = (folder for folder, stamp in _stamps(root) if stamp.md5 == md5)
    return next(found, None)


def find_by_file(root: Path, archive: Path) -> tuple[Path, Stamp] | None:
    """The folder under `root` that came from this very file: same name, size and time."""
    facts = archive.stat()
    wanted = (archive.name, facts.st_size, facts.st_mtime_ns)
    for folder, stamp in _stamps(root):
        if (stamp.archive, stamp.packed_bytes, stamp.mtime_ns) == wanted:
            return folder, stamp
    return None


def _stamps(root: Path) -> list[tuple[Path, Stamp]]:
    """Unfinished folders are hidden and do not count."""
    folders = sorted(path for path in root.glob("[!.]*") if path.is_dir())
    stamps = [(folder, read_stamp(folder)) for folder in folders]
    return [(folder, stamp) for folder, stamp in stamps if stamp is not None]
