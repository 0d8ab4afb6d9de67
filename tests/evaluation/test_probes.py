"""Probes find planted shortcuts, monotone or not, and call the inherent ones so."""

import math
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.point_features import FEATURES, PointSample
from pipeline.evaluation.probes import FACTS, INHERENT, feature_probes, shortcut_probes


def sample_with(seed: int, planted: dict[str, np.ndarray] | None = None) -> PointSample:
    """Noise in all features but the planted; 1000 anomalous, 1500 small, 1500 other points."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(4000, len(FEATURES))).astype(np.float32)
    for name, values in (planted or {}).items():
        features[:, FEATURES.index(name)] = values
    kind = np.repeat([0, 1, 2], [1000, 1500, 1500])
    return PointSample(
        features=features,
        label=(kind == 0).astype(np.uint8),
        is_near=kind == 1,
        weight=np.where(kind == 2, 10, 1).astype(np.float32),
    )


def line_of(table: pd.DataFrame, name: str) -> dict[Hashable, Any]:
    key = table.columns[0]
    return next(line for line in table.to_dict("records") if line[key] == name)


AUROCS = ["small_monotone", "small_binned", "all_monotone", "all_binned"]


def test_noise_is_at_chance_and_fine():
    table = feature_probes(sample_with(0), sample_with(1))
    assert table["feature"].tolist() == list(FEATURES)
    assert table[AUROCS].to_numpy() == pytest.approx(0.5, abs=0.06)
    assert line_of(table, "z_m")["verdict"] == "fine"
    assert line_of(table, "frame_index")["verdict"] == "inherent"


def test_a_monotone_shortcut_is_found_whichever_way_it_points():
    def planted(seed: int) -> PointSample:
        rng = np.random.default_rng(seed)
        return sample_with(
            seed, {"red": rng.normal(size=4000) - 2 * np.repeat([1, 0], [1000, 3000])}
        )

    line = line_of(feature_probes(planted(0), planted(1)), "red")
    assert min(line[name] for name in AUROCS) > 0.85
    assert line["verdict"] == "shortcut"


def test_a_shortcut_that_is_not_monotone_is_found_by_the_binned_probe():
    def planted(seed: int) -> PointSample:
        rng = np.random.default_rng(seed)
        spread = np.repeat([0.2, 2.0], [1000, 3000])
        return sample_with(seed, {"z_m": spread * rng.normal(size=4000)})

    line = line_of(feature_probes(planted(0), planted(1)), "z_m")
    assert line["small_monotone"] == pytest.approx(0.5, abs=0.06)
    assert line["small_binned"] > 0.85
    assert line["verdict"] == "shortcut"


def test_what_tells_anomalies_from_facades_only_is_no_shortcut():
    def planted(seed: int) -> PointSample:
        rng = np.random.default_rng(seed)
        return sample_with(
            seed, {"abs_y_m": rng.normal(size=4000) + np.repeat([0, 5], [2500, 1500])}
        )

    line = line_of(feature_probes(planted(0), planted(1)), "abs_y_m")
    assert line["all_monotone"] > 0.85
    assert line["verdict"] == "fine"


def test_what_was_learned_by_heart_on_train_does_not_count():
    rng = np.random.default_rng(0)
    values = np.round(rng.normal(size=4000), 3)
    train, test = sample_with(0, {"x_m": values}), sample_with(1, {"x_m": rng.permutation(values)})
    assert line_of(feature_probes(train, test), "x_m")["small_binned"] == pytest.approx(
        0.5, abs=0.06
    )


def test_image_features_are_read_on_the_points_in_view():
    def planted(seed: int) -> PointSample:
        rng = np.random.default_rng(seed)
        values = np.where(np.arange(4000) % 2 == 0, rng.normal(size=4000), np.nan)
        return sample_with(seed, {"blue": values})

    line = line_of(feature_probes(planted(0), planted(1)), "blue")
    assert line["all_binned"] == pytest.approx(0.5, abs=0.06)


def test_without_ordinary_small_objects_the_probe_is_undefined():
    def bare(seed: int) -> PointSample:
        sample = sample_with(seed)
        return PointSample(**{**vars(sample), "is_near": np.zeros(4000, bool)})

    line = line_of(feature_probes(bare(0), bare(1)), "z_m")
    assert math.isnan(line["small_monotone"])
    assert math.isnan(line["small_binned"])
    assert line["verdict"] == "undefined"


def frames(num_scenes: int, seed: int, *, tell_by: str | None = None) -> pd.DataFrame:
    """Normality and static scenes of 10 frames; in static ones an anomaly shows from frame 5 on."""
    rng = np.random.default_rng(seed)
    lines = []
    for scene in range(num_scenes):
        kind = ("static", "normality")[scene % 2]
        town, weather = rng.choice(["Town03", "Town07"]), rng.choice(["CLEAR", "WET", "RAIN"])
        for frame in range(10):
            label = int(kind == "static" and frame >= 5)
            if tell_by == "weather" and kind == "static":
                weather = "RAIN" if label else "CLEAR"
            lines.append({
                "archive": f"AnoVox_{kind}_{town}", "kind": kind, "town": town, "weather": weather,
                "frame_index": frame, "frame_label": label,
                "anomaly_distance_m": 60.0 - 5 * frame if kind == "static" else math.nan,
            })  # fmt: skip
    return pd.DataFrame(lines)


def test_what_anovox_gives_away_is_found_and_called_inherent():
    table = shortcut_probes(frames(40, 0), frames(40, 1))
    assert table["probe"].tolist() == list(FACTS)
    for name in INHERENT:
        assert line_of(table, name)["verdict"] == "inherent"
    assert line_of(table, "archive")["all"] == pytest.approx(5 / 6, abs=0.1)
    assert line_of(table, "archive")["static"] == pytest.approx(0.5, abs=0.1)
    assert line_of(table, "frame_index")["static"] == 1
    assert line_of(table, "archive + frame_index")["all"] == 1
    assert line_of(table, "distance")["all"] > 0.9


def test_town_and_weather_that_tell_nothing_are_fine():
    table = shortcut_probes(frames(200, 0), frames(200, 1))
    for name in ("town", "weather"):
        assert line_of(table, name)["all"] == pytest.approx(0.5, abs=0.1)
        assert line_of(table, name)["verdict"] == "fine"


def test_weather_that_tells_is_a_shortcut():
    told = shortcut_probes(frames(40, 0, tell_by="weather"), frames(40, 1, tell_by="weather"))
    assert line_of(told, "weather")["static"] == 1
    assert line_of(told, "weather")["verdict"] == "shortcut"


def test_ignored_frames_are_left_out_and_values_never_seen_score_the_prior():
    test = frames(2, 1)
    test.loc[0, "frame_label"] = 255
    test["town"] = "Town99"
    table = shortcut_probes(frames(40, 0), test)
    assert line_of(table, "town")["all"] == 0.5


def test_frame_probes_are_undefined_with_one_class():
    normal = frames(10, 1)
    normal["frame_label"] = 0
    table = shortcut_probes(frames(10, 0), normal)
    assert math.isnan(line_of(table, "town")["all"])
    assert line_of(table, "town")["verdict"] == "undefined"
