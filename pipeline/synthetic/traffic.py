"""Cars and people of one scene, kept clear of the small objects and of the ego's path."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic import scenery
from pipeline.synthetic.ego_motion import Route
from pipeline.synthetic.occupancy import Claims
from pipeline.synthetic.primitives import Thing
from pipeline.synthetic.scenery import Builder
from pipeline.synthetic.sensors import FRAME_TIME_S
from pipeline.synthetic.town import Town

_KINDS: tuple[tuple[float, int, Builder], ...] = (
    (0.86, scenery.CAR, scenery.car),
    (0.96, scenery.TRUCK, scenery.truck),
    (1.0, scenery.BUS, scenery.bus),
)
_SLOT_M = 6.8
_PARKED_SHARE = 0.33
_PERSON_EVERY_M = 8.0


@dataclass(frozen=True, kw_only=True)
class Street:
    """A stretch of a street, in metres along it."""

    place: Callable[[float, float], tuple[float, float, float]]
    """World x, y, yaw of a point so far along the street and so far left of its centre line."""
    stretch: tuple[float, float]
    crossing: float
    """Where a street crosses it; others do every `period` metres."""
    period: float


def parked(rng: np.random.Generator, town: Town, street: Street, claims: Claims) -> list[Thing]:
    """Parked vehicles along both kerbs of a street, clear of its crossings."""
    things: list[Thing] = []
    edge = town.road_width / 2 - 1.15
    clear = town.road_width / 2 + 8.0
    for along in np.arange(*street.stretch, _SLOT_M):
        for side in (-1, 1):
            taken, draw, shift = rng.random(3)
            label, make = next((label, make) for share, label, make in _KINDS if draw <= share)
            half = street.period / 2
            offset = (along - street.crossing + half) % street.period - half
            if taken > _PARKED_SHARE or abs(offset) < clear:
                continue
            x, y, yaw = street.place(float(along + shift), side * edge)
            facing = yaw if side < 0 else yaw + math.pi
            thing = Thing(label=label, solids=make(rng), x=x, y=y, yaw=facing)
            if claims.is_free(np.array([[x, y]]), thing.radius * 0.9):
                claims.add(x, y, thing.radius * 0.8)
                things.append(thing)
    return things


def pedestrians(
    rng: np.random.Generator,
    town: Town,
    street: Street,
    frames: tuple[int, int],
    claims: Claims,
) -> list[Thing]:
    """People on both pavements, standing or walking; `frames` before and after the reference."""
    things: list[Thing] = []
    first, last = street.stretch
    for _ in range(round((last - first) / _PERSON_EVERY_M)):
        aside = town.road_width / 2 + rng.uniform(0.5, town.sidewalk_width - 0.5)
        x, y, yaw = street.place(
            float(rng.uniform(first, last)), float(rng.choice((-1, 1)) * aside)
        )
        yaw += math.pi * int(rng.integers(2))
        speed = 0.0 if rng.random() < 0.4 else float(rng.uniform(0.7, 1.5))
        person = scenery.pedestrian(rng)
        thing = Thing(label=scenery.PEDESTRIAN, solids=person, x=x, y=y, yaw=yaw, speed=speed)
        if claims.is_free(track(thing, frames), 0.6):
            things.append(thing)
    return things


def followers(
    rng: np.random.Generator, route: Route, s: NDArray[np.float64], claims: Claims
) -> list[Thing]:
    """A car behind the ego and one far ahead, which keep their distance and the ego's lane."""
    things: list[Thing] = []
    for chance, low, high in ((0.5, -22.0, -11.0), (0.35, 38.0, 60.0)):
        drawn, gap = rng.random(), float(rng.uniform(low, high))
        solids = scenery.car(rng)
        way = route.middle(np.linspace(s[0] + gap, s[-1] + gap, 4 * len(s)))[:, :2]
        if drawn < chance and claims.is_free(way, 2.0):
            x, y = way[0].tolist()
            things.append(Thing(label=scenery.CAR, solids=solids, x=x, y=y, follow_gap=gap))
    return things


def oncoming(
    rng: np.random.Generator, town: Town, route: Route, frames: tuple[int, int], claims: Claims
) -> list[Thing]:
    """Up to three cars in the opposite lane, each only if its whole way is free."""
    things: list[Thing] = []
    for _ in range(3):
        ahead, speed = float(rng.uniform(15.0, 80.0)), float(rng.uniform(6.0, 11.0))
        x, y, yaw = route.placed(np.array([[ahead, 2 * town.lane_offset, math.pi]]))[0].tolist()
        car = Thing(label=scenery.CAR, solids=scenery.car(rng), x=x, y=y, yaw=yaw, speed=speed)
        way = track(car, frames)
        if claims.is_free(way, 2.4):
            for spot in way[:: max(1, len(way) // 60)].tolist():
                claims.add(spot[0], spot[1], 2.4)
            things.append(car)
    return things


def track(thing: Thing, frames: tuple[int, int]) -> NDArray[np.float64]:
    """Places (N, 2) of a thing, `frames[0]` frames before the reference to `frames[1]` after."""
    steps = np.arange(-frames[0], frames[1] + 0.25, 0.5) * (FRAME_TIME_S * thing.speed)
    return np.stack(
        [thing.x + steps * math.cos(thing.yaw), thing.y + steps * math.sin(thing.yaw)], axis=1
    )
