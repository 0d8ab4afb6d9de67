from collections import Counter

import numpy as np
import pytest

from pipeline.datasets.anovox.class_ids import CATEGORY
from pipeline.synthetic.patterns import HIGH_CONTRAST, PLAIN
from pipeline.synthetic.props import (
    ANOMALY_TYPES,
    ORDINARY,
    AnomalyType,
    Ordinary,
    SmallObject,
    anomaly_type_id,
    deal_anomaly_types,
    draw_small_object,
    size_name,
)


def test_every_category_has_types_known_by_shape_by_appearance_and_by_both() -> None:
    cues = {(kind.label, kind.cue) for kind in ANOMALY_TYPES}
    wanted = {(label, cue) for label in (29, 30, 32) for cue in ("shape", "appearance", "both")}
    assert cues == wanted


def test_an_appearance_anomaly_has_an_ordinary_form_and_a_shape_anomaly_plain_colours() -> None:
    forms = {kind.form for kind in ORDINARY}
    for kind in ANOMALY_TYPES:
        assert (kind.form in forms) == (kind.cue == "appearance"), kind.name
        assert (kind.patterns == (PLAIN,)) == (kind.cue == "shape"), kind.name
        assert kind.cue == "shape" or set(kind.patterns) <= set(HIGH_CONTRAST), kind.name
    for ordinary in ORDINARY:
        assert not set(ordinary.patterns) & set(HIGH_CONTRAST)


def extent(drawn: SmallObject) -> tuple[float, float, float]:
    solids = drawn.solids
    assert all(solid.yaw == 0 for solid in solids)
    assert min(solid.bottom for solid in solids) == 0
    lengths = [
        max(getattr(s, axis) + getattr(s, half) for s in solids)
        - min(getattr(s, axis) - getattr(s, half) for s in solids)
        for axis, half in (("x", "half_x"), ("y", "half_y"))
    ]
    return lengths[0], lengths[1], max(solid.top for solid in solids)


@pytest.mark.parametrize("kind", [*ANOMALY_TYPES, *[None] * 10])
def test_every_form_fills_the_size_that_was_drawn(kind: AnomalyType | None) -> None:
    drawn = draw_small_object(np.random.default_rng(5), kind)
    assert extent(drawn) == pytest.approx(drawn.size, abs=1e-6)
    assert drawn.label in ({20, 21} if kind is None else {kind.label})


def test_ordinary_objects_and_anomalies_draw_the_same_size_and_colours() -> None:
    """The same draws of the generator, so the same distribution to the last bit."""
    for seed, kind in enumerate(ANOMALY_TYPES):
        anomaly = draw_small_object(np.random.default_rng(seed), kind)
        ordinary = draw_small_object(np.random.default_rng(seed), None)
        assert anomaly.size == ordinary.size
        assert anomaly.solids[0].colour == ordinary.solids[0].colour
        assert isinstance(ordinary.kind, Ordinary)


def test_anomalies_are_dealt_in_equal_categories_and_in_cues_two_two_one() -> None:
    dealt = deal_anomaly_types(np.random.default_rng(0), 150)
    assert Counter(CATEGORY[kind.label] for kind in dealt) == dict.fromkeys(
        ("home", "animal", "special"), 50
    )
    assert Counter(kind.cue for kind in dealt) == {"shape": 60, "appearance": 60, "both": 30}
    assert len({kind.name for kind in dealt}) == len(ANOMALY_TYPES)
    assert deal_anomaly_types(np.random.default_rng(0), 0) == []


def test_type_ids_read_as_anovox_writes_them() -> None:
    ids = {kind.name: anomaly_type_id(kind) for kind in ANOMALY_TYPES}
    assert ids["table"] == "static.prop.o_table_home"
    assert ids["zebra"] == "static.prop.o_zebra_animal"
    assert len(set(ids.values())) == len(ANOMALY_TYPES)


def test_size_names_follow_the_longest_side() -> None:
    assert [size_name((1.0, side, 0.2)) for side in (1.2, 1.6, 2.0)] == ["medium", "big", "huge"]
