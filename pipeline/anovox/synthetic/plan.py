"""The deal: which town, kind and anomaly each scene gets, before anything is drawn in it.

Dealt from decks, so that small data sets too have every category, every cue and their share of
hidden anomalies.
"""

import uuid
from dataclasses import dataclass

import numpy as np

from pipeline.anovox.synthetic.clutter import AnomalyType, deal_anomaly_types
from pipeline.config import SyntheticConfig

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
