import math

import numpy as np
import pytest

from pipeline.synthetic.primitives import (
    Thing,
    box,
    cone,
    cylinder,
    join_solids,
    moved,
    pack,
    painted,
    seen_from,
)

GREY, RED = (0.5, 0.5, 0.5), (1.0, 0.0, 0.0)


def test_a_turned_thing_carries_its_solids_around() -> None:
    post = box((1, 1, 2), (3.0, 0.0, 0.5), colour=GREY)
    solids = pack([Thing(label=6, solids=(post,), x=0.0, y=0.0)])
    turned = moved(solids, np.array([[10.0, 20.0, math.pi / 2]]))
    assert (turned.x[0], turned.y[0]) == pytest.approx((10.0, 23.0))
    assert turned.yaw[0] == pytest.approx(math.pi / 2)
    assert (turned.bottom[0], turned.top[0]) == pytest.approx((0.5, 2.5))


def test_a_sensor_sees_what_lies_ahead_of_it_on_its_x_axis() -> None:
    solids = pack([Thing(label=6, solids=(box((1, 1, 2), colour=GREY),), x=0.0, y=0.0)])
    world = moved(solids, np.array([[5.0, 9.0, 0.3]]))
    seen = seen_from(world, np.array([5.0, 2.0, math.pi / 2]), 1.8)
    assert (seen.x[0], seen.y[0]) == pytest.approx((7.0, 0.0), abs=1e-6)
    assert (seen.bottom[0], seen.top[0]) == pytest.approx((-1.8, 0.2))
    assert seen.yaw[0] == pytest.approx(0.3 - math.pi / 2)


def test_each_solid_knows_its_thing_after_joining() -> None:
    two = Thing(label=6, solids=(box((1, 1, 1), colour=GREY),) * 2, x=0.0, y=0.0)
    both = join_solids(pack([two, two]), pack([two]), thing=2)
    assert both.thing.tolist() == [0, 0, 1, 1, 2, 2]
    assert len(pack([])) == 0


def test_the_radius_holds_the_farthest_corner() -> None:
    arm = box((2, 1, 1), (3.0, 0.0, 0.0), colour=GREY)
    thing = Thing(label=6, solids=(arm, cylinder((1, 1, 1), colour=GREY)), x=0.0, y=0.0)
    assert thing.radius == pytest.approx(3.0 + math.hypot(1.0, 0.5))


def test_paint_changes_nothing_but_paint() -> None:
    plain = box((1, 2, 3), colour=GREY)
    checked = painted(plain, RED, 1, 0.3)
    assert (checked.second, checked.pattern, checked.cell) == (RED, 1, 0.3)
    assert (checked.half_x, checked.half_y, checked.top) == (0.5, 1.0, 3.0)


def test_a_flat_cone_is_refused_because_the_caster_needs_steep_sides() -> None:
    with pytest.raises(AssertionError):
        cone((4, 4, 1), colour=GREY)
