import numpy as np
import pytest

from pipeline.synthetic.patterns import HIGH_CONTRAST, PATTERNS, PLAIN, noise, weights


def surface(number: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    u, v = rng.uniform(-4, 4, (2, number)).astype(np.float32)
    return u, v


@pytest.mark.parametrize("pattern", HIGH_CONTRAST)
def test_a_high_contrast_pattern_shows_both_colours_nearly_equally(pattern: int) -> None:
    u, v = surface()
    share = weigh(pattern, u, v).mean()
    assert 0.4 < share < 0.6


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_stays_between_its_two_colours(pattern: int) -> None:
    weight = weigh(pattern, *surface())
    assert weight.min() >= 0
    assert weight.max() <= 1
    assert weight.std() > 0.01


def test_plain_is_the_first_colour_only() -> None:
    assert (weigh(PLAIN, *surface()) == 0).all()


def test_points_of_different_patterns_do_not_touch_each_other() -> None:
    u, v = surface(100)
    mixed = np.array([1, 2] * 50, np.int8)
    cell, side = np.full(100, 0.4, np.float32), np.ones(100, bool)
    both = weights(mixed, u, v, cell, side)
    np.testing.assert_array_equal(both[::2], weigh(1, u, v)[::2])
    np.testing.assert_array_equal(both[1::2], weigh(2, u, v)[1::2])


def test_noise_is_constant_within_its_squares() -> None:
    u = np.array([0.01, 0.09, 0.11], np.float32)
    drawn = noise(u, 0 * u, 10.0)
    assert drawn[0] == drawn[1] != drawn[2]


def weigh(pattern: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    number = len(u)
    kinds, cell = np.full(number, pattern, np.int8), np.full(number, 0.4, np.float32)
    return weights(kinds, u, v, cell, np.ones(number, bool))
