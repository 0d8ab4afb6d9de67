import numpy as np

from pipeline.datasets.anovox.class_ids import ANOMALY, EGO, IGNORE
from pipeline.datasets.anovox.semantic_classes import (
    CLASS_OF_ID,
    NO_CLASS,
    NUM_CLASSES,
    SEMANTIC_IDS,
    class_name,
    semantic_class,
)


def test_every_normal_id_but_the_sky_is_a_class_and_nothing_else_is():
    assert tuple(range(11)) + tuple(range(12, 29)) == SEMANTIC_IDS
    assert not set(SEMANTIC_IDS) & (ANOMALY | IGNORE)
    assert sorted(CLASS_OF_ID[list(SEMANTIC_IDS)]) == list(range(NUM_CLASSES))


def test_points_that_are_not_labelled_normal_have_no_class():
    road = np.full(4, 1, np.uint8)
    labels = np.array([0, 1, 2, 255], np.uint8)
    expected = [CLASS_OF_ID[1], NO_CLASS, NO_CLASS, NO_CLASS]
    assert semantic_class(road, labels).tolist() == expected


def test_the_lead_car_outside_its_window_is_a_car_under_an_agents_id_only():
    """Label 0 with id 114 or, in a scene whose ids were set, 100."""
    ids, normal = np.array([14, 114, 100, EGO], np.uint8), np.zeros(4, np.uint8)
    car = CLASS_OF_ID[14]
    assert semantic_class(ids, normal).tolist() == [car, car, NO_CLASS, NO_CLASS]


def test_names_are_one_word():
    assert class_name(int(CLASS_OF_ID[24])) == "road_line"
    assert len({class_name(k) for k in range(NUM_CLASSES)}) == NUM_CLASSES
