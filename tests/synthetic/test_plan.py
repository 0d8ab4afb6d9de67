from collections import Counter
from dataclasses import replace

import pytest

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.paths import scene_folder_name
from pipeline.synthetic.plan import plan_scenes

CONFIG = SyntheticConfig(num_scenes=80, towns=["Town03", "Town07"])


def test_scenes_are_dealt_evenly_over_kinds_and_towns() -> None:
    counts = Counter((plan.kind, plan.town) for plan in plan_scenes(CONFIG))
    assert counts == {(kind, town): 20 for kind in ("normality", "static") for town in CONFIG.towns}


def test_seven_of_twenty_static_scenes_hide_their_anomaly_and_normality_has_none() -> None:
    plans = plan_scenes(CONFIG)
    static = [plan for plan in plans if plan.kind == "static"]
    assert sum(plan.hidden for plan in static) == 14
    assert all(plan.anomaly for plan in static)
    assert not any(plan.anomaly or plan.hidden for plan in plans if plan.kind == "normality")


def test_categories_do_not_follow_the_town() -> None:
    static = [plan for plan in plan_scenes(CONFIG) if plan.anomaly]
    seen = {(plan.town, plan.anomaly.label) for plan in static if plan.anomaly}
    assert len(seen) == 6


def test_scene_ids_are_version_4_uuids_that_depend_on_the_seed_alone() -> None:
    ids = [plan.scene_id for plan in plan_scenes(CONFIG)]
    assert len(set(ids)) == 80
    assert all(scene_folder_name(scene_id) for scene_id in ids)
    smaller = replace(CONFIG, image_width=64, num_frames=2, num_processes=1)
    assert plan_scenes(smaller) == plan_scenes(CONFIG)
    assert plan_scenes(replace(CONFIG, seed=1))[0].scene_id != ids[0]


@pytest.mark.parametrize("kinds", [["static"], ["normality"]])
def test_one_kind_alone_can_be_asked_for(kinds: list[str]) -> None:
    plans = plan_scenes(replace(CONFIG, kinds=kinds, num_scenes=5))
    assert {plan.kind for plan in plans} == set(kinds)


def test_beside_dynamic_scenes_every_second_normal_one_has_a_car_ahead_too() -> None:
    config = replace(CONFIG, num_frames=20, kinds=["normality", "static", "dynamic"], num_scenes=60)
    counts = Counter((plan.kind, plan.lead) for plan in plan_scenes(config))
    assert counts == {
        ("normality", "none"): 10,
        ("normality", "gentle"): 10,
        ("static", "none"): 20,
        ("dynamic", "sudden"): 20,
    }
