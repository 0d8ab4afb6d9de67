"""The vehicle ahead in a dynamic scene: its track, when it brakes, and where its body is.

Everything comes from the scene's ANOMALY files. The braking window is that of
docs/anovox-format.md ("When a frame is anomalous"): from the onset of a hard, sustained
deceleration until the vehicle drives on, at most 31 frames.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.anovox.annotations import Anomaly, read_anomaly
from pipeline.datasets.anovox.class_ids import AGENT_OFFSET, GENERIC_ANOMALY
from pipeline.datasets.anovox.frame import TICK_S
from pipeline.datasets.anovox.geometry import FLIP
from pipeline.datasets.anovox.scene import Scene
from pipeline.datasets.protocol.frames import FrameError
from pipeline.datasets.protocol.geometry import transform

ONSET_M_S2 = 4.0
ONSET_FRAMES = 3
MAX_WINDOW_FRAMES = 31
STANDING_M_S = 0.3
_RISE_M_S = 0.05  # per frame; a vehicle held by its brakes trembles by thousandths
_MOVING_M_S = 0.5

CAR, TRUCK, BUS = 14, 15, 16
_VEHICLES = (CAR, TRUCK, BUS)
_HALF_SIZE_M = {CAR: (3.2, 1.4)}
_LARGE_HALF_SIZE_M = (5.0, 1.7)
_HEIGHT_M = (-0.6, 4.5)
BRAKING, STANDING = "braking", "standing"


@dataclass(frozen=True, kw_only=True)
class LeadTrack:
    """Motion of the vehicle ahead in the frames whose ANOMALY file is readable, ascending."""

    frame_ids: NDArray[np.int64]
    """(N,)"""
    speed_m_s: NDArray[np.float64]
    """(N,), nan where the file does not say."""
    heading_rad: NDArray[np.float64]
    """(N,) in the right-handed world, as last seen moving; nan before that."""
    has_location: bool
    """Whether every file says where the vehicle is."""


@dataclass(frozen=True, kw_only=True)
class BrakingWindow:
    """Frame ids, inclusive, in which the vehicle ahead brakes and then stands."""

    first: int
    standing: int | None
    """First frame at rest; None if it never came to rest."""
    last: int

    def phase(self, frame_id: int) -> str:
        """`braking`, `standing`, or empty outside the window."""
        if not self.first <= frame_id <= self.last:
            return ""
        return STANDING if self.standing is not None and frame_id >= self.standing else BRAKING


def read_track(scene: Scene) -> LeadTrack:
    """The track of a dynamic scene; frames with a damaged ANOMALY file are left out of it."""
    seen: dict[int, Anomaly] = {}
    for frame_id in scene.frame_ids:
        try:
            seen[frame_id] = read_anomaly(
                scene.file("anomaly", frame_id),
                scene_id=scene.scene_id,
                frame_id=frame_id,
                kind=scene.kind,
            )
        except FrameError:
            continue  # reading the frame itself will say so
    speeds = [math.nan if a.speed_m_s is None else a.speed_m_s for a in seen.values()]
    return LeadTrack(
        frame_ids=np.array(list(seen), np.int64),
        speed_m_s=np.array(speeds, np.float64),
        heading_rad=_headings(list(seen.values())),
        has_location=all(anomaly.location is not None for anomaly in seen.values()),
    )


def braking_window(track: LeadTrack) -> BrakingWindow | None:
    """The first hard braking of the track, or None if there is none.

    Onset is the first of `ONSET_FRAMES` frames in a row that each lose more than `ONSET_M_S2`; the
    window ends before the speed rises again, and after `MAX_WINDOW_FRAMES` frames.
    """
    ids, speed = track.frame_ids, track.speed_m_s
    before = braking_onset(speed, np.diff(ids) * TICK_S)
    if before is None:
        return None
    onset = before + 1
    rises = np.flatnonzero(np.diff(speed)[onset:] > _RISE_M_S)
    end = onset + int(rises[0]) if len(rises) else len(ids) - 1
    inside = ids[onset : end + 1]
    inside = inside[inside < ids[onset] + MAX_WINDOW_FRAMES]
    at_rest = inside[speed[onset : onset + len(inside)] < STANDING_M_S]
    return BrakingWindow(
        first=int(inside[0]),
        standing=int(at_rest[0]) if len(at_rest) else None,
        last=int(inside[-1]),
    )


def braking_onset(
    speed_m_s: NDArray[np.float64], seconds: NDArray[np.float64] | float = TICK_S
) -> int | None:
    """Index of the last frame (N,) before the first hard braking; None if there is none.

    `seconds` lie between the frames (N - 1,). Hard: slower by more than `ONSET_M_S2` over each of
    `ONSET_FRAMES` frames in a row (docs/anovox-format.md, "When a frame is anomalous").
    """
    is_hard = -np.diff(speed_m_s) / seconds > ONSET_M_S2
    if len(is_hard) < ONSET_FRAMES:
        return None
    runs = np.lib.stride_tricks.sliding_window_view(is_hard, ONSET_FRAMES).all(axis=1)
    return int(runs.argmax()) if runs.any() else None


def lead_classes(anomaly: Anomaly) -> frozenset[int]:
    """Class ids that the vehicle may have: native, steered by an agent, or the generic anomaly."""
    native = [tag for tag in anomaly.tags if tag < AGENT_OFFSET] or list(_VEHICLES)
    return frozenset({GENERIC_ANOMALY, *native, *(tag + AGENT_OFFSET for tag in native)})


def in_body(
    points: NDArray[np.floating],
    anomaly: Anomaly,
    *,
    heading_rad: float,
    world_from_lidar: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """True (P,) for points (P, >=3) in the LiDAR frame inside a box that holds the vehicle.

    The box is generous, so its content must be filtered by class; with an unknown heading it is
    square. The anomaly must have a location.
    """
    assert anomaly.location is not None
    length, width = _half_size_m(anomaly)
    if math.isnan(heading_rad):
        heading_rad, width = 0.0, length
    x, y, z = (FLIP @ [*anomaly.location, 1.0])[:3]
    offset = transform(points, world_from_lidar) - [x, y, z]
    cos, sin = math.cos(heading_rad), math.sin(heading_rad)
    along, across = offset[:, 0] * cos + offset[:, 1] * sin, offset[:, 1] * cos - offset[:, 0] * sin
    low, high = _HEIGHT_M
    is_at_height = (offset[:, 2] > low) & (offset[:, 2] < high)
    return is_at_height & (np.abs(along) < length) & (np.abs(across) < width)


def _half_size_m(anomaly: Anomaly) -> tuple[float, float]:
    native: Collection[int] = [tag for tag in anomaly.tags if tag < AGENT_OFFSET]
    sizes = [_HALF_SIZE_M.get(tag, _LARGE_HALF_SIZE_M) for tag in native]
    return max(sizes) if sizes else _LARGE_HALF_SIZE_M


def _headings(anomalies: list[Anomaly]) -> NDArray[np.float64]:
    headings = np.full(len(anomalies), math.nan)
    heading = math.nan
    for i, anomaly in enumerate(anomalies):
        if anomaly.velocity is not None and (anomaly.speed_m_s or 0.0) > _MOVING_M_S:
            vx, vy, _ = anomaly.velocity
            heading = math.atan2(-vy, vx)
        headings[i] = heading
    return headings
