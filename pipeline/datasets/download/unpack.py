"""An archive becomes a folder under `data.root`: whole or not at all, and nothing outside of it.

Two passes: the first checks and counts everything (survey.py), the second writes into
`.unpacking_<name>`, which gets its final name when it is whole. A second start after a kill
compares what is there with the archive and writes the rest, so no note of the progress is needed
and what a crash left half on the disk is found.
"""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.config.data import DataConfig
from pipeline.datasets.download.member_names import check_part
from pipeline.datasets.download.provenance import find_by_file, read_stamp, stamp_of, write_stamp
from pipeline.datasets.download.safe_write import open_folder, open_top, write_file
from pipeline.datasets.download.scan import SUFFIX, Census, Survey, open_archive, survey_archive
from pipeline.datasets.download.tar_reader import read_members
from pipeline.runtime.progress import Progress, Watch

logger = logging.getLogger(__name__)
"""Takes what is being done; one progress per pass and file."""
_NOTE = "archive.json"
_FILES = "files"


def unpack(archive: Path, config: DataConfig, *, md5: str = "", watch: Watch) -> Path:
    """Unpack a .tar.gz under `data.root`, or find that it is done already; returns the folder.

    `md5` is the packed file's as its publisher gives it; empty = not checked. Raises ValueError
    for an archive that is damaged, hostile or too large, that does not fit on the disk, or whose
    folder is there and came from elsewhere; nothing but the hidden folder is left then.
    """
    root = Path(config.root)
    root.mkdir(parents=True, exist_ok=True)
    if (done := _find_done(root, archive, md5)) is not None:
        return done
    survey = survey_archive(archive, config, watch(f"check {archive.name}"))
    _check_md5(archive, expected=md5, found=survey.md5)
    final = root / survey.folder
    if os.path.lexists(final):
        return _already(final, survey)
    with _unfinished(root, survey) as place:
        _check_space(place, survey)
        _write(place / _FILES, archive, config, survey, watch(f"unpack {archive.name}"))
        # Once for all: the folder must not get its name before its files are on the disk.
        os.sync()
        (place / _FILES / survey.folder).rename(final)
    logger.info("%s: unpacked into %s", archive.name, final)
    return final


def _find_done(root: Path, archive: Path, md5: str) -> Path | None:
    if not archive.is_file():
        raise ValueError(f"{archive} is not there or no file; correct data.archives")
    _check_name(archive)
    found = find_by_file(root, archive)
    if found is None:
        return None
    folder, stamp = found
    _check_md5(archive, expected=md5, found=stamp.md5)
    logger.info("%s: already unpacked in %s", archive.name, folder)
    if (left := _place(root, archive.name)).is_dir():
        shutil.rmtree(left)  # a kill just after the last rename
    return folder


def _check_name(archive: Path) -> None:
    """The folder may be called after the file."""
    try:
        check_part(archive.name)
        if archive.name.startswith(".") or not archive.name.endswith(SUFFIX):
            raise ValueError(f"is not named <name>{SUFFIX}")
    except ValueError as error:
        raise ValueError(f"{archive} {error}; rename the file") from None


def _check_md5(archive: Path, *, expected: str, found: str) -> None:
    if expected and expected != found:
        raise ValueError(
            f"{archive} has md5 {found}, but {expected} was expected; download it again, or "
            "correct data.md5"
        )


def _already(final: Path, survey: Survey) -> Path:
    """The folder, if it came from an archive with the same bytes; ValueError otherwise."""
    stamp = read_stamp(final)
    if stamp is not None and stamp.md5 == survey.md5:
        logger.info("%s: already unpacked in %s", survey.archive, final)
        return final
    origin = "was not unpacked by this job" if stamp is None else f"came from {stamp.archive}"
    raise ValueError(
        f"{final} exists already and {origin}, so {survey.archive} is not unpacked over it; move "
        "the folder away or set data.root to another"
    )


@contextmanager
def _unfinished(root: Path, survey: Survey) -> Iterator[Path]:
    """The hidden folder of this archive, this job's alone; removed when all went well.

    What another archive of the same name left in it is deleted first.
    """
    place = _place(root, survey.archive)
    place.mkdir(exist_ok=True)
    with open_top(place) as top:
        note = os.open(_NOTE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644, dir_fd=top)
        with os.fdopen(note, "r+", encoding="utf-8") as file:
            _lock(file.fileno(), place)
            identity = json.dumps({"archive": survey.archive, "md5": survey.md5})
            if file.read() != identity:
                _empty(place / _FILES)
                file.seek(0)
                file.truncate()
                file.write(identity)
                file.flush()
            (place / _FILES).mkdir(exist_ok=True)
            yield place
            shutil.rmtree(place)


def _place(root: Path, archive: str) -> Path:
    return root / f".unpacking_{archive.removesuffix(SUFFIX)}"


def _lock(descriptor: int, place: Path) -> None:
    """Held until the file is closed, by a kill at the latest."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"another job is unpacking into {place}; wait for it to end and start again"
        ) from None


def _empty(folder: Path) -> None:
    if os.path.lexists(folder):
        logger.info("%s is of another archive and is deleted", folder)
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)


def _check_space(place: Path, survey: Survey) -> None:
    """Say what is needed and what is free, before anything is written."""
    blocks = sum(path.lstat().st_blocks for path in (place / _FILES).rglob("*"))
    needed, free = survey.disk_bytes - 512 * blocks, shutil.disk_usage(place).free
    there = f", of which {512 * blocks / 1e9:.2f} GB are there" if blocks else ""
    fact = (
        f"{survey.archive} needs {survey.disk_bytes / 1e9:.2f} GB on disk for "
        f"{survey.num_files} files{there}; {free / 1e9:.2f} GB are free under {place.parent}"
    )
    if needed > free:
        raise ValueError(f"{fact}: make room or set data.root to a larger disk")
    logger.info("%s", fact)


def _write(
    files: Path, archive: Path, config: DataConfig, survey: Survey, progress: Progress
) -> None:
    """The second pass; it checks all again, because the file may not be what it was."""
    census = Census(archive.name, config)
    prefix = () if survey.is_own_top else (survey.folder,)
    with open_top(files) as top, open_archive(archive, config, progress) as (tar, packed):
        for member, content in read_members(tar):
            census.add(member)
            path = prefix + member.path
            if member.is_folder:
                with open_folder(top, path):
                    pass
            else:
                write_file(top, path, size=member.size, content=content)
        if packed.md5 != survey.md5:
            raise ValueError(
                f"{archive} was changed while it was being unpacked; start again when it is whole"
            )
        write_stamp(top, survey.folder, stamp_of(archive, survey))
