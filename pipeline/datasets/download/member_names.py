"""Which names from outside may become names on this disk."""

import re

_MAX_PART_BYTES = 240
"""File systems take 255; the rest is for the endings that unfinished files get."""
_MAX_PATH_BYTES = 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")


def split_path(name: str) -> tuple[str, ...]:
    """Parts of a plain relative path; `.` and `./` are the empty path.

    Raises ValueError with the finding alone, e.g. "has an absolute name".
    """
    if name in (".", "./"):
        return ()
    if name.startswith("/"):
        raise ValueError("has an absolute name")
    if len(name.encode()) > _MAX_PATH_BYTES:
        raise ValueError(f"has a name of more than {_MAX_PATH_BYTES} bytes")
    parts = tuple(name.removeprefix("./").split("/"))
    for part in parts:
        check_part(part)
    return parts


def check_part(part: str) -> None:
    """Raise ValueError with the finding alone unless `part` is the plain name of one file."""
    if part == "":
        raise ValueError("has an empty part in its name")
    if part in (".", ".."):
        raise ValueError(f"has '{part}' in its name")
    if "/" in part or "\\" in part:
        raise ValueError("has a slash or backslash in its name")
    if _DRIVE.match(part):
        raise ValueError("has a drive letter in its name")
    if _CONTROL.search(part):
        raise ValueError("has a control character in its name")
    try:
        num_bytes = len(part.encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError("has a name that is no text") from None
    if num_bytes > _MAX_PART_BYTES:
        raise ValueError(f"has a part of more than {_MAX_PART_BYTES} bytes in its name")


def shown(name: str) -> str:
    """A name from outside in quotes, in ASCII, short enough for one sentence."""
    return ascii(name if len(name) <= 120 else f"{name[:100]}...{name[-17:]}")
