"""Scenes are dealt whole, in the configured shares, over kinds and towns, reproducibly."""

import random
from collections import Counter

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.data import PrepareConfig
from pipeline.data.splits import (
    SceneFacts,
    check_both_classes,
    check_scenes,
    make_splits,
    split_hash,
    split_sizes,
    unseen_sizes,
)


def scene(
    number: int, kind: str = "static", town: str = "Town03", category: str = ""
) -> SceneFacts:
    archive = f"AnoVox_{kind.capitalize()}_Mono_{town}"
    return SceneFacts(
        archive=archive, scene_id=f"{number:04d}", kind=kind, town=town, category=category
    )


def world(per_stratum: int) -> list[SceneFacts]:
    kinds, towns = ("normality", "static"), ("Town03", "Town07")
    strata = [(kind, town) for kind in kinds for town in towns]
    return [scene(i, kind, town) for kind, town in strata for i in range(per_stratum)]


@given(st.integers(0, 60), st.floats(0.05, 0.45), st.floats(0.05, 0.45))
def test_sizes_add_up_and_no_split_is_empty_from_three_scenes_on(number, val, test):
    sizes = split_sizes(number, PrepareConfig(val_fraction=val, test_fraction=test))
    assert sum(sizes.values()) == number
    assert min(sizes.values()) >= (1 if number >= 3 else 0)
    assert all(
        abs(sizes[split] - share * number) <= 2 for split, share in (("val", val), ("test", test))
    )


@pytest.mark.parametrize(
    ("number", "expected"), [(0, (0, 0, 0)), (1, (1, 0, 0)), (2, (1, 0, 1)), (20, (11, 3, 6))]
)
def test_small_and_round_numbers_are_dealt_as_documented(number, expected):
    sizes = split_sizes(number, PrepareConfig())
    assert (sizes["train"], sizes["val"], sizes["test"]) == expected


@given(st.integers(1, 9), st.integers(0, 99), st.randoms(use_true_random=False))
def test_the_order_in_which_scenes_come_does_not_matter(per_stratum, seed, shuffler: random.Random):
    scenes = world(per_stratum)
    config = PrepareConfig(split_seed=seed)
    expected = make_splits(scenes, config)
    shuffler.shuffle(scenes)
    assert make_splits(scenes, config) == expected
    assert len(expected) == len(scenes)


@pytest.mark.parametrize("seed", range(20))
def test_every_split_holds_its_share_of_every_kind_and_town(seed: int):
    scenes = world(20)
    splits = make_splits(scenes, PrepareConfig(split_seed=seed))
    counts = Counter((splits[one.key], one.kind, one.town) for one in scenes)
    for split, share in (("val", 3), ("test", 6), ("train", 11)):
        for kind in ("normality", "static"):
            for town in ("Town03", "Town07"):
                assert abs(counts[split, kind, town] - share) <= 1


def test_twelve_scenes_put_most_into_train_and_some_of_each_kind_everywhere():
    scenes = world(3)
    splits = make_splits(scenes, PrepareConfig())
    assert Counter(splits.values()) == {"train": 6, "test": 4, "val": 2}
    assert {(splits[one.key], one.kind) for one in scenes} == {
        (split, kind) for split in ("train", "val", "test") for kind in ("normality", "static")
    }


def test_held_out_categories_go_to_test_only():
    scenes = [scene(i, category="special" if i % 4 == 0 else "animal") for i in range(20)]
    splits = make_splits(scenes, PrepareConfig(hold_out_categories=["special"]))
    assert {splits[one.key] for one in scenes if one.category == "special"} == {"test"}
    rest = Counter(splits[one.key] for one in scenes if one.category != "special")
    assert rest == {"train": 8, "val": 2, "test": 5}


def test_another_seed_deals_otherwise_and_has_another_hash():
    dealt = [make_splits(world(10), PrepareConfig(split_seed=seed)) for seed in range(3)]
    assert len({split_hash(one) for one in dealt}) == 3


def test_the_hash_does_not_depend_on_insertion_order():
    assert split_hash({"a": "train", "b": "test"}) == split_hash({"b": "test", "a": "train"})


def frames(**labels: list[int]) -> pd.DataFrame:
    rows = [(split, label) for split, values in labels.items() for label in values]
    return pd.DataFrame(rows, columns=["split", "frame_label"])


def test_a_split_without_a_class_is_refused_with_its_counts():
    with pytest.raises(ValueError, match=r"val 2 normal \+ 0 anomalous.*each needs both classes"):
        check_both_classes(frames(train=[0, 1], val=[0, 0, 255], test=[0, 1]), PrepareConfig())


def test_a_split_without_frames_is_refused():
    with pytest.raises(ValueError, match=r"test 0 normal \+ 0 anomalous"):
        check_both_classes(frames(train=[0, 1], val=[0, 1]), PrepareConfig())


def test_splits_with_both_classes_pass():
    check_both_classes(frames(train=[0, 1, 255], val=[0, 1], test=[1, 0]), PrepareConfig())


def test_kinds_that_are_not_trained_on_are_dealt_to_val_and_test_in_their_shares():
    scenes = world(20)
    config = PrepareConfig(train_kinds=["normality"])
    splits = make_splits(scenes, config)
    counts = Counter((splits[one.key], one.kind) for one in scenes)
    assert ("train", "static") not in counts
    assert counts["val", "static"] == 13  # 15 to 30 of 40
    assert counts["test", "static"] == 27
    everything = make_splits(scenes, PrepareConfig())
    of_trained = [one.key for one in scenes if one.kind == "normality"]
    assert all(splits[key] == everything[key] for key in of_trained)


@given(st.integers(0, 60), st.floats(0.05, 0.45), st.floats(0.05, 0.45))
def test_unseen_sizes_add_up_and_give_train_nothing(number, val, test):
    sizes = unseen_sizes(number, PrepareConfig(val_fraction=val, test_fraction=test))
    assert sizes["train"] == 0
    assert sum(sizes.values()) == number
    if number >= 2:
        assert min(sizes["val"], sizes["test"]) >= 1


def test_train_may_lack_anomalies_only_where_its_kinds_are_chosen():
    chosen = PrepareConfig(train_kinds=["normality"])
    labels = frames(train=[0, 0], val=[0, 1], test=[0, 1])
    check_both_classes(labels, chosen)
    with pytest.raises(ValueError, match=r"train 2 normal \+ 0 anomalous"):
        check_both_classes(labels, PrepareConfig())
    scenes = world(5)
    check_scenes(scenes, make_splits(scenes, chosen), chosen)
    with pytest.raises(ValueError, match=r"val 2 normal \+ 0 anomalous"):
        check_both_classes(frames(train=[0, 0], val=[0, 0], test=[0, 1]), chosen)


def test_val_and_test_need_anomalies_whatever_is_trained_on():
    chosen = PrepareConfig(train_kinds=["normality"])
    scenes = [scene(i, "normality") for i in range(9)]
    with pytest.raises(ValueError, match="split val and test gets no scene with an anomaly"):
        check_scenes(scenes, make_splits(scenes, chosen), chosen)


def test_train_kinds_that_no_scene_is_of_are_refused():
    chosen = PrepareConfig(train_kinds=["dynamic"])
    scenes = world(5)
    with pytest.raises(ValueError, match=r"leaves no scene to train on.*'normality', 'static'"):
        check_scenes(scenes, make_splits(scenes, chosen), chosen)
