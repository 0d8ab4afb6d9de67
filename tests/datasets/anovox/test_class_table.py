import numpy as np

from pipeline.datasets.anovox.class_ids import (
    ANOMALY,
    CATEGORY,
    CLASS_NAMES,
    EGO,
    IGNORE,
    label_of_class,
)
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.datasets.protocol.classes import NO_CLASS

CLASS_OF_ID, SEMANTIC_IDS = ANOVOX_CLASSES.semantic_of_id, ANOVOX_CLASSES.semantic_ids
NAMES, semantic_class = ANOVOX_CLASSES.semantic_names, ANOVOX_CLASSES.semantic_class


def test_every_normal_id_but_the_sky_is_a_class_and_nothing_else_is():
    assert tuple(range(11)) + tuple(range(12, 29)) == SEMANTIC_IDS
    assert not set(SEMANTIC_IDS) & (ANOMALY | IGNORE)
    assert sorted(CLASS_OF_ID[list(SEMANTIC_IDS)]) == list(range(len(NAMES)))


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
    assert NAMES[CLASS_OF_ID[24]] == "road_line"
    assert len(set(NAMES)) == len(SEMANTIC_IDS) == 28
    assert not any(" " in name for name in NAMES)


def test_labels_by_the_table_are_those_by_anovoxs_own_lookup():
    ids = np.array(list(CLASS_NAMES), np.uint8)
    assert np.array_equal(ANOVOX_CLASSES.label_of(ids), label_of_class(ids))


def test_categories_lookalikes_and_road_are_those_of_the_format():
    assert {ids: name for name, (ids,) in ANOVOX_CLASSES.categories.items()} == CATEGORY
    assert (ANOVOX_CLASSES.lookalike_ids, ANOVOX_CLASSES.road_ids) == ([20, 21], [1, 24])
