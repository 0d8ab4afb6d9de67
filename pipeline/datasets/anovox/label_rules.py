"""By which rule a scene's labels are made, decided once per scene before any frame is labelled.

Normality and static scenes are labelled by class ids. In a dynamic scene the braking vehicle has
id 100 in its window if the archive was relabelled; otherwise its own motion says when, and its
location says where. There is no silent third way: a guessed window must be asked for, and frames
labelled by it are ignored in training and metrics.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pipeline.datasets.anovox.class_ids import GENERIC_ANOMALY
from pipeline.datasets.anovox.frame import read_frame
from pipeline.datasets.anovox.lead_vehicle import (
    BrakingWindow,
    LeadTrack,
    braking_window,
    read_track,
)
from pipeline.datasets.anovox.scene import Scene
from pipeline.datasets.protocol.frames import FrameError, SceneError

logger = logging.getLogger(__name__)

IDS, KINEMATICS, WINDOW_GUESS = "ids", "kinematics", "window_guess"
GUESSED_INDICES = (124, 154)
"""Frame indices of the window in the published generator."""


@dataclass(frozen=True, kw_only=True)
class SceneRule:
    """How the frames of one scene are labelled."""

    label_rule: str
    """`ids`, `kinematics` or `window_guess`."""
    window: BrakingWindow | None
    """When the vehicle ahead brakes; None if it never does, and in scenes without one."""
    headings: Mapping[int, float]
    """Heading of the vehicle ahead in radians, right-handed world, by frame id; {} without one."""

    @property
    def window_ids(self) -> list[int | None]:
        """First braking, first standing and last frame id of the window; [] without one."""
        window = self.window
        return [window.first, window.standing, window.last] if window else []

    @property
    def has_lead(self) -> bool:
        """Whether a vehicle ahead is followed: in dynamic scenes."""
        return bool(self.headings)


BY_IDS = SceneRule(label_rule=IDS, window=None, headings={})


def find_rule(scene: Scene, *, allow_guess: bool) -> SceneRule:
    """The rule of a scene; for a dynamic one its ANOMALY files and a few label files are read.

    Raises SceneError for a dynamic scene that no rule can label.
    """
    if scene.kind != "dynamic":
        return BY_IDS
    track = read_track(scene)
    if len(track.frame_ids) == 0:
        raise SceneError(f"{scene.path}: no ANOMALY file in it is readable; re-extract the archive")
    window = braking_window(track)
    headings = dict(zip(track.frame_ids.tolist(), track.heading_rad.tolist(), strict=True))
    rule = SceneRule(label_rule=IDS, window=window, headings=headings)
    if _shows_generic_id(scene, window):
        # Ids are set with the brake command, a frame before the vehicle slows down.
        return rule if window is None else replace(rule, window=_from_command(window))
    if track.has_location and not np.isnan(track.speed_m_s).any():
        return replace(rule, label_rule=KINEMATICS)
    return _guess(scene, track, rule, allow_guess)


def _guess(scene: Scene, track: LeadTrack, rule: SceneRule, allow_guess: bool) -> SceneRule:
    lacking = "location" if not track.has_location else "speed"
    if not allow_guess:
        raise SceneError(
            f"{scene.path}: no frame shows class {GENERIC_ANOMALY} and ANOMALY gives no {lacking}, "
            "so nothing says when and where the vehicle ahead brakes; leave the scene out, or set "
            "prepare.window_guess=true to keep its frames without labels"
        )
    first, last = (scene.first_frame_id + index for index in GUESSED_INDICES)
    window = BrakingWindow(first=first, standing=None, last=last)
    return replace(rule, label_rule=WINDOW_GUESS, window=window)


def _from_command(window: BrakingWindow) -> BrakingWindow:
    return replace(window, first=window.first - 1)


def _shows_generic_id(scene: Scene, window: BrakingWindow | None) -> bool:
    """Whether class 100 occurs; where the vehicle brakes visibly, that is where it must."""
    return any(_frame_shows_generic_id(scene, frame_id) for frame_id in _suspects(scene, window))


def _suspects(scene: Scene, window: BrakingWindow | None) -> Iterator[int]:
    """Frames of the window, or all of a scene without one, the likeliest first."""
    if window is not None:
        yield from (f for f in scene.frame_ids if window.first <= f <= window.last)
        return
    first, last = (scene.first_frame_id + index for index in GUESSED_INDICES)
    yield from sorted(scene.frame_ids, key=lambda f: not first <= f <= last)


def _frame_shows_generic_id(scene: Scene, frame_id: int) -> bool:
    try:
        frame = read_frame(scene, frame_id, modalities=("semantic", "semantic_lidar"))
    except FrameError:
        return False  # the frame goes into quarantine when its turn comes
    arrays = (frame.point_class, frame.semantic)
    return any(bool((ids == GENERIC_ANOMALY).any()) for ids in arrays)
