"""The learning rate is a pure function of the step."""

import math

import pytest

from pipeline.config.schema import TrainConfig
from pipeline.training.schedule import learning_rate


def test_warm_up_rises_linearly_to_the_peak():
    config = TrainConfig(lr=1.0, warmup_steps=4)
    rates = [learning_rate(config, step=s, num_steps=100, per_epoch=10) for s in range(4)]
    assert rates == [0.25, 0.5, 0.75, 1.0]


def test_cosine_is_half_the_peak_half_way_and_near_zero_at_the_end():
    config = TrainConfig(lr=2.0, warmup_steps=0)
    assert learning_rate(config, step=50, num_steps=100, per_epoch=10) == pytest.approx(1.0)
    assert learning_rate(config, step=100, num_steps=100, per_epoch=10) == pytest.approx(0.0)


def test_without_a_schedule_the_rate_is_constant_after_the_warm_up():
    config = TrainConfig(lr=0.5, warmup_steps=2, lr_schedule="none")
    assert {learning_rate(config, step=s, num_steps=10, per_epoch=5) for s in range(2, 20)} == {0.5}


def test_each_restart_is_a_whole_cosine_of_its_own():
    """Of steps 0 to 59, ten per epoch: cycles of 20 (2 of them warm-up), 10 and 30."""
    config = TrainConfig(lr=1.0, warmup_steps=2, num_epochs=6, lr_restart_epochs=[2, 3])
    rates = [learning_rate(config, step=s, num_steps=60, per_epoch=10) for s in range(60)]
    for begin, end in ((2, 20), (20, 30), (30, 60)):
        cycle = [0.5 * (1 + math.cos(math.pi * i / (end - begin))) for i in range(end - begin)]
        assert rates[begin:end] == pytest.approx(cycle)


def test_the_first_cycle_is_a_training_of_that_length():
    """So what is validated at its end is what a shorter training would have reached."""
    restarted = TrainConfig(lr=1.0, warmup_steps=3, num_epochs=6, lr_restart_epochs=[2])
    short = TrainConfig(lr=1.0, warmup_steps=3, num_epochs=2)
    for step in range(20):
        assert learning_rate(restarted, step=step, num_steps=60, per_epoch=10) == learning_rate(
            short, step=step, num_steps=20, per_epoch=10
        )


def test_restarts_within_the_warm_up_or_after_the_end_change_nothing():
    """As when `train.max_steps` ends a training before them."""
    plain = TrainConfig(warmup_steps=15, num_epochs=9)
    restarted = TrainConfig(warmup_steps=15, num_epochs=9, lr_restart_epochs=[1, 8])
    for step in range(40):
        assert learning_rate(restarted, step=step, num_steps=40, per_epoch=10) == learning_rate(
            plain, step=step, num_steps=40, per_epoch=10
        )


@pytest.mark.parametrize("restarts", [[0], [3, 2], [2, 2], [6], [-1, 2]])
def test_restarts_out_of_order_or_range_are_refused(restarts: list[int]):
    with pytest.raises(
        ValueError, match=r"train\.lr_restart_epochs=.*rising epochs above 0 and below"
    ):
        TrainConfig(num_epochs=6, lr_restart_epochs=restarts)


def test_restarts_need_a_cosine():
    with pytest.raises(ValueError, match=r"set it to cosine or leave train\.lr_restart_epochs out"):
        TrainConfig(num_epochs=6, lr_schedule="none", lr_restart_epochs=[2])
