"""The learning rate is a pure function of the step."""

import pytest

from pipeline.config import TrainConfig
from pipeline.training.schedule import learning_rate


def test_warm_up_rises_linearly_to_the_peak():
    config = TrainConfig(lr=1.0, warmup_steps=4)
    rates = [learning_rate(config, step=s, num_steps=100) for s in range(4)]
    assert rates == [0.25, 0.5, 0.75, 1.0]


def test_cosine_is_half_the_peak_half_way_and_near_zero_at_the_end():
    config = TrainConfig(lr=2.0, warmup_steps=0)
    assert learning_rate(config, step=50, num_steps=100) == pytest.approx(1.0)
    assert learning_rate(config, step=100, num_steps=100) == pytest.approx(0.0)


def test_without_a_schedule_the_rate_is_constant_after_the_warm_up():
    config = TrainConfig(lr=0.5, warmup_steps=2, schedule="none")
    assert {learning_rate(config, step=s, num_steps=10) for s in range(2, 20)} == {0.5}
