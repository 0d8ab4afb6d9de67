"""Where a scene's ego drives and where its small objects lie.

An anomaly is one of the objects, chosen after the draw of their number and placed as they are: in
the road ahead or, in about a third of the static scenes, behind the corner of a side street. There
the ego's sensors cannot see it for all or part of the recording, while ordinary objects lie in view
as in any scene: these are the negative frames of static archives.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.ego_motion import Route
from pipeline.synthetic.occupancy import Claims
from pipeline.synthetic.plan import HIDDEN_PER_20, ScenePlan
from pipeline.synthetic.primitives import Thing
from pipeline.synthetic.props import SmallObject, draw_small_object
from pipeline.synthetic.town import Town

NEAR_M = (8.0, 26.0)
"""Small objects lie this far ahead of the ego at the reference frame."""
ASIDE_M = 5.0
"""And up to this far to either side of the ego's lane."""

_TOWN_HALF = 4
"""Drives start near one of 9 x 9 crossings, so that a town is met again, as CARLA's are."""

_TURN_SHARE = 0.7


@dataclass(frozen=True, kw_only=True)
class Corner:
    """The crossing ahead of the pose at s = 0."""

    route: Route
    ahead: float
    """Metres to the side street's centre line."""
    side: int
    """Of the side street: +1 left, -1 right."""
    left: float
    """From the ego's lane to the street's centre line."""
    period: tuple[float, float]
    """Distance between crossings along the ego's street and along the side street."""

    def main_place(self, along: float, left: float) -> tuple[float, float, float]:
        """World pose `along` the ego's street from s = 0 and `left` of its centre line."""
        return _pose(self.route, along, self.left + left, 0.0)

    def side_place(self, along: float, left: float) -> tuple[float, float, float]:
        """The same `along` the side street from the crossing."""
        yaw = self.side * math.pi / 2
        return _pose(self.route, self.ahead - self.side * left, self.left + self.side * along, yaw)


def _pose(route: Route, x: float, y: float, yaw: float) -> tuple[float, float, float]:
    px, py, pyaw = route.placed(np.array([[x, y, yaw]]))[0].tolist()
    return px, py, pyaw


def draw_corner(rng: np.random.Generator, town: Town, plan: ScenePlan) -> Corner:
    """A crossing of the town, the ego's approach to it, and whether the ego will turn there."""
    quarter = int(rng.integers(4))
    yaw, lane = quarter * math.pi / 2, town.lane_offset
    ahead = float(rng.uniform(22.0, 48.0))
    side = int(rng.choice((-1, 1)))
    visible_turns = (_TURN_SHARE - HIDDEN_PER_20 / 20) / (1 - HIDDEN_PER_20 / 20)
    chance = visible_turns if plan.kind == "static" else _TURN_SHARE
    turns = bool(rng.random() < chance) or plan.hidden
    i, j = rng.integers(-_TOWN_HALF, _TOWN_HALF + 1, 2)
    cos, sin = round(math.cos(yaw)), round(math.sin(yaw))
    radius = 9.0 if side > 0 else 5.0
    route = Route(
        x=float(i) * town.pitch[0] - cos * ahead + sin * lane,
        y=float(j) * town.pitch[1] - sin * ahead - cos * lane,
        yaw=yaw,
        turn=side if turns else 0,
        arc_start=ahead + side * lane - radius,
        radius=radius,
        sway=float(rng.uniform(0.05, 0.2)),
        sway_length=float(rng.uniform(25.0, 50.0)),
        sway_phase=float(rng.uniform(0, 2 * math.pi)),
    )
    px, py = town.pitch
    period = (px, py) if quarter % 2 == 0 else (py, px)
    return Corner(route=route, ahead=ahead, side=side, left=lane, period=period)


def place_small_objects(
    rng: np.random.Generator,
    town: Town,
    plan: ScenePlan,
    corner: Corner,
    swept: NDArray[np.float64],
    claims: Claims,
) -> list[tuple[Thing, SmallObject]]:
    """Objects in the road ahead and behind the corner; one of either group is the anomaly.

    `swept` (M, 2) is the middle of the ground that must stay free, 1.05 m to either side.
    """
    objects: list[tuple[Thing, SmallObject]] = []
    for is_far, number in ((False, rng.integers(3, 6)), (True, rng.integers(1, 3))):
        chosen = int(rng.integers(number)) if plan.anomaly and plan.hidden == is_far else -1
        for index in range(int(number)):
            kind = plan.anomaly if index == chosen else None
            drawn = draw_small_object(rng, kind)
            thing = Thing(label=drawn.label, solids=drawn.solids, x=0.0, y=0.0)
            placed = _find_place(rng, town, corner, thing, is_far, swept, claims)
            claims.add(placed.x, placed.y, placed.radius + 0.2)
            objects.append((placed, drawn))
    return objects


def _find_place(
    rng: np.random.Generator,
    town: Town,
    corner: Corner,
    thing: Thing,
    is_far: bool,
    swept: NDArray[np.float64],
    claims: Claims,
) -> Thing:
    """The thing at a drawn place that neither the ego's way nor another small object takes."""
    draw = _far_place if is_far else _near_place
    for _ in range(500):
        x, y, yaw = draw(rng, town, corner)
        place = np.array([[x, y]])
        in_the_way = np.hypot(*(swept - place).T).min() < thing.radius + 1.05
        if not in_the_way and claims.is_free(place, thing.radius):
            return replace(thing, x=x, y=y, yaw=yaw)
    raise AssertionError("no free place among 500 draws; the stretch is too full")


def _near_place(rng: np.random.Generator, town: Town, corner: Corner) -> tuple[float, float, float]:
    ahead = NEAR_M[0] + (NEAR_M[1] - NEAR_M[0]) * rng.random() ** 1.4
    aside = rng.uniform(-ASIDE_M, ASIDE_M)
    return _pose(corner.route, ahead, aside, float(rng.uniform(0, 2 * math.pi)))


def _far_place(rng: np.random.Generator, town: Town, corner: Corner) -> tuple[float, float, float]:
    """In the side street, beyond what the ego sees past the corner house 4 m after s = 0."""
    aside = rng.uniform(-ASIDE_M, ASIDE_M)
    edge = town.front + 1.5
    ahead = corner.ahead - 4.0
    first = (edge + corner.left) * (ahead + corner.left + 6.0) / (ahead - edge) - corner.left
    along = first + rng.uniform(0.0, 20.0)
    lane = -town.lane_offset
    x, y, _ = corner.side_place(along, lane + aside)
    return x, y, float(rng.uniform(0, 2 * math.pi))


def swept_ground(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (M, 2) along the middle of the ground that the ego's body passes over."""
    x, y, yaw = poses.T
    ahead = np.linspace(-2.4, 2.4, 7)[:, None]
    places = np.stack([x + ahead * np.cos(yaw), y + ahead * np.sin(yaw)], axis=-1)
    return places.reshape(-1, 2)
