"""One scene: town, light, the ego's drive, and everything that stands or moves there.

Small objects are drawn first and everything else makes way for them.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.config.data import SyntheticConfig
from pipeline.synthetic.ego_motion import Drive, Route, travel
from pipeline.synthetic.lead_vehicle import Lead, build_lead, sudden_window
from pipeline.synthetic.occupancy import Claims
from pipeline.synthetic.placement import (
    Corner,
    draw_corner,
    place_small_objects,
    swept_ground,
)
from pipeline.synthetic.plan import ScenePlan
from pipeline.synthetic.primitives import Solids, Thing, join_solids, moved, pack
from pipeline.synthetic.props import AnomalyType
from pipeline.synthetic.scenery import BUILDING, ego_body
from pipeline.synthetic.sensors import FRAME_TIME_S
from pipeline.synthetic.town import Town, build_town, things_near
from pipeline.synthetic.traffic import Street, followers, oncoming, parked, pedestrians
from pipeline.synthetic.weather import WEATHER_NAMES, Weather, preset

SUDDEN_BRAKING, AGENT_CAR = 100, 114
"""Ids of the car ahead inside and outside the window of its braking."""

VIEW_M = 160.0
"""Blocks this far around the drive are built."""


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
    lead: Lead | None
    """The car ahead; its thing is the last of `things`."""
    relabels_lead: bool
    """Whether the car ahead has AnoVox's ids of a dynamic anomaly instead of its own class."""

    @property
    def num_frames(self) -> int:
        """Frames of the recording."""
        return len(self.s)

    @cached_property
    def _solids(self) -> Solids:
        return join_solids(pack(self.things), pack([ego_body()]), thing=len(self.things))

    def class_ids(self, frame: int) -> NDArray[np.uint8]:
        """Class id (T + 1,) of every thing at a frame, the ego last."""
        ids = np.array([*(t.label for t in self.things), ego_body().label], np.uint8)
        if self.lead and self.relabels_lead:
            first, last = sudden_window(self.num_frames)
            ids[-2] = SUDDEN_BRAKING if first <= frame <= last else AGENT_CAR
        return ids

    @property
    def stands(self) -> NDArray[np.bool_]:
        """Whether each thing (T + 1,) stays where it is, the ego last."""
        stands = [thing.speed == 0 and thing.follow_gap is None for thing in self.things]
        if self.lead:
            stands[-1] = False
        return np.array([*stands, False])

    def solids_at(self, frame: int) -> Solids:
        """All solids in the world at a frame, the ego's own body last; `thing` is their owner."""
        return moved(self._solids, self._thing_poses(frame))

    def _thing_poses(self, frame: int) -> NDArray[np.float64]:
        """Poses (T + 1, 3) of all things at a frame, the ego last."""
        poses = np.vstack([self._start, self.poses[frame]])
        poses[:-1, :2] += self._velocity * ((frame - self.reference) * FRAME_TIME_S)
        for row, gap in self._followers:
            poses[row] = self.route.middle(self.s[frame : frame + 1] + gap)[0]
        if self.lead:
            poses[-2] = self.lead.poses[frame]
        return poses

    @cached_property
    def _start(self) -> NDArray[np.float64]:
        return np.array([(t.x, t.y, t.yaw) for t in self.things])

    @cached_property
    def _velocity(self) -> NDArray[np.float64]:
        speed, yaw = np.array([t.speed for t in self.things]), self._start[:, 2]
        return np.stack([speed * np.cos(yaw), speed * np.sin(yaw)], axis=1)

    @cached_property
    def _followers(self) -> list[tuple[int, float]]:
        gaps = ((row, thing.follow_gap) for row, thing in enumerate(self.things))
        return [(row, gap) for row, gap in gaps if gap is not None]


def build_scene(config: SyntheticConfig, plan: ScenePlan) -> SceneWorld:
    """Draw one scene; it depends on the seed and the plan alone, not on sensors or processes."""
    rng = np.random.default_rng([config.seed, 2, plan.number])
    town = build_town(plan.town, config.seed)
    weather = preset(WEATHER_NAMES[rng.integers(len(WEATHER_NAMES))], rich=config.rich_weather)
    sun_azimuth = float(rng.uniform(0, 2 * math.pi))
    corner = draw_corner(rng, town, plan)
    reference = round(rng.uniform(0.35, 0.65) * (config.num_frames - 1))
    drive = Drive(num_frames=config.num_frames, reference=reference, speed=rng.uniform(8.0, 14.0))
    if plan.lead == "none":
        lead = None
        s, speed = travel(corner.route, drive)
    else:
        lead = build_lead(config.seed, plan, corner.route, drive)
        s, speed = lead.ego_s, lead.ego_speed
        reference = lead.reference
    poses = corner.route.poses(s)
    swept = np.concatenate([swept_ground(poses), *([lead.swept()] if lead else [])])
    claims = Claims()
    objects = place_small_objects(rng, town, plan, corner, swept, claims)
    small = [thing for thing, _ in objects]
    furniture = [thing for thing in _town_things(town, poses) if _makes_way(thing, claims)]
    traffic = _traffic(rng, town, corner, s, reference, claims, lead)
    anomaly = next(((t, o) for t, o in objects if isinstance(o.kind, AnomalyType)), None)
    return SceneWorld(
        plan=plan,
        seed=config.seed,
        town=town,
        weather=weather,
        sun_azimuth=sun_azimuth,
        route=corner.route,
        s=s,
        speed=speed,
        poses=poses,
        reference=reference,
        things=(*furniture, *traffic, *small, *([lead.thing] if lead else [])),
        anomaly=anomaly[0] if anomaly else None,
        anomaly_size=anomaly[1].size if anomaly else None,
        lead=lead,
        relabels_lead=plan.kind == "dynamic" and config.dynamic_labels == "ids",
    )


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
    corner: Corner,
    s: NDArray[np.float64],
    reference: int,
    claims: Claims,
    lead: Lead | None,
) -> list[Thing]:
    """Moving and parked cars and people along the ego's street and the side street."""
    route = corner.route
    in_lane = followers(rng, route, s, claims)
    if lead:
        in_lane = [thing for thing in in_lane if (thing.follow_gap or 0.0) < 0]
    end = lead.s[-1] + 5.0 if lead else s[-1] + 1.0
    for x, y in swept_ground(route.poses(np.arange(s[0], end))).tolist():
        claims.add(x, y, 1.2)
    frames = (reference, len(s) - 1 - reference)
    along, across = corner.period
    end = min(s[-1], corner.ahead) if route.turn else s[-1]
    main = Street(
        place=corner.main_place,
        stretch=(float(s[0]) - 40.0, float(end) + 90.0),
        crossing=corner.ahead,
        period=along,
    )
    side = Street(
        place=corner.side_place,
        stretch=(-60.0, 70.0 + max(0.0, float(s[-1]) - route.arc_end)),
        crossing=0.0,
        period=across,
    )
    return [
        *in_lane,
        *oncoming(rng, town, route, frames, claims),
        *parked(rng, town, main, claims),
        *parked(rng, town, side, claims),
        *pedestrians(rng, town, main, frames, claims),
        *pedestrians(rng, town, side, frames, claims),
    ]
