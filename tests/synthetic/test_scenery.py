from collections.abc import Callable

import numpy as np
import pytest

from pipeline.synthetic import scenery
from pipeline.synthetic.primitives import CONE, Solid

BUILDERS: dict[str, tuple[Callable[[np.random.Generator], tuple[Solid, ...]], float, float]] = {
    "car": (scenery.car, 1.4, 1.65),
    "truck": (scenery.truck, 2.7, 3.4),
    "bus": (scenery.bus, 2.9, 3.0),
    "pedestrian": (scenery.pedestrian, 1.5, 1.95),
    "bicycle": (scenery.bicycle, 0.9, 1.2),
    "leaf tree": (scenery.leaf_tree, 4.0, 8.0),
    "conifer": (scenery.conifer, 4.0, 10.0),
    "bush": (scenery.bush, 0.6, 1.4),
    "street lamp": (scenery.street_lamp, 6.0, 6.6),
    "bench": (scenery.bench, 0.8, 1.0),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_things_stand_on_the_ground_at_plausible_heights(name: str) -> None:
    build, low, high = BUILDERS[name]
    for seed in range(20):
        solids = build(np.random.default_rng(seed))
        assert 0 <= min(solid.bottom for solid in solids) < 0.2
        assert low <= max(solid.top for solid in solids) <= high
        for solid in solids:
            assert solid.top > solid.bottom
            assert min(solid.half_x, solid.half_y) > 0
            assert all(0 <= channel <= 1 for channel in (*solid.colour, *solid.second)), name
            if solid.kind == CONE:
                assert solid.top - solid.bottom > max(solid.half_x, solid.half_y)


def test_a_house_fills_its_lot() -> None:
    solids = scenery.building((20.0, 15.0, 12.0), (0.5, 0.5, 0.5), np.random.default_rng(0))
    assert max(solid.half_x for solid in solids) == 10.0
    assert max(solid.half_y for solid in solids) == 7.5
    assert max(solid.top for solid in solids) == 12.0


def test_the_ego_s_body_stays_below_the_sensors_and_inside_the_default_ego_box() -> None:
    for solid in scenery.ego_body().solids:
        assert solid.top < 1.0
        assert abs(solid.x) + solid.half_x < 2.3
        assert solid.half_y < 1.0
