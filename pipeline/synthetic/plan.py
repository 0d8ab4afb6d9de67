"""The deal: which town, kind and anomaly each scene gets, before anything is drawn in it.

Dealt from decks, so that small data sets too have every category, every cue and their share of
hidden anomalies.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.config.data import SyntheticConfig
from pipeline.synthetic.props import AnomalyType, deal_anomaly_types

HIDDEN_PER_20 = 7
"""Static scenes of 20 whose anomaly lies behind a corner."""


@dataclass(frozen=True, kw_only=True)
class ScenePlan:
    """What the deal decides about a scene before anything is drawn in it."""

    number: int
    scene_id: str
    kind: str
    town: str
    anomaly: AnomalyType | None
    hidden: bool
    lead: Literal["none", "gentle", "sudden"]
    """The car ahead that the ego follows: none, or how it brakes."""


def plan_scenes(config: SyntheticConfig) -> list[ScenePlan]:
    """Scenes dealt evenly over towns x kinds; anomaly types and hidden places dealt from decks."""
    places = [(kind, town) for town in config.towns for kind in config.kinds]
    placed = [places[number % len(places)] for number in range(config.num_scenes)]
    dealt = [kind for kind, _ in placed]
    num_static = dealt.count("static")
    rng = np.random.default_rng([config.seed, 1])
    types = iter(deal_anomaly_types(rng, num_static))
    hidden = iter(_deal_hidden(rng, num_static))
    gentle = iter(_deal_gentle(config, dealt.count("normality")))
    plans: list[ScenePlan] = []
    for number, (kind, town) in enumerate(placed):
        is_static = kind == "static"
        plans.append(
            ScenePlan(
                number=number,
                scene_id=str(uuid.UUID(bytes=rng.bytes(16), version=4)),
                kind=kind,
                town=town,
                anomaly=next(types) if is_static else None,
                hidden=next(hidden) if is_static else False,
                lead=_lead(kind, gentle),
            )
        )
    return plans


def _lead(kind: str, gentle: Iterator[bool]) -> Literal["none", "gentle", "sudden"]:
    if kind == "dynamic":
        return "sudden"
    return "gentle" if kind == "normality" and next(gentle) else "none"


def _deal_gentle(config: SyntheticConfig, number: int) -> list[bool]:
    """Every second normal scene beside dynamic ones, so that a car ahead tells nothing by itself.

    Drawn from a stream of its own: worlds without dynamic scenes do not change by it.
    """
    if "dynamic" not in config.kinds:
        return [False] * number
    rng = np.random.default_rng([config.seed, 7])
    return [bool(card) for _ in range(0, number, 2) for card in rng.permutation([True, False])]


def _deal_hidden(rng: np.random.Generator, number: int) -> list[bool]:
    deck = np.arange(20) < HIDDEN_PER_20
    dealt = [bool(card) for _ in range(0, number, len(deck)) for card in rng.permutation(deck)]
    return dealt[:number]
