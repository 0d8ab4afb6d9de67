import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.synthetic.ego_motion import TURN_SPEED, Drive, Route, travel

STRAIGHT = Route(
    x=3.0,
    y=-2.0,
    yaw=math.pi / 2,
    turn=0,
    arc_start=30.0,
    radius=6.0,
    sway=0.0,
    sway_length=30.0,
    sway_phase=0.4,
)


def test_a_straight_route_runs_along_its_heading() -> None:
    poses = STRAIGHT.poses(np.array([0.0, 10.0, -5.0]))
    np.testing.assert_allclose(poses[:, :2], [[3, -2], [3, 8], [3, -7]], atol=1e-9)
    np.testing.assert_allclose(poses[:, 2], math.pi / 2)


@pytest.mark.parametrize("turn", [1, -1])
def test_a_turn_is_smooth_and_ends_at_a_right_angle(turn: int) -> None:
    route = replace(STRAIGHT, turn=turn, sway=0.2)
    s = np.arange(0.0, 80.0, 0.1)
    poses = route.poses(s)
    steps = np.hypot(*np.diff(poses[:, :2], axis=0).T)
    assert np.abs(steps - 0.1).max() < 0.01
    heading = np.arctan2(*np.diff(poses[:, :2], axis=0).T[::-1])
    assert np.abs(np.angle(np.exp(1j * (heading - poses[:-1, 2])))).max() < 0.05
    assert route.middle(s[-1:])[0, 2] == pytest.approx(math.pi / 2 + turn * math.pi / 2)


def test_frames_are_a_tenth_of_a_second_apart_around_the_reference() -> None:
    s, speed = travel(STRAIGHT, Drive(num_frames=21, reference=8, speed=10.0))
    assert s[8] == 0.0
    np.testing.assert_allclose(np.diff(s), speed[:-1] * 0.1, rtol=0.02)
    assert (np.abs(speed / 10.0 - 1) <= 0.041).all()
    assert np.ptp(speed) > 0


def test_the_ego_slows_down_for_a_turn_and_picks_up_again() -> None:
    _, speed = travel(replace(STRAIGHT, turn=1), Drive(num_frames=120, reference=10, speed=12.0))
    assert speed[0] > 10
    assert speed.min() == pytest.approx(TURN_SPEED)
    assert speed[-1] > 10


def test_a_single_frame_stands_at_the_reference() -> None:
    s, speed = travel(STRAIGHT, Drive(num_frames=1, reference=0, speed=9.0))
    assert s.tolist() == [0.0]
    assert len(speed) == 1
