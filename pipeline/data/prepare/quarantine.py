"""What was left out of a prepared folder, and why: every frame, and a count per kind of reason."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A frame of a pose, a scene (frame_id is None) or an archive (scene_id is empty) left out.

    A scene that could not be read goes by its folder's name.
    """

    archive: str
    scene_id: str
    pose: str
    """Empty where a whole scene or archive is left out."""
    frame_id: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReasonCount:
    """Everything that was left out for one kind of reason."""

    kind: str
    """Kind of file and finding, numbers replaced by N: `LIDAR: it has N bytes, but ...`."""
    num_frames: int
    """Frames; scenes and archives left out as a whole count in `num_whole` instead."""
    num_whole: int
    example: str
    """The first of the reasons, with its path and its way out."""


def count_reasons(
    left_out: Iterable[Quarantined], *, file_sources: Sequence[str]
) -> list[ReasonCount]:
    """Kinds of reasons, the most frequent first; `file_sources` as for `Dataset`."""
    groups: dict[str, list[Quarantined]] = {}
    for bad in left_out:
        groups.setdefault(_kind(bad.reason, file_sources), []).append(bad)
    counts = [
        ReasonCount(
            kind=kind,
            num_frames=sum(bad.frame_id is not None for bad in group),
            num_whole=sum(bad.frame_id is None for bad in group),
            example=group[0].reason,
        )
        for kind, group in groups.items()
    ]
    return sorted(counts, key=lambda count: (-count.num_frames - count.num_whole, count.kind))


def _kind(reason: str, file_sources: Sequence[str]) -> str:
    place, _, rest = reason.partition(": ")
    name = Path(place).name
    sources = [source for source in file_sources if name.startswith(source)]
    finding = _NUMBER.sub("N", rest.split("; ")[0])
    return f"{sources[0] if sources else 'scene'}: {finding}"
