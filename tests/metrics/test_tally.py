"""Slices against masks written out by hand, on a hand-made split."""

import dataclasses
import math
import time

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.data.batch import Batch
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.metrics.frame_view import frame_views
from pipeline.metrics.slices import DISTANCES_M, FRAME_SLICES, category_slices
from pipeline.metrics.tally import SplitCounts
from pipeline.models.scores import Scores

NEAR = [20, 21]


def new_tally(**changes) -> SplitCounts:
    return SplitCounts(
        **(
            {
                "split": "test",
                "split_hash": "abc",
                "classes": ANOVOX_CLASSES,
                "lookalike_classes": NEAR,
            }
            | changes
        )
    )


def scores_of(batch: Batch) -> Scores:
    """Scores on bin edges (so binning loses nothing) that depend on the frame alone."""
    points, frames = [], []
    for view in frame_views(batch):
        rng = np.random.default_rng(view.row)
        points.append(rng.integers(-40, 40, len(view.points)) / 16 + (view.point_label == 1))
        frames.append(rng.integers(-4, 4) + view.frame_label)
    return Scores(
        point_score=torch.tensor(np.concatenate([[], *points]), dtype=torch.float32),
        frame_score=torch.tensor(frames, dtype=torch.float32),
    )


def point_scores_of(batch: Batch) -> torch.Tensor:
    score = scores_of(batch).point_score
    assert score is not None
    return score


def tallied(split, rows, *, batch_size: int = 4) -> SplitCounts:
    tally = new_tally()
    for start in range(0, len(rows), batch_size):
        batch = split.batch(rows[start : start + batch_size])
        tally.update(scores_of(batch), batch, split.index)
    return tally


@pytest.fixture(scope="module")
def split(make_split):
    return make_split(num_scenes=6, frames_per_scene=4, num_points=800, seed=0)


@pytest.fixture(scope="module")
def tally(split) -> SplitCounts:
    return tallied(split, list(range(split.num_rows)))


def brute_force(split) -> dict[str, np.ndarray]:
    """All points of the split, one array per fact."""
    batch = split.batch(list(range(split.num_rows)))
    views = list(frame_views(batch))
    kinds = split.index["kind"].to_numpy()
    xyz = batch.points[:, :3].numpy()
    pixel = xyz[:, 1:] / -xyz[:, :1] * 32 + (32, 16)
    return {
        "score": point_scores_of(batch).numpy(),
        "label": batch.point_label.numpy(),
        "class": batch.point_class.numpy(),
        "range": np.linalg.norm(xyz, axis=1),
        "static": np.concatenate([np.full(len(v.points), kinds[v.row] == "static") for v in views]),
        "in_view": (xyz[:, 0] > 0.1) & ((pixel >= 0) & (pixel < (64, 32))).all(axis=1),
    }


def slice_masks(facts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    anomalous = facts["label"] == 1
    small = anomalous | np.isin(facts["class"], NEAR)
    masks = {
        "point": anomalous | True,
        "point_in_view": facts["in_view"],
        "point_static": facts["static"],
        "small_object": small,
        "small_object_in_view": small & facts["in_view"],
        "point_home": anomalous | facts["static"],
    }
    for name, (low, high) in DISTANCES_M.items():
        masks[name] = (facts["range"] >= low) & (facts["range"] < high)
    return {name: mask & (facts["label"] != 255) for name, mask in masks.items()}


def test_every_point_slice_equals_its_mask_written_out(split, tally):
    facts = brute_force(split)
    metrics = tally.metrics("test")
    for name, mask in slice_masks(facts).items():
        score, label = facts["score"][mask], facts["label"][mask]
        assert metrics[f"test/{name}_prevalence"] == pytest.approx(label.mean())
        if 0 < label.mean() < 1:
            expected = average_precision_score(label, score)
            assert metrics[f"test/{name}_ap"] == pytest.approx(expected)
            assert metrics[f"test/{name}_auroc"] == pytest.approx(roc_auc_score(label, score))


def test_slices_by_distance_recombine_to_the_whole(tally):
    parts = sum(tally.counts(name).to_array() for name in DISTANCES_M)
    np.testing.assert_array_equal(parts, tally.counts("point").to_array())


def test_scene_counts_recombine_to_the_exact_numbers_of_items(tally):
    for name in tally.slices:
        per_scene, exact = tally.scene_counts(name), tally.counts(name)
        assert per_scene.shape[0] == len(tally.scenes) == 6
        assert per_scene.sum(axis=(0, 2)).tolist() == [exact.num_neg, exact.num_pos]


def test_frame_slices_know_static_archives_and_anomalies_in_view(split, tally):
    labels = split.index["frame_label"].to_numpy()
    static = (split.index["kind"] == "static").to_numpy()
    names = [name for name in FRAME_SLICES if name in tally.slices]
    found = {name: (tally.counts(name).num_neg, tally.counts(name).num_pos) for name in names}
    num_pos = int((labels == 1).sum())
    assert found["frame"] == (int((labels == 0).sum()), num_pos)
    assert found["frame_static"] == (int((labels[static] == 0).sum()), num_pos)
    assert found["frame_static_20in_view"] == found["frame_static"]


def test_an_anomalous_frame_with_few_points_in_view_leaves_that_slice(split):
    rows = [row for row in range(split.num_rows) if split.index["frame_label"][row] == 1][:1]
    batch = split.batch(rows)
    behind = batch.points.clone()
    seen = torch.nonzero(batch.point_label == 1)[19:, 0]  # 19 stay in view
    behind[seen, 0] *= -1
    moved = Batch(**{**vars(batch), "points": behind})
    tally = new_tally()
    tally.update(scores_of(moved), moved, split.index)
    assert "frame_static_20in_view" not in tally.slices
    assert tally.frames()["num_anomaly_points_in_view"].tolist() == [19]


def test_an_ignored_frame_counts_in_no_frame_slice(split):
    batch = split.batch([1])
    ignored = Batch(**{**vars(batch), "frame_label": torch.tensor([255], dtype=torch.uint8)})
    tally = new_tally()
    tally.update(scores_of(ignored), ignored, split.index)
    assert (tally.counts("frame").num_neg, tally.counts("frame").num_pos) == (0, 0)
    assert tally.undefined("test")["test/frame_ap"] == "no positive item"


def test_metrics_do_not_depend_on_batches_or_on_the_order_of_rows(split, tally):
    rows = np.random.default_rng(0).permutation(split.num_rows).tolist()
    assert tallied(split, rows, batch_size=7).metrics("test") == tally.metrics("test")


def test_two_halves_add_up_to_the_whole(split, tally):
    rows = list(range(split.num_rows))
    both = tallied(split, rows[1::2]) + tallied(split, rows[::2])
    assert both.metrics("test") == tally.metrics("test")
    assert both.frames().equals(tally.frames())


def test_a_row_counted_twice_is_refused(split):
    with pytest.raises(ValueError, match=r"row 0 of split test is counted twice"):
        _ = tallied(split, [0]) + tallied(split, [0, 1])
    with pytest.raises(ValueError, match=r"row 3 of split test is counted twice"):
        tallied(split, [0, 3, 1, 2, 3])


def test_tallies_of_different_splits_do_not_mix(tally):
    with pytest.raises(ValueError, match="split_hash is abc in one tally and xyz in the other"):
        tally.demand_same_split(new_tally(split_hash="xyz"))


def test_an_undefined_metric_is_left_out_and_its_reason_told(tally):
    assert "test/point_0_10m_ap" not in tally.metrics("test")
    assert tally.undefined("test")["test/point_0_10m_ap"] == "no positive item"
    assert tally.metrics("test")["test/point_0_10m_prevalence"] == 0


def test_a_model_without_point_scores_yields_frame_metrics_only(split):
    tally, batch = new_tally(), split.batch([0, 1, 2])
    scores = scores_of(batch)
    tally.update(Scores(point_score=None, frame_score=scores.frame_score), batch, split.index)
    assert tally.slices == ("frame", "frame_static", "frame_static_20in_view")
    assert "point_ap" not in tally.frames()


def test_a_batch_without_frames_counts_nothing(split):
    tally = new_tally()
    batch = split.batch([])
    tally.update(scores_of(batch), batch, split.index)
    assert tally.slices == ()
    assert tally.scenes == []


def test_a_nan_score_is_refused(split):
    batch = split.batch([0])
    nan = Scores(
        point_score=point_scores_of(batch) * math.nan, frame_score=scores_of(batch).frame_score
    )
    with pytest.raises(ValueError, match="scores are NaN"):
        new_tally().update(nan, batch, split.index)


def test_the_table_of_frames_tells_detected_from_missed(split, tally):
    frames = tally.frames()
    assert frames["row"].tolist() == list(range(split.num_rows))
    anomalous = frames[frames["frame_label"] == 1]
    assert (anomalous["num_anomaly_points"] == 30).all()
    assert anomalous["point_ap"].between(0, 1).all()
    assert frames[frames["frame_label"] == 0]["point_ap"].isna().all()
    batch = split.batch([5])
    scores = point_scores_of(batch)[batch.point_label != 255]
    assert frames["max_point_score"][5] == pytest.approx(float(scores.max()))


def test_a_tally_survives_its_file(tally, tmp_path):
    tally.to_file(tmp_path / "tally.npz")
    read = SplitCounts.from_file(tmp_path / "tally.npz")
    assert read.readings() == pytest.approx(tally.readings(), nan_ok=True)
    assert read.frames().equals(tally.frames())
    assert (read.split, read.split_hash, read.lookalike_classes) == ("test", "abc", (20, 21))
    assert read.classes == ANOVOX_CLASSES
    for name in tally.slices:
        np.testing.assert_array_equal(read.scene_counts(name), tally.scene_counts(name))


def test_a_missing_tally_file_is_told_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"none.npz does not exist; evaluate that run first"):
        SplitCounts.from_file(tmp_path / "none.npz")


def test_every_category_has_a_slice():
    assert set(category_slices(ANOVOX_CLASSES)) >= {"point_home", "point_animal", "point_special"}


def test_counting_a_frame_of_20_000_points_takes_milliseconds(make_split):
    split = make_split(num_scenes=1, frames_per_scene=4, num_points=20_000, seed=1)
    batch = split.batch([0, 1, 2, 3])
    scores, times = scores_of(batch), []
    for _ in range(3):
        start = time.process_time()
        new_tally().update(scores, batch, split.index)
        times.append((time.process_time() - start) / 4)
    assert min(times) < 0.03  # 5 ms alone; jaxtyping's checks add to it


def with_categories(split, *, known: list[int], unknown: list[int]):
    """The split with the anomalies of some scenes of category home, of others special."""
    names = {f"scene-{n:03d}": "home" for n in known} | {
        f"scene-{n:03d}": "special" for n in unknown
    }
    index = split.index.assign(
        anomaly_category=[names.get(scene, "") for scene in split.index["scene_id"]]
    )
    return dataclasses.replace(split, index=index)


def test_a_held_out_slice_has_the_unknown_anomalies_and_all_that_is_normal(split):
    split = with_categories(split, known=[0, 2], unknown=[4])
    tally = new_tally(held_out=["special"])
    batch = split.batch(list(range(split.num_rows)))
    tally.update(scores_of(batch), batch, split.index)

    facts = brute_force(split)
    unknown = np.concatenate(
        [
            np.full(len(v.points), split.index["scene_id"][v.row] == "scene-004")
            for v in frame_views(batch)
        ]
    )
    mask = facts["static"] & ((facts["label"] == 0) | ((facts["label"] == 1) & unknown))
    for name, own in (
        ("point_held_out", mask),
        ("point_held_out_in_view", mask & facts["in_view"]),
    ):
        expected = average_precision_score(facts["label"][own], facts["score"][own])
        assert tally.readings()[f"{name}_ap"].value == pytest.approx(expected)
    frames = tally.counts("frame_held_out")
    assert (frames.num_neg, frames.num_pos) == (3, 3)  # 3 static scenes begin without an anomaly


def test_without_held_out_categories_there_is_no_such_slice(tally):
    assert not [name for name in tally.slices if "held_out" in name]


def test_what_is_held_out_survives_the_file_and_must_agree(split, tally, tmp_path):
    batch = split.batch([0, 1])
    held_out = new_tally(held_out=["home"])
    held_out.update(scores_of(batch), batch, split.index)
    held_out.to_file(tmp_path / "tally.npz")
    assert SplitCounts.from_file(tmp_path / "tally.npz").held_out == ("home",)
    with pytest.raises(ValueError, match=r"held_out is \('home',\) in one tally and \(\) in the"):
        held_out.demand_same_split(tally)


def test_frames_of_dynamic_archives_have_a_slice(split):
    dynamic = split.index.assign(kind=["dynamic"] * 4 + split.index["kind"].tolist()[4:])
    tally = new_tally()
    batch = split.batch(list(range(split.num_rows)))
    tally.update(scores_of(batch), batch, dynamic)
    frames = tally.counts("frame_dynamic")
    assert (frames.num_neg, frames.num_pos) == (1, 3)
