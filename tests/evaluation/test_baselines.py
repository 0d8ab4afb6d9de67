"""Controls stand on the same items as the detector, and are what scikit-learn says they are."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.evaluation.baselines import PROBES, beats, best_of, probe_tallies
from pipeline.metrics.bootstrap import differences
from pipeline.metrics.counts import Metric
from pipeline.metrics.slices import FRAME_SLICES
from pipeline.metrics.tally import SplitCounts

KINDS = ["static", "normality", "dynamic", "dynamic"]


def index(num_frames: int, *, archives: int = 4) -> pd.DataFrame:
    """Frames 0.. of one scene per archive; the dynamic ones are anomalous from frame 6 on."""
    lines = [
        {
            "row": 0,
            "archive": f"{KINDS[number % len(KINDS)]}{number}",
            "scene_id": f"scene{number}",
            "frame_id": tick,
            "kind": KINDS[number % len(KINDS)],
            "anomaly_category": "",
            "anomaly_distance_m": 9.0,
            "frame_index": tick,
            "frame_label": int(KINDS[number % len(KINDS)] == "dynamic" and tick >= 6),
            "num_anomaly_points_in_view": 0,
        }
        for number in range(archives)
        for tick in range(num_frames)
    ]
    return pd.DataFrame(lines).assign(row=range(len(lines)))


@pytest.fixture
def test_index() -> pd.DataFrame:
    return index(10)


@pytest.fixture
def tally(test_index: pd.DataFrame) -> SplitCounts:
    """A detector that ranks by chance."""
    tally = SplitCounts(
        split="test", split_hash="h", classes=ANOVOX_CLASSES, lookalike_classes=[20]
    )
    scores = np.random.default_rng(0).normal(size=len(test_index)).tolist()
    tally._rows = set(test_index["row"])
    tally._frames = test_index.to_dict("records")  # type: ignore[assignment]
    return tally.rescored(dict(enumerate(scores)))


def test_probes_are_counted_on_the_frames_of_the_detector(
    tally: SplitCounts, test_index: pd.DataFrame
):
    found = probe_tallies(tally, train=index(10), test=test_index)
    assert tuple(found) == PROBES
    for probe in found.values():
        assert set(probe.slices) <= set(FRAME_SLICES)
        assert probe.counts("frame").num_pos == tally.counts("frame").num_pos
        assert probe.frames()["row"].tolist() == tally.frames()["row"].tolist()
    dynamic = {name: probe.readings()["frame_dynamic_ap"].value for name, probe in found.items()}
    assert dynamic["frame_index"] == dynamic["archive + frame_index"] == 1
    assert dynamic["archive"] == pytest.approx(0.4)


def test_a_probe_reads_as_scikit_learn_does(tally: SplitCounts, test_index: pd.DataFrame):
    found = probe_tallies(tally, train=index(10), test=test_index)["archive"]
    share = (test_index["kind"] == "dynamic").to_numpy(float)
    expected = average_precision_score(test_index["frame_label"], share)
    assert found.readings()["frame_ap"].value == pytest.approx(expected, abs=1e-9)


def test_the_difference_to_a_probe_is_paired_by_scene(test_index: pd.DataFrame, tally: SplitCounts):
    many = index(10, archives=40)
    wide = SplitCounts(split="test", split_hash="h", classes=ANOVOX_CLASSES, lookalike_classes=[20])
    wide._rows, wide._frames = set(many["row"]), many.to_dict("records")  # type: ignore[assignment]
    detector = wide.rescored({row: float(row % 3) for row in many["row"]})
    probe = probe_tallies(detector, train=many, test=many)["frame_index"]
    found = differences(detector, probe, num_resamples=100, seed=0)["frame_dynamic_ap"]
    ours, theirs = detector.readings(), probe.readings()
    expected = ours["frame_dynamic_ap"].value - theirs["frame_dynamic_ap"].value
    assert found.value == pytest.approx(expected)
    assert found.low <= found.value <= found.high < 0


def test_a_train_split_without_labelled_frames_has_no_probe(
    tally: SplitCounts, test_index: pd.DataFrame
):
    train = index(10).assign(frame_label=255)
    assert probe_tallies(tally, train=train, test=test_index) == {}


def test_a_constant_predictor_reaches_the_prevalence(tally: SplitCounts):
    readings = tally.constant().readings()
    for name in tally.slices:
        if tally.counts(name).num_pos:
            assert readings[f"{name}_auroc"].value == 0.5
            prevalence = tally.counts(name).prevalence
            assert readings[f"{name}_ap"].value == pytest.approx(prevalence)


def test_the_best_control_is_taken_metric_by_metric(tally: SplitCounts, test_index: pd.DataFrame):
    found = probe_tallies(tally, train=index(10), test=test_index)
    best = best_of(list(found.values()))
    assert best["frame_dynamic_ap"].value == 1
    assert best["frame_dynamic_fpr95"].value == 0
    assert "frame_static_ap" not in best


def test_low_false_positive_rates_are_the_better_ones():
    half = Metric(value=0.5, low=0.5, high=0.5)
    assert beats("point_ap", 0.6, half)
    assert not beats("point_ap", 0.5, half)
    assert beats("point_fpr95", 0.4, half)
    assert not beats("point_fpr95", 0.6, half)
    assert beats("point_fpr95", 1.0, None)
