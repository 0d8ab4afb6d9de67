"""Training on normal scenes alone: no real anomaly reaches it, and its results say what did."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.block_reader import BlockReader
from pipeline.data.manifest import read_manifest
from pipeline.data.prepare.prepare import find_blocks, prepare
from pipeline.data.transforms.outliers import OUTLIER_LABEL
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.evaluation.inference import score_split
from pipeline.metrics.counts import ScoreCounts
from pipeline.models.detector import build_detector
from pipeline.runtime.errors import RunFailed
from pipeline.training import checkpoints
from pipeline.training.data_loop import open_steps
from pipeline.training.report import report_training
from pipeline.training.trainer import Trained, fit
from pipeline.training.worker import single_worker

NORMALITY = {
    "prepare": {"train_kinds": ["normality"]},
    "model": {
        "image_channels": 16,
        "point_channels": 16,
        "image_stages": 2,
        "dropout": 0.1,
        "semantic_head": True,
        "score": "energy",
    },
    "loss": {"name": "cross_entropy"},
    "train": {
        "num_epochs": 2,
        "batch_size": 4,
        "warmup_steps": 2,
        "log_every_n_steps": 1,
        "checkpoint_every_n_steps": 2,
        "monitor": "semantic_miou",
    },
    "outliers": {"raised_road": 0.5, "perlin": 0.5, "feature_mixing": 0.5},
    "scaling": {"num_workers": 0},
    "health_checks": {"no_signal_margin": 0.0},
}


@pytest.fixture(scope="module")
def prepared(tiny_config: Config, shared: Callable[[str], AbstractContextManager[Path]]) -> Config:
    config = merge(tiny_config, NORMALITY)
    with shared("normality"):
        prepare(config, lambda done, total: None)
    return config


@pytest.fixture(scope="module")
def config(
    prepared: Config, new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory
) -> Config:
    folder = tmp_path_factory.mktemp("normality")
    place = {"storage_path": str(folder / "runs"), "tracking": {"uri": new_store(folder)}}
    return merge(prepared, place)


@pytest.fixture(scope="module")
def whole(config: Config) -> Trained:
    """A run that nobody stopped; not to change."""
    return try_fit(config)


def quiet(line: str) -> None:
    pass


def try_fit(config: Config, say=quiet) -> Trained:
    """`fit` without the verdict on learning: a few steps need not have learned anything."""
    return fit(merge(config, {"health_checks": {"enabled": False}}), say=say)


def final_tensors(trained: Trained) -> dict[str, torch.Tensor]:
    newest = checkpoints.whole_checkpoints(trained.folder / checkpoints.FOLDER)[-1]
    return load_file(newest / checkpoints.TENSORS)


def test_no_real_anomaly_is_ever_in_a_training_batch(config: Config):
    """Neither its points nor its frame; synthetic outliers bear a label of their own."""
    worker = single_worker(quiet, use_gpu=False)
    steps = open_steps(config, find_blocks(config), worker)
    assert set(steps.manifest.labels["train"].frames_by_kind) == {"normality"}
    batches = [batch for epoch in (0, 1) for batch in steps.epoch(epoch, first_step=0)]
    labels = {label for batch in batches for label in batch.point_label.unique().tolist()}
    frame_labels = {label for batch in batches for label in batch.frame_label.tolist()}
    assert labels == {0, OUTLIER_LABEL, 255} or labels == {0, OUTLIER_LABEL}
    assert frame_labels <= {0, OUTLIER_LABEL}


def test_a_run_is_trained_chosen_and_told_by_normal_points_alone(config: Config, whole: Trained):
    meta = checkpoints.read_meta(whole.checkpoint)
    assert meta.best["metric"] == "val/semantic_miou"
    assert meta.best["sees"] == "normal points only"
    best = max(whole.history, key=lambda row: row["val/semantic_miou"])
    assert meta.position.step == best["step"]
    tags = MlflowClient(config.tracking.uri).get_run(whole.run_id).data.tags
    assert tags["model_choice"] == "val/semantic_miou"
    assert tags["selection_data"] == "normal points only"
    facts = report_training(config, whole)
    assert facts["val/semantic_miou"] == best["val/semantic_miou"]
    assert (whole.folder / "figures" / "loss.png").is_file()


def test_thresholds_are_a_quantile_of_normal_points(config: Config, whole: Trained):
    """Hiding the anomalies of the validation split changes none of them."""
    meta = checkpoints.read_meta(whole.checkpoint)
    assert meta.semantic_classes == list(ANOVOX_CLASSES.semantic_names)
    num_classes = len(meta.semantic_classes)
    model = build_detector(config.model, prior=meta.prior, num_classes=num_classes)
    checkpoints.load_model(whole.checkpoint, model)
    reader = BlockReader(find_blocks(config), "val", ego_box_m=config.data.ego_box_m)
    tally = score_split(
        model,
        reader,
        batch_size=4,
        lookalike_classes=[20],
        voxel_score="max",
        device=torch.device("cpu"),
        progress=lambda done, total: None,
    )
    normal = ScoreCounts(tally.counts("point").to_array() * [[1], [0]])
    assert meta.thresholds["point"] == pytest.approx(normal.normal_threshold(0.99), abs=2e-3)
    assert tally.metrics("val")["val/semantic_miou"] == pytest.approx(
        meta.metrics["val/semantic_miou"], abs=1e-3
    )


@pytest.mark.slow
def test_a_stopped_and_resumed_run_equals_one_that_never_stopped(config: Config, whole: Trained):
    """Outliers and mixed features are drawn again as they were."""
    expected = final_tensors(whole)

    def stop_at_step_three(line: str) -> None:
        if "step 3/" in line:
            raise KeyboardInterrupt

    other = merge(config, {"storage_path": f"{config.storage_path}-stopped"})
    with pytest.raises(KeyboardInterrupt):
        try_fit(other, say=stop_at_step_three)
    (stopped,) = [path for path in Path(other.storage_path).iterdir() if path.is_dir()]
    resumed = final_tensors(try_fit(merge(other, {"train": {"resume": str(stopped)}})))
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_a_run_that_learned_no_more_than_the_frequencies_is_failed(config: Config):
    frozen = {"train": {"lr": 1e-12}, "outliers": {"perlin": 0.0}}
    with pytest.raises(RunFailed, match="no signal") as failure:
        fit(merge(config, frozen), say=quiet)
    assert failure.value.reason == "no_signal"


@pytest.mark.parametrize("name", ["focal", "bce", "dice"])
def test_a_loss_that_needs_anomalies_is_refused_without_them(config: Config, name: str):
    assert read_manifest(find_blocks(config)).labels["train"].points_pos == 0
    with pytest.raises(ValueError, match=r"use loss\.name=cross_entropy, which needs none"):
        try_fit(merge(config, {"loss": {"name": name}}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"outliers": {"feature_mixing": 0.0}},
        {"loss": {"name": "dice"}, "prepare": {"train_kinds": []}, "outliers": {"perlin": 0.0}},
    ],
    ids=["cross_entropy with outliers", "dice and semantics"],
)
def test_two_workers_equal_one_at_the_same_global_batch(config: Config, ray_session, changes: dict):
    """Lovasz, dice and outlier terms included; mixed features are drawn per rank and left out."""
    exact = merge(
        config,
        {"model": {"dropout": 0.0}, "train": {"num_epochs": 1}, "outliers": {"feature_mixing": 0}},
        changes,
    )
    one, two = try_fit(exact), try_fit(merge(exact, {"scaling": {"num_workers": 2}}))
    client = MlflowClient(config.tracking.uri)
    curves = [
        [m.value for m in client.get_metric_history(r.run_id, "train/loss")] for r in (one, two)
    ]
    assert len(curves[0]) == len(curves[1]) == one.num_steps
    assert curves[0] == pytest.approx(curves[1], rel=2e-6)
    for name, value in one.history[-1].items():
        if "semantic" in name:
            assert two.history[-1][name] == pytest.approx(value, abs=2e-3), name
