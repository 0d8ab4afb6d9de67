import math

import numpy as np
import pytest

from pipeline.datasets.anovox.annotations import Anomaly, parse_anomaly
from pipeline.datasets.anovox.geometry import carla_transform, world_from_lidar
from pipeline.datasets.anovox.lead_vehicle import (
    MAX_WINDOW_FRAMES,
    BrakingWindow,
    LeadTrack,
    braking_window,
    in_body,
    lead_classes,
)

FIRST_ID = 3323


def track(speeds: list[float], frame_ids: list[int] | None = None) -> LeadTrack:
    ids = frame_ids or list(range(FIRST_ID, FIRST_ID + len(speeds)))
    return LeadTrack(
        frame_ids=np.array(ids, np.int64),
        speed_m_s=np.array(speeds, np.float64),
        heading_rad=np.zeros(len(ids)),
        has_location=True,
    )


def full_stop(onset: int = 20, standing: int = 18, m_s2: float = 8.0) -> list[float]:
    """10 m/s, a hard brake to a stand, a stand, and off again."""
    steps = math.ceil(10.0 / (m_s2 * 0.1))
    braking = [max(0.0, 10.0 - m_s2 * 0.1 * (i + 1)) for i in range(steps)]
    return [*[10.0] * onset, *braking, *[0.0] * standing, *(0.3 * i for i in range(1, 30))]


def test_the_window_runs_from_the_onset_to_the_last_frame_at_rest():
    window = braking_window(track(full_stop()))
    assert window == BrakingWindow(
        first=FIRST_ID + 20, standing=FIRST_ID + 32, last=FIRST_ID + 20 + 13 + 18 - 1
    )
    assert window is not None
    phases = [window.phase(FIRST_ID + k) for k in (19, 20, 31, 32, 50, 51)]
    assert phases == ["", "braking", "braking", "standing", "standing", ""]


def test_a_long_stand_ends_the_window_after_31_frames():
    window = braking_window(track(full_stop(standing=80)))
    assert window is not None
    assert window.last - window.first + 1 == MAX_WINDOW_FRAMES


@pytest.mark.parametrize(
    "speeds",
    [
        full_stop(m_s2=3.5),
        [10.0] * 60,
        [10.0, 10.0, 9.0, 8.0, 8.0, 8.0, 8.0],  # two hard frames are a jolt
        [10.0, 5.0, 1.0],
    ],
)
def test_gentle_braking_a_jolt_and_too_few_frames_are_no_window(speeds: list[float]):
    assert braking_window(track(speeds)) is None


def test_braking_without_a_stand_ends_where_the_vehicle_speeds_up():
    speeds = [*[12.0] * 5, 11.2, 10.4, 9.6, 8.8, 8.0, 8.0, 8.3, 8.6, 8.9]
    window = braking_window(track(speeds))
    assert window == BrakingWindow(first=FIRST_ID + 5, standing=None, last=FIRST_ID + 10)


def test_a_missing_frame_does_not_look_like_a_hard_brake():
    speeds, ids = [10.0, 9.7, 9.4, 7.9, 7.6, 7.3, 7.0], [1, 2, 3, 8, 9, 10, 11]
    assert braking_window(track(speeds, ids)) is None


def car(**changes: object) -> Anomaly:
    values = {
        "anomaly_type_id": "vehicle.audi.tt",
        "semantic_tags": [14],
        "location": (120.0, -40.0, 0.0),
        "velocity": (0.0, 0.0, 0.0),
    }
    return parse_anomaly(values | changes)


def test_the_vehicle_may_bear_its_own_tag_that_of_an_agent_or_the_generic_one():
    assert lead_classes(car()) == {14, 114, 100}
    assert lead_classes(car(semantic_tags=[15])) == {15, 115, 100}
    assert lead_classes(car(semantic_tags=[])) == {14, 15, 16, 114, 115, 116, 100}


def test_the_body_is_a_box_around_the_location_along_the_heading():
    # The ego stands at (110, -40), looks 90 degrees right of x; the car is 10 m to its left.
    matrix = world_from_lidar(carla_transform((110.0, -40.0, 1.8), 0, 0, 90))
    points = np.array(
        [[0, 10, -1.0], [0, 13.0, -1.0], [1.3, 10, -1], [3.0, 10, -1], [0, 10, 4.0], [0, -10, -1]],
        np.float32,
    )
    found = in_body(points, car(), heading_rad=0.0, world_from_lidar=matrix)
    assert found.tolist() == [True, True, True, False, False, False]
    turned = in_body(points, car(), heading_rad=math.pi / 2, world_from_lidar=matrix)
    assert turned.tolist() == [True, False, True, True, False, False]
    unknown = in_body(points, car(), heading_rad=math.nan, world_from_lidar=matrix)
    assert unknown.tolist() == [True, True, True, True, False, False]
