"""One scene: which town and light, how the ego drives, and everything that stands or moves there.

Small objects are drawn first and everything else makes way for them. An anomaly is one of those
objects, chosen after the draw of their number, and placed as they are: in the road ahead, or (in
about a third of the static scenes) behind the corner of a side street, where the ego's sensors
cannot see it for all or part of the recording while ordinary objects lie in view as in any scene.
"""

import math
import uuid
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.anovox.synthetic import weather as weathers
from pipeline.anovox.synthetic.clutter import (
    AnomalyType,
    SmallObject,
    deal_anomaly_types,
    draw_small_object,
)
from pipeline.anovox.synthetic.drive import Route, travel
from pipeline.anovox.synthetic.scenery import BUILDING, ego_body
from pipeline.anovox.synthetic.sensors import FRAME_TIME_S
from pipeline.anovox.synthetic.solids import Solids, Thing, joined, moved, pack
from pipeline.anovox.synthetic.town import Town, build_town, things_near
from pipeline.anovox.synthetic.traffic import Claims, followers, oncoming, parked, pedestrians
from pipeline.anovox.synthetic.weather import Weather
from pipeline.config import SyntheticConfig

VIEW_M = 160.0
"""Blocks this far around the drive are built."""

NEAR_M = (8.0, 32.0)
"""Small objects lie this far ahead of the ego at the reference frame."""
ASIDE_M = 5.0
"""And up to this far to either side of the ego's lane."""

_TOWN_HALF = 4
"""Drives start near one of 9 x 9 crossings, so that a town is met again, as CARLA's are."""

TURN_SHARE = 0.7
HIDDEN_PER_20 = 7
"""Static scenes of 20 whose anomaly lies behind the corner; their ego always turns that way."""


@dataclass(frozen=True, kw_only=True)
class ScenePlan:
    """What the deal decides about a scene before anything is drawn in it."""

    number: int
    scene_id: str
    kind: str
    town: str
    anomaly: AnomalyType | None
    hidden: bool


@dataclass(frozen=True, kw_only=True)
class SceneWorld:
    """One scene in the right-handed world frame (metres, radians)."""

    plan: ScenePlan
    seed: int
    town: Town
    weather: Weather
    sun_azimuth: float
    route: Route
    s: NDArray[np.float64]
    speed: NDArray[np.float64]
    poses: NDArray[np.float64]
    """Ego poses (N, 3): x, y, yaw."""
    reference: int
    """Frame in which s = 0."""
    things: tuple[Thing, ...]
    anomaly: Thing | None
    anomaly_size: tuple[float, float, float] | None

    @property
    def num_frames(self) -> int:
        """Frames of the recording."""
        return len(self.s)

    @cached_property
    def _solids(self) -> Solids:
        return joined(pack(self.things), pack([ego_body()]), thing=len(self.things))

    @cached_property
    def class_ids(self) -> NDArray[np.uint8]:
        """Class id (T,) of every thing, the ego last."""
        return np.array([*(t.label for t in self.things), ego_body().label], np.uint8)

    def solids_at(self, frame: int) -> Solids:
        """All solids in the world at a frame, the ego's own body last; `thing` is their owner."""
        return moved(self._solids, self._thing_poses(frame))

    def _thing_poses(self, frame: int) -> NDArray[np.float64]:
        time = (frame - self.reference) * FRAME_TIME_S
        poses = np.empty((len(self.things) + 1, 3))
        for row, thing in enumerate(self.things):
            run = thing.speed * time
            x, y = thing.x + run * math.cos(thing.yaw), thing.y + run * math.sin(thing.yaw)
            poses[row] = x, y, thing.yaw
            if thing.follow_gap is not None:
                poses[row] = self.route.middle(self.s[frame : frame + 1] + thing.follow_gap)[0]
        poses[-1] = self.poses[frame]
        return poses


def plan_scenes(config: SyntheticConfig) -> list[ScenePlan]:
    """Scenes dealt evenly over towns x kinds; anomaly types and hidden places dealt from decks."""
    places = [(kind, town) for town in config.towns for kind in config.kinds]
    dealt = [places[number % len(places)] for number in range(config.num_scenes)]
    num_static = sum(kind == "static" for kind, _ in dealt)
    rng = np.random.default_rng([config.seed, 1])
    types = iter(deal_anomaly_types(rng, num_static))
    hidden = iter(_deal_hidden(rng, num_static))
    plans: list[ScenePlan] = []
    for number, (kind, town) in enumerate(dealt):
        is_static = kind == "static"
        plans.append(
            ScenePlan(
                number=number,
                scene_id=str(uuid.UUID(bytes=rng.bytes(16), version=4)),
                kind=kind,
                town=town,
                anomaly=next(types) if is_static else None,
                hidden=next(hidden) if is_static else False,
            )
        )
    return plans


def _deal_hidden(rng: np.random.Generator, number: int) -> list[bool]:
    deck = np.arange(20) < HIDDEN_PER_20
    dealt = [bool(card) for _ in range(0, number, len(deck)) for card in rng.permutation(deck)]
    return dealt[:number]


def build_scene(config: SyntheticConfig, plan: ScenePlan) -> SceneWorld:
    """Draw one scene; it depends on the seed and the plan alone, not on sensors or processes."""
    rng = np.random.default_rng([config.seed, 2, plan.number])
    town = build_town(plan.town, config.seed)
    light = weathers.weather(weathers.NAMES[rng.integers(len(weathers.NAMES))])
    sun_azimuth = float(rng.uniform(0, 2 * math.pi))
    corner = _draw_corner(rng, town, plan)
    reference = round(rng.uniform(0.35, 0.65) * (config.num_frames - 1))
    s, speed = travel(
        corner.route,
        num_frames=config.num_frames,
        reference=reference,
        speed=float(rng.uniform(8.0, 14.0)),
    )
    poses = corner.route.poses(s)
    claims = Claims()
    objects = _small_objects(rng, town, plan, corner, poses, claims)
    small = [thing for thing, _ in objects]
    furniture = [thing for thing in _town_things(town, poses) if _makes_way(thing, claims)]
    traffic = _traffic(rng, town, corner, s, reference, claims)
    anomaly = next(((t, o) for t, o in objects if isinstance(o.kind, AnomalyType)), None)
    return SceneWorld(
        plan=plan,
        seed=config.seed,
        town=town,
        weather=light,
        sun_azimuth=sun_azimuth,
        route=corner.route,
        s=s,
        speed=speed,
        poses=poses,
        reference=reference,
        things=(*furniture, *traffic, *small),
        anomaly=anomaly[0] if anomaly else None,
        anomaly_size=anomaly[1].size if anomaly else None,
    )


@dataclass(frozen=True, kw_only=True)
class _Corner:
    """The crossing ahead: `ahead` metres from the pose at s = 0; `side` is the street to look into."""

    route: Route
    ahead: float
    side: int
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


def _draw_corner(rng: np.random.Generator, town: Town, plan: ScenePlan) -> _Corner:
    """A crossing of the town, the ego's approach to it, and whether the ego will turn there."""
    quarter = int(rng.integers(4))
    yaw, lane = quarter * math.pi / 2, town.lane_offset
    ahead = float(rng.uniform(22.0, 48.0))
    side = int(rng.choice((-1, 1)))
    visible_turns = (TURN_SHARE - HIDDEN_PER_20 / 20) / (1 - HIDDEN_PER_20 / 20)
    chance = TURN_SHARE if plan.kind == "normality" else visible_turns
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
    period = town.pitch if quarter % 2 == 0 else town.pitch[::-1]
    return _Corner(route=route, ahead=ahead, side=side, left=lane, period=period)


def _small_objects(
    rng: np.random.Generator,
    town: Town,
    plan: ScenePlan,
    corner: _Corner,
    poses: NDArray[np.float64],
    claims: Claims,
) -> list[tuple[Thing, SmallObject]]:
    """Objects in the road ahead and behind the corner; one of either group is the anomaly."""
    swept = _swept(poses)
    objects: list[tuple[Thing, SmallObject]] = []
    for is_far, number in ((False, rng.integers(4, 7)), (True, rng.integers(1, 3))):
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
    corner: _Corner,
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


def _near_place(
    rng: np.random.Generator, town: Town, corner: _Corner
) -> tuple[float, float, float]:
    ahead = NEAR_M[0] + (NEAR_M[1] - NEAR_M[0]) * rng.random() ** 1.4
    aside = rng.uniform(-ASIDE_M, ASIDE_M)
    return _pose(corner.route, ahead, aside, float(rng.uniform(0, 2 * math.pi)))


def _far_place(rng: np.random.Generator, town: Town, corner: _Corner) -> tuple[float, float, float]:
    """In the side street, beyond what the ego sees past the corner house 4 m after s = 0."""
    aside = rng.uniform(-ASIDE_M, ASIDE_M)
    edge = town.front + 1.5
    ahead = corner.ahead - 4.0
    first = (edge + corner.left) * (ahead + corner.left + 6.0) / (ahead - edge) - corner.left
    along = first + rng.uniform(0.0, 20.0)
    lane = -town.lane_offset
    x, y, _ = corner.side_place(along, lane + aside)
    return x, y, float(rng.uniform(0, 2 * math.pi))


def _swept(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (M, 2) along the middle of the ground that the ego's body passes over."""
    x, y, yaw = poses.T
    ahead = np.linspace(-2.4, 2.4, 7)[:, None]
    places = np.stack([x + ahead * np.cos(yaw), y + ahead * np.sin(yaw)], axis=-1)
    return places.reshape(-1, 2)


def _town_things(town: Town, poses: NDArray[np.float64]) -> list[Thing]:
    low, high = poses[:, :2].min(0) - VIEW_M, poses[:, :2].max(0) + VIEW_M
    return things_near(town, (low[0], low[1]), (high[0], high[1]))


def _makes_way(thing: Thing, claims: Claims) -> bool:
    """Houses stay; a tree or a mast goes if its foot would stand in a small object."""
    foot = thing.solids[0]
    reach = math.hypot(foot.half_x, foot.half_y) if thing.label != BUILDING else 0.0
    return thing.label == BUILDING or claims.is_free(np.array([[thing.x, thing.y]]), reach)


def _traffic(
    rng: np.random.Generator,
    town: Town,
    corner: _Corner,
    s: NDArray[np.float64],
    reference: int,
    claims: Claims,
) -> list[Thing]:
    """Moving and parked cars and people along the ego's street and the side street."""
    route = corner.route
    in_lane = followers(rng, route, s, claims)
    for x, y in _swept(route.poses(np.arange(s[0], s[-1] + 1.0))).tolist():
        claims.add(x, y, 1.2)
    frames = (reference, len(s) - 1 - reference)
    main = (s[0] - 40.0, min(s[-1], corner.ahead if route.turn else s[-1]) + 90.0)
    beyond = max(0.0, s[-1] - route.arc_end) if route.turn else 0.0
    side = (-60.0, 70.0 + beyond)
    street, cross = corner.period
    return [
        *in_lane,
        *oncoming(rng, town, route, frames, claims),
        *parked(rng, town, corner.main_place, main, street, corner.ahead, claims),
        *parked(rng, town, corner.side_place, side, cross, 0.0, claims),
        *pedestrians(rng, town, corner.main_place, main, frames, claims),
        *pedestrians(rng, town, corner.side_place, side, frames, claims),
    ]
