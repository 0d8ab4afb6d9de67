import numpy as np
import pytest

from pipeline.data.transforms.perlin import Perlin

POINTS = np.random.default_rng(1).uniform(-40, 300, (5000, 3))


def noise(seed=0):
    return Perlin(np.random.default_rng(seed))


def test_noise_vanishes_at_whole_coordinates():
    assert np.abs(noise()(np.floor(POINTS))).max() < 1e-12


def test_noise_stays_within_one_and_is_spread_about_zero():
    values = noise()(POINTS)
    assert np.abs(values).max() <= 1
    assert abs(values.mean()) < 0.02
    assert 0.15 < values.std() < 0.4


def test_noise_and_its_slope_are_continuous_across_cells():
    at = np.array([[3.0, 0.4, 0.7]])
    step = np.array([[1e-5, 0, 0]])
    left, middle, right = (noise()(at + k * step)[0] for k in (-1, 0, 1))
    assert abs((right - middle) - (middle - left)) < 1e-8


def test_one_draw_is_one_noise_and_another_draw_another():
    assert np.array_equal(noise(3)(POINTS), noise(3)(POINTS))
    assert not np.allclose(noise(3)(POINTS), noise(4)(POINTS))


def test_octaves_are_finer_and_lower_each_scaled_to_one():
    one, two, three = (noise()(POINTS * k) for k in (1, 2, 4))
    assert noise().octaves(POINTS, 1) == pytest.approx(one)
    assert noise().octaves(POINTS, 3) == pytest.approx((one + two / 2 + three / 4) / 1.75)
