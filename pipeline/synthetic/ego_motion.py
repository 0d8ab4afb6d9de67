"""The ego's drive: straight along its lane, in some scenes through an arc into a side street.

Everything is laid out from the reference frame of the recording (s = 0), because that is where
small objects are placed from; frames before it run backwards from there.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.sensors import FRAME_TIME_S

TURN_SPEED = 6.0
DECELERATION = 2.5


@dataclass(frozen=True, kw_only=True)
class Route:
    """Middle of the ego's lane as a function of s in metres; world frame, right-handed."""

    x: float
    y: float
    yaw: float
    """Pose at s = 0, on the straight before the turn."""
    turn: int
    """+1 left, -1 right, 0 straight on."""
    arc_start: float
    radius: float
    sway: float
    """How far the ego sways to either side of the lane's middle, in metres."""
    sway_length: float
    sway_phase: float

    @property
    def arc_end(self) -> float:
        """s at which the ego is in the side street; infinite for a straight route."""
        return self.arc_start + self.radius * math.pi / 2 if self.turn else math.inf

    def middle(self, s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lane poses (N, 3) as x, y, yaw at s (N,)."""
        if not self.turn:
            return self.placed(np.stack([s, 0 * s, 0 * s], axis=1))
        angle = np.clip((s - self.arc_start) / self.radius, 0.0, math.pi / 2)
        before, after = np.minimum(s, self.arc_start), np.maximum(s - self.arc_end, 0.0)
        x = before + self.radius * np.sin(angle)
        y = self.turn * (self.radius * (1 - np.cos(angle)) + after)
        return self.placed(np.stack([x, y, self.turn * angle], axis=1))

    def poses(self, s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ego poses (N, 3) as x, y, yaw at s (N,), swaying about the lane's middle."""
        poses = self.middle(s)
        phase = 2 * math.pi * s / self.sway_length + self.sway_phase
        aside = self.sway * np.sin(phase)
        poses[:, 0] -= aside * np.sin(poses[:, 2])
        poses[:, 1] += aside * np.cos(poses[:, 2])
        poses[:, 2] += np.arctan(self.sway * 2 * math.pi / self.sway_length * np.cos(phase))
        return poses

    def placed(self, local: NDArray[np.float64]) -> NDArray[np.float64]:
        """Poses (N, 3) from the frame of the pose at s = 0 to the world."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        x, y, yaw = local.T
        return np.stack(
            [self.x + cos * x - sin * y, self.y + sin * x + cos * y, self.yaw + yaw], axis=1
        )


@dataclass(frozen=True, kw_only=True)
class Drive:
    """How a scene is driven: s = 0 at frame `reference`, cruising at `speed` m/s."""

    num_frames: int
    reference: int
    speed: float


def travel(route: Route, drive: Drive) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """s (N,) in metres and speed (N,) in m/s of every frame of an ego that follows nobody."""
    reference, speed = drive.reference, drive.speed
    s = np.zeros(drive.num_frames)
    for k in range(reference + 1, drive.num_frames):
        s[k] = s[k - 1] + speed_at(route, s[k - 1], speed) * FRAME_TIME_S
    for k in range(reference - 1, -1, -1):
        s[k] = s[k + 1] - speed_at(route, s[k + 1], speed) * FRAME_TIME_S
    return s, np.array([speed_at(route, float(x), speed) for x in s])


def speed_at(route: Route, s: float, speed: float, *, behind: float = 0.0) -> float:
    """Cruising speed with a slight swing, slower around the arc, and until `behind` m beyond it."""
    cruise = speed * (1 + 0.04 * math.sin(s / 9.0 + route.sway_phase))
    if not route.turn:
        return cruise
    to_arc = max(route.arc_start - s, s - route.arc_end - behind, 0.0)
    return min(cruise, math.sqrt(TURN_SPEED**2 + 2 * DECELERATION * to_arc))
