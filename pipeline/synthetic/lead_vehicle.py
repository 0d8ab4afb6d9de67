"""The car ahead that the ego follows: it brakes fully in dynamic scenes, gently in normal ones.

The ego follows as in Newell's car-following model (2002): it does what the car ahead did a moment
before, a fixed distance further back. The two never touch, the ego brakes in its turn, and the gap
between the bumpers is about 5 m at the town's speeds.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic import scenery
from pipeline.synthetic.ego_motion import Drive, Route, speed_at
from pipeline.synthetic.placement import swept_ground
from pipeline.synthetic.plan import ScenePlan
from pipeline.synthetic.primitives import Thing
from pipeline.synthetic.sensors import FRAME_TIME_S

REACTION_FRAMES = 3
SUDDEN_MPS2 = (7.0, 9.0)
GENTLE_MPS2 = (1.5, 3.0)
_PICK_UP_MPS2 = 2.5
_EGO_FRONT_M = 2.45
_STANDING_GAP_M = (2.0, 3.0)
_TRUCK_SHARE = 0.2
_BLUEPRINTS = {
    scenery.CAR: ("vehicle.audi.tt", "vehicle.tesla.model3", "vehicle.toyota.prius"),
    scenery.TRUCK: ("vehicle.carlamotors.carlacola", "vehicle.carlamotors.firetruck"),
}


@dataclass(frozen=True, kw_only=True)
class Braking:
    """One braking: speed falls from the frame after `start` to frame `end`, then rises again."""

    start: int
    end: int
    deceleration: float
    """In m/s2."""
    low_share: float
    """Of its speed at the start, below which it does not brake; 0 = it comes to stand."""


@dataclass(frozen=True, kw_only=True)
class Lead:
    """The car ahead, its braking, and both cars' way along the ego's route."""

    thing: Thing
    blueprint: str
    braking: Braking
    s: NDArray[np.float64]
    """Of the car ahead, in metres along the ego's route (N,)."""
    speed: NDArray[np.float64]
    """(N,) in m/s."""
    acceleration: NDArray[np.float64]
    """(N,) in m/s2, of the tenth of a second that ends at the frame."""
    poses: NDArray[np.float64]
    """World x, y, yaw (N, 3)."""
    ego_s: NDArray[np.float64]
    ego_speed: NDArray[np.float64]
    reference: int
    """Frame in which the ego is at s = 0, not after the braking starts: the way before that frame
    is worked out backwards from cruising."""

    def swept(self) -> NDArray[np.float64]:
        """Points (M, 2) of the ground it drives over, a truck's length and width included."""
        sides = []
        cos, sin = np.cos(self.poses[:, 2]), np.sin(self.poses[:, 2])
        for ahead, left in itertools.product((-1.7, 1.7), (-0.3, 0.3)):
            poses = self.poses.copy()
            poses[:, 0] += ahead * cos - left * sin
            poses[:, 1] += ahead * sin + left * cos
            sides.append(swept_ground(poses))
        return np.concatenate(sides)


def sudden_window(num_frames: int) -> tuple[int, int]:
    """First and last frame that count as anomalous: 124 and 154 of AnoVox's 200.

    The window begins at 62 % and lasts 31 frames, or three tenths of a short recording. It begins
    one frame before the car slows down, as AnoVox's does.
    """
    first = round(0.62 * num_frames)
    return first, first + min(31, round(0.3 * num_frames)) - 1


def top_speed(num_frames: int) -> float:
    """Cruising speed in m/s from which full braking ends before the window does."""
    first, last = sudden_window(num_frames)
    return SUDDEN_MPS2[0] * (last - first - 1) * FRAME_TIME_S


def draw_braking(
    rng: np.random.Generator, how: Literal["gentle", "sudden"], num_frames: int
) -> Braking:
    """The braking of a scene; a gentle one comes at any time and half of them end standing."""
    if how == "sudden":
        first, last = sudden_window(num_frames)
        return Braking(
            start=first, end=last, deceleration=float(rng.uniform(*SUDDEN_MPS2)), low_share=0.0
        )
    start = round(rng.uniform(0.3, 0.6) * num_frames)
    stands = bool(rng.random() < 0.5)
    return Braking(
        start=start,
        end=start + max(3, round(rng.uniform(0.2, 0.35) * num_frames)),
        deceleration=float(rng.uniform(*GENTLE_MPS2)),
        low_share=0.0 if stands else float(rng.uniform(0.3, 0.6)),
    )


def build_lead(seed: int, plan: ScenePlan, route: Route, drive: Drive) -> Lead:
    """The scene's car ahead, random by the seed and the plan alone."""
    assert plan.lead != "none"
    rng = np.random.default_rng([seed, 8, plan.number])
    label = scenery.TRUCK if rng.random() < _TRUCK_SHARE else scenery.CAR
    solids = (scenery.truck if label == scenery.TRUCK else scenery.car)(rng)
    blueprint = str(rng.choice(_BLUEPRINTS[label]))
    back = max(solid.half_x - solid.x for solid in solids)
    spacing = back + _EGO_FRONT_M + float(rng.uniform(*_STANDING_GAP_M))
    num_frames = drive.num_frames
    braking = draw_braking(rng, plan.lead, num_frames)
    drive = replace(
        drive,
        reference=min(drive.reference, braking.start),
        speed=min(drive.speed, top_speed(num_frames)),
    )
    s, v = _follow_route(route, drive, braking, spacing)
    late = slice(REACTION_FRAMES, None)
    poses = route.middle(s[late])
    x, y, yaw = poses[0].tolist()
    return Lead(
        thing=Thing(label=label, solids=solids, x=x, y=y, yaw=yaw),
        blueprint=blueprint,
        braking=braking,
        s=s[late],
        speed=v[late],
        acceleration=np.diff(v)[REACTION_FRAMES - 1 :] / FRAME_TIME_S,
        poses=poses,
        ego_s=s[:num_frames] - spacing,
        ego_speed=v[:num_frames],
        reference=drive.reference,
    )


def _follow_route(
    route: Route, drive: Drive, braking: Braking, spacing: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """s and speed of the car ahead from `REACTION_FRAMES` frames before the first frame on.

    Entry i is frame i - REACTION_FRAMES of the car ahead and, less the spacing, frame i of the ego.
    """
    reference, cruise = drive.reference, drive.speed
    s, v = np.empty((2, drive.num_frames + REACTION_FRAMES))
    s[reference], v[reference] = spacing, speed_at(route, spacing, cruise, behind=spacing)
    for i in range(reference - 1, -1, -1):
        v[i] = speed_at(route, s[i + 1], cruise, behind=spacing)
        s[i] = s[i + 1] - v[i] * FRAME_TIME_S
    for i in range(reference, len(s) - 1):
        v[i + 1] = v[i] + _PICK_UP_MPS2 * FRAME_TIME_S
        if braking.start <= i - REACTION_FRAMES < braking.end:
            low = braking.low_share * v[braking.start + REACTION_FRAMES]
            v[i + 1] = max(low, v[i] - braking.deceleration * FRAME_TIME_S)
        v[i + 1] = min(v[i + 1], speed_at(route, s[i], cruise, behind=spacing))
        s[i + 1] = s[i] + (v[i] + v[i + 1]) / 2 * FRAME_TIME_S
    return s, v
