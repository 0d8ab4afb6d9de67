"""What a frame is called and what is wrong with one."""

from typing import NamedTuple


class FrameError(ValueError):
    """A frame's file cannot be trusted; one sentence that names the file."""


class SceneError(ValueError):
    """One scene cannot be read; one sentence with the way out."""


class FrameKey(NamedTuple):
    """What a frame is called everywhere; sorts by archive, scene, then time."""

    archive: str
    scene_id: str
    frame_id: int
    pose: str
