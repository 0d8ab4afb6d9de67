"""The user's own commands on a tiny world: train, evaluate, the negative control."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.evaluation.evaluate import Evaluated, evaluate
from pipeline.training.report import report_training
from pipeline.training.trainer import Trained, fit

SMALL = {
    "model": {"image_channels": 16, "point_channels": 16, "image_stages": 2},
    "train": {"num_epochs": 2, "warmup_steps": 2, "log_every_n_steps": 2},
    "scaling": {"num_workers": 0},
    "health_checks": {"no_signal_margin": 0.0},
    "evaluation": {"num_bootstraps": 100},
}


def unwatched(phase: str):
    return lambda done, total: None


@pytest.fixture(scope="module")
def config(
    tiny_config: Config, new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory
) -> Config:
    place = tmp_path_factory.mktemp("runs")
    return merge(
        tiny_config,
        SMALL,
        {"storage_path": str(place), "tracking": {"uri": new_store(place)}},
    )


@pytest.fixture(scope="module")
def trained(config: Config) -> Trained:
    return fit(merge(config, {"health_checks": {"enabled": False}}), say=lambda line: None)


@pytest.fixture(scope="module")
def seen() -> list[tuple[int, int]]:
    """What `evaluated` told of its progress."""
    return []


@pytest.fixture(scope="module")
def evaluated(config: Config, trained: Trained, seen: list[tuple[int, int]]) -> Evaluated:
    return evaluate(config, watch=lambda phase: lambda done, total: seen.append((done, total)))


def overrides(config: Config) -> list[str]:
    return [
        f"data.root={config.data.root}",
        f"data.blocks={config.data.blocks}",
        f"storage_path={config.storage_path}",
        f"tracking.uri={config.tracking.uri}",
        *(f"prepare.{key}={getattr(config.prepare, key)}" for key in CHANGED_PREPARE),
    ]


CHANGED_PREPARE = (
    "image_width",
    "frames_per_shard",
    "val_fraction",
    "test_fraction",
    "split_seed",
    "min_anomaly_pixels",
    "image_crop",
)


def test_a_training_leaves_curves_and_its_best_checkpoint_in_the_run(
    config: Config, trained: Trained
):
    facts = report_training(config, trained)
    client = MlflowClient(config.tracking.uri)
    figures = {item.path for item in client.list_artifacts(trained.run_id, "figures")}
    assert figures == {"figures/loss.png", "figures/validation.png"}
    checkpoint = {item.path for item in client.list_artifacts(trained.run_id, "checkpoint")}
    assert checkpoint == {"checkpoint/meta.json", "checkpoint/tensors.safetensors"}
    assert facts["run_id"] == trained.run_id
    assert 0 <= facts["val/point_ap"] <= 1


def test_an_evaluation_counts_every_test_frame_and_tells_its_controls(
    config: Config, trained: Trained, evaluated: Evaluated, seen: list[tuple[int, int]]
):
    assert (len(evaluated.tally.frames()),) * 2 in seen
    assert "constant predictor" in evaluated.text
    assert "baseline" in evaluated.text
    assert trained.run_id[:8] in evaluated.text
    run = MlflowClient(config.tracking.uri).get_run(trained.run_id)
    assert run.data.metrics["test/point_ap"] == pytest.approx(evaluated.facts["test/point_ap"])
    assert {"baseline/point_ap", "probe/frame_auroc"} <= run.data.metrics.keys()
    for path in evaluated.facts["figures"]:
        assert Path(path).stat().st_size > 10_000


def test_an_evaluation_tells_voxels_and_anovoxs_own_metrics(
    config: Config, trained: Trained, evaluated: Evaluated
):
    assert "voxel_ap" in evaluated.text
    assert "voxel_specificity" not in evaluated.text
    rows = pd.read_csv(Path(evaluated.facts["table"]).with_name("results.csv")).set_index("metric")
    own = rows.loc["test/voxel_specificity"]
    assert 0 <= own["value"] <= 1
    assert 0 <= own["baseline"] <= 1
    assert math.isnan(own["low"])
    run = MlflowClient(config.tracking.uri).get_run(trained.run_id)
    assert {"test/voxel_ap", "test/voxel_ppv", "baseline/voxel_ap"} <= run.data.metrics.keys()
    assert not any("pixel" in name for name in run.data.metrics)
    other = evaluate(merge(config, {"evaluation": {"voxel_score": "mean"}}), watch=unwatched)
    assert other.tally.counts("point").num_pos == evaluated.tally.counts("point").num_pos
    assert other.facts["test/voxel_ap"] != evaluated.facts["test/voxel_ap"]


@pytest.mark.slow
def test_a_model_that_scores_pixels_is_told_with_their_metrics_and_curves(
    config: Config, new_store: Callable[[Path], str], tmp_path: Path
):
    place = {"storage_path": str(tmp_path), "tracking": {"uri": new_store(tmp_path)}}
    scoring = merge(
        config, place, {"model": {"pixel_head": True}, "health_checks": {"enabled": False}}
    )
    fit(scoring, say=lambda line: None)
    evaluated = evaluate(scoring, watch=unwatched)
    assert evaluated.facts["test/pixel_ap"] > evaluated.tally.counts("pixel").prevalence > 0
    assert "pixel_ap" in evaluated.text
    names = {Path(path).name for path in evaluated.facts["figures"]}
    assert {"pixel_precision_recall.png", "pixel_roc.png", "voxel_roc.png"} <= names
    assert any(name.endswith("_pixels.png") for name in names)


def test_a_model_is_not_evaluated_on_another_split(config: Config, trained: Trained):
    from pipeline.data.prepare.prepare import prepare

    other = merge(config, {"prepare": {"split_seed": 12}})
    try:
        prepare(other, lambda done, total: None)
    except ValueError as error:
        pytest.skip(f"the other deal is refused for itself: {error}")
    with pytest.raises(ValueError, match="the model was trained on split"):
        evaluate(other, watch=unwatched)


def test_the_negative_control_is_failed_as_collapsed_within_five_steps(
    config: Config, new_store: Callable[[Path], str], tmp_path: Path
):
    uri = new_store(tmp_path)
    done = subprocess.run(
        [
            sys.executable, "-m", "jobs.train", "--config", "configs/prior_control.yaml",
            *overrides(config), f"tracking.uri={uri}", f"storage_path={tmp_path}",
        ],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["status"] == "failed"
    assert facts["reason"] == "collapsed"
    client = MlflowClient(uri)
    run = client.get_run(facts["run_id"])
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"] == "collapsed"
    steps = [m.step for m in client.get_metric_history(facts["run_id"], "train/loss")]
    assert max(steps) <= 5


def test_without_a_training_evaluation_says_what_to_do(config: Config, tmp_path: Path):
    empty = merge(config, {"storage_path": str(tmp_path)})
    with pytest.raises(ValueError, match=r"train first \(jobs\.train\)"):
        evaluate(empty, watch=unwatched)


def test_a_run_that_is_not_in_the_store_is_refused_before_anything_is_scored(
    config: Config, trained: Trained, new_store: Callable[[Path], str], tmp_path: Path
):
    place = {"tracking": {"uri": new_store(tmp_path)}}
    elsewhere = merge(config, place, {"evaluation": {"checkpoint": str(trained.folder)}})
    with pytest.raises(ValueError, match=r"set tracking\.uri to the store"):
        evaluate(elsewhere, watch=unwatched)
