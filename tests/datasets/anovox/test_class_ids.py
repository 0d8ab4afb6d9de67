import numpy as np
import pytest

from pipeline.datasets.anovox import class_ids
from pipeline.datasets.anovox.class_ids import (
    ANOMALY,
    CATEGORY,
    CLASS_NAMES,
    COLOURS,
    EGO,
    IGNORE,
    is_anomaly,
    label_of_class,
    unknown_ids,
)


def test_every_id_has_a_name_and_a_colour_of_its_own():
    assert CLASS_NAMES.keys() == COLOURS.keys()
    assert len(set(CLASS_NAMES.values())) == len(CLASS_NAMES)
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_the_table_holds_anovox_ids_and_no_others():
    assert set(CLASS_NAMES) == {*range(35), 100, *range(112, 120), 214}
    assert {i: CLASS_NAMES[i] for i in (1, 14, 24, 29, 100, 214)} == {
        1: "road",
        14: "car",
        24: "road line",
        29: "home",
        100: "anomaly",
        214: "ego_vehicle",
    }


def test_anomalies_are_29_to_34_and_100():
    assert {29, 30, 31, 32, 33, 34, 100} == ANOMALY == set(CATEGORY)
    assert all(CATEGORY[i] == CLASS_NAMES[i] for i in CATEGORY)


def test_agents_and_the_ego_vehicle_are_ignored():
    assert {112, 113, 114, 115, 116, 117, 118, 119, EGO} == IGNORE
    assert not IGNORE & ANOMALY


def test_label_of_class_is_0_1_or_255_and_keeps_the_shape():
    ids = np.array([[0, 1, 28], [29, 34, 100], [112, 119, 214]], np.uint8)
    label = label_of_class(ids)
    assert label.dtype == np.uint8
    assert label.tolist() == [[0, 0, 0], [1, 1, 1], [255, 255, 255]]


def test_labels_agree_with_the_sets_for_every_id():
    for class_id in CLASS_NAMES:
        expected = 1 if class_id in ANOMALY else 255 if class_id in IGNORE else 0
        ids = np.array([class_id], np.uint8)
        assert label_of_class(ids)[0] == expected
        assert is_anomaly(ids)[0] == (class_id in ANOMALY)


def test_an_id_outside_the_table_is_refused_by_name():
    for class_id in sorted(set(range(256)) - set(CLASS_NAMES)):
        ids = np.array([1, class_id, 24], np.uint8)
        assert unknown_ids(ids) == [class_id]
        with pytest.raises(ValueError, match=rf"\[{class_id}\] are not in AnoVox's table"):
            label_of_class(ids)


def test_empty_arrays_have_no_unknown_ids_and_no_labels():
    assert unknown_ids(np.empty(0, np.uint8)) == []
    assert label_of_class(np.empty(0, np.uint8)).shape == (0,)


def test_every_known_id_is_looked_up_as_the_tables_say_and_the_result_may_be_changed():
    ids = np.array(
        [[*sorted(class_ids.CLASS_NAMES)], [*sorted(class_ids.CLASS_NAMES, reverse=True)]], np.uint8
    )
    for given in (ids, ids.T, ids[:, ::2]):
        expected = [
            class_ids.ANOMALOUS_LABEL
            if i in class_ids.ANOMALY
            else class_ids.IGNORE_LABEL
            if i in class_ids.IGNORE
            else class_ids.NORMAL_LABEL
            for i in given.flat
        ]
        found = class_ids.label_of_class(given)
        assert found.shape == given.shape
        assert found.ravel().tolist() == expected
        assert found.flags.writeable
        assert class_ids.is_anomaly(given).ravel().tolist() == [
            i in class_ids.ANOMALY for i in given.flat
        ]
    assert class_ids.anomalous_ids(ids) == sorted(class_ids.ANOMALY)
    assert class_ids.unknown_ids(np.array([[0, 200], [50, 1]], np.uint8)) == [50, 200]
