"""Puddles cover the share of ground they are asked to; streaks are upright, random and bounded."""

import numpy as np
import pytest

from pipeline.synthetic.rain import puddle_share, rain_share


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_puddles_cover_their_share_of_the_ground(share: float) -> None:
    x, y = (axis.ravel() for axis in np.meshgrid(*[np.arange(0, 51.2, 0.1) + 0.05] * 2))
    water = puddle_share(x, y, share)
    assert water.mean() == pytest.approx(share, abs=0.005)
    assert ((water == 0) | (water == 1)).mean() > 0.9


def test_a_larger_share_floods_more_of_the_same_ground() -> None:
    x, y = np.random.default_rng(0).uniform(-500, 500, (2, 2000))
    little, much = puddle_share(x, y, 0.1), puddle_share(x, y, 0.3)
    assert (much >= little).all()
    np.testing.assert_array_equal(much, puddle_share(x + 51.2, y - 102.4, 0.3))


@pytest.mark.parametrize("rain", [0.35, 1.0])
def test_rain_is_upright_streaks_that_cover_little(rain: float) -> None:
    share = rain_share(256, 384, rain, np.random.default_rng(0)).reshape(256, 384)
    assert 0 <= share.min() < share.max() <= 0.45
    wet = share > 0
    assert 0.005 < wet.mean() < 0.12
    along = (wet[1:] & wet[:-1]).sum() / wet.sum()
    beside = (wet[:, 1:] & wet[:, :-1]).sum() / wet.sum()
    assert along > 0.8 > 0.3 > beside


def test_rain_falls_elsewhere_in_the_next_frame() -> None:
    first, second = (rain_share(64, 96, 1.0, np.random.default_rng(k)) for k in (0, 1))
    assert not np.array_equal(first, second)
