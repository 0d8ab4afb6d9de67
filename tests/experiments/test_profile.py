"""Rows timed on the tiny world: what is told is there, what is timed is the network of the row."""

import csv
import dataclasses
import math
import time
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from torch import nn

from pipeline.config.load import merge, override
from pipeline.config.schema import Config
from pipeline.data.manifest import read_manifest
from pipeline.experiments.profile import profile, training_estimate_s
from pipeline.experiments.timing import Subject, make_subject, take_turn
from pipeline.experiments.timing_table import Cost
from pipeline.models.detector import build_detector
from pipeline.training.worker import Worker, single_worker

TINY = {
    "profile": {"num_frames": 4, "batch_size": 2, "num_rounds": 2},
    "ablate": {"name": "tiny", "variants": ["full", "lidar model.fusion=lidar_only"]},
}


@pytest.fixture
def config(small_training: Config) -> Config:
    return merge(small_training, TINY)


@pytest.fixture
def worker() -> Worker:
    return single_worker(lambda line: None, use_gpu=False)


def subject_of(config: Config, *overrides: str) -> Subject:
    changed = override(config, overrides)
    return make_subject("row", changed, changed.profile, device=torch.device("cpu"))


def no_progress(done: int, total: int) -> None:
    pass


def test_one_call_times_every_row_and_leaves_table_csv_and_run(config: Config, tiny_blocks: Path):
    turns: list[tuple[int, int]] = []
    profiled = profile(config, lambda done, total: turns.append((done, total)))
    assert turns == [(1, 4), (2, 4), (3, 4), (4, 4)]

    full, lidar = profiled.costs
    assert lidar.num_parameters == lidar.num_trained < full.num_parameters
    for cost in (full, lidar):
        assert len(cost.forward_frames_per_s) == len(cost.training_frames_per_s) == 2
        assert len(cost.latency_ms) == 2 * 4
        assert math.isnan(cost.peak_memory_gb)
    assert "| lidar " in profiled.text
    assert "peak memory" not in profiled.text
    assert "Estimate: 2 rows x 3 seeds" in profiled.text

    facts = profiled.facts
    assert Path(facts["table"]).read_text().strip() == profiled.text
    with Path(facts["csv"]).open() as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == ["full", "lidar"]
    assert lines[0]["split_hash"] == read_manifest(tiny_blocks).split_hash
    client = MlflowClient(config.tracking.uri)
    run = client.get_run(facts["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["lidar/num_parameters"] == lidar.num_parameters
    assert "lidar/peak_memory_gb" not in run.data.metrics
    assert {one.path for one in client.list_artifacts(facts["run_id"])} == {
        "profile.csv",
        "profile.md",
    }


@pytest.mark.parametrize(
    "overrides",
    [
        ("model.name=simple", "loss.name=prior_self_supervised", "train.precision=bf16"),
        ("model.pixel_head=true", "model.fusion=camera_only"),
        ("data.num_sweeps=2", "model.lidar_backbone=point_mlp", "loss.dice_weight=1"),
        ("model.semantic_head=true", "model.score=energy", "loss.name=cross_entropy"),
        ("outliers.feature_mixing=0.9", "model.fusion=gated", "loss.name=bce"),
    ],
    ids=lambda overrides: overrides[0],
)
def test_every_kind_of_row_has_its_turn_and_is_left_as_it_was(
    config: Config, worker: Worker, overrides: tuple[str, ...]
):
    subject = subject_of(config, *overrides)
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    turn = take_turn(subject, worker, config.profile)
    assert turn.forward_s > 0
    assert turn.training_s > 0
    assert len(turn.latency_s) == 4
    for name, value in subject.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in subject.model.parameters())


class Sleepy(nn.Module):
    """A network that takes its time, and counts."""

    def __init__(self, model: nn.Module, *, seconds: float) -> None:
        super().__init__()
        self.model, self.seconds = model, seconds
        self.seen: list[tuple[int, bool]] = []

    def forward(self, batch):
        self.seen.append((batch.num_frames, self.training))
        time.sleep(self.seconds)
        return self.model(batch)


@pytest.mark.slow
def test_the_clock_counts_what_the_network_takes_and_no_warm_up(config: Config, worker: Worker):
    subject = subject_of(config)
    model = Sleepy(subject.model, seconds=0.1)
    quick = take_turn(subject, worker, config.profile)
    timing = dataclasses.replace(config.profile, num_warmup=3)
    slow = take_turn(dataclasses.replace(subject, model=model), worker, timing)
    assert slow.forward_s >= 2 * 0.1
    assert slow.training_s >= 2 * 0.1
    assert min(slow.latency_s) >= 0.1
    assert quick.forward_s > 0
    scored, alone_, learned = model.seen[:5], model.seen[5:12], model.seen[12:]
    assert scored == [(2, False)] * 5
    assert alone_ == [(1, False)] * 7
    assert learned == [(2, True)] * 5


@pytest.mark.slow
def test_without_backward_only_the_forward_pass_is_timed(config: Config, worker: Worker):
    subject = subject_of(config)
    model = Sleepy(subject.model, seconds=0.0)
    timing = dataclasses.replace(config.profile, backward=False)
    turn = take_turn(dataclasses.replace(subject, model=model), worker, timing)
    assert math.isnan(turn.training_s)
    assert not any(is_training for _, is_training in model.seen)
    profiled = profile(merge(config, {"profile": {"backward": False}}), no_progress)
    assert "training" not in profiled.text
    assert profiled.facts["training_estimate_s"] is None


def test_frames_are_spread_over_the_split_and_the_same_for_every_row(config: Config):
    one, other = subject_of(config), subject_of(config, "model.fusion=lidar_only")
    assert one.rows == other.rows
    assert one.rows[0] == 0
    assert one.rows[-1] == one.reader.num_rows - 1
    assert len(set(one.rows)) == 4


def test_a_frozen_backbone_is_counted_but_not_as_trained(config: Config):
    free, frozen = subject_of(config), subject_of(config, "model.freeze_image_backbone=true")
    assert frozen.num_parameters == free.num_parameters == free.num_trained
    assert frozen.num_trained < 0.5 * free.num_trained


def test_pretrained_weights_are_not_fetched_to_be_timed(config: Config):
    """Their network differs (frozen BatchNorm), their values do not cost anything."""
    pretrained = subject_of(config, "model.image_weights=/nowhere/resnet18.pt")
    with pytest.raises(ValueError, match="does not exist"):
        build_detector(pretrained.config.model, prior=0.5)
    assert pretrained.num_parameters < subject_of(config).num_parameters


def test_the_estimate_is_frames_over_rates_times_seeds(config: Config, tiny_blocks: Path):
    changes = {"ablate": {"variants": ["a train.num_epochs=3", "b train.max_steps=5"]}}
    config = merge(config, changes, {"ablate": {"seeds": [0, 1]}})
    manifest = read_manifest(tiny_blocks)
    frames = sum(shard.num_rows for shard in manifest.shards_of("train"))
    cost = Cost(
        name="a",
        changes="",
        num_parameters=1,
        num_trained=1,
        forward_frames_per_s=[1.0],
        training_frames_per_s=[2.0],
        latency_ms=[1.0],
        peak_memory_gb=math.nan,
    )
    costs = [cost, dataclasses.replace(cost, name="b", training_frames_per_s=[10.0])]
    expected = 2 * (3 * frames / 2.0 + 5 * config.train.batch_size / 10.0)
    assert training_estimate_s(config, manifest, costs) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"profile": {"num_frames": 400}}, "profile.num_frames is 400 but split val holds"),
        ({"scaling": {"use_gpu": True}}, "scaling.use_gpu=true but torch sees no CUDA device"),
        (
            {"ablate": {"variants": ["a", "b model.fusoin=late"]}},
            "row b: unknown key 'model.fusoin'",
        ),
        ({"ablate": {"variants": ["a", "b prepare.split_seed=3"]}}, r"jobs\.prepare"),
        (
            {"ablate": {"variants": ["a", "b profile.num_rounds=9"]}},
            "row b changes how it is timed",
        ),
        (
            {"ablate": {"variants": ["a", "b scaling.use_gpu=true"]}},
            "row b changes how it is timed",
        ),
    ],
)
def test_what_cannot_be_timed_is_refused_before_a_run_is_begun(
    config: Config, tmp_path: Path, changes: dict, sentence: str
):
    if "scaling" in changes and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match=sentence):
        profile(
            merge(config, changes, {"tracking": {"uri": f"sqlite:///{tmp_path}/none.db"}}),
            no_progress,
        )
    assert not Path(config.storage_path).exists()
    assert not (tmp_path / "none.db").exists()


def test_batches_that_are_not_whole_are_refused(config: Config):
    with pytest.raises(ValueError, match=r"num_frames=5 is no multiple of profile\.batch_size"):
        merge(config, {"profile": {"num_frames": 5}})


def test_the_table_says_what_the_rows_are_computed_in_and_which_one_differs(config: Config):
    rows = {
        "profile": {"backward": False, "num_rounds": 1},
        "ablate": {"variants": ["a", "b train.precision=bf16"]},
    }
    profiled = profile(merge(config, rows), no_progress)
    assert "precision fp32 as train.precision asks, b in bf16;" in profiled.text
    params = MlflowClient(config.tracking.uri).get_run(profiled.facts["run_id"]).data.params
    assert params["precision"] == "fp32"


@pytest.mark.gpu
def test_peak_memory_on_a_gpu_holds_weights_and_grows_with_training(config: Config):
    worker = single_worker(lambda line: None, use_gpu=True)
    subject = subject_of(config)
    weights_gb = sum(p.numel() * p.element_size() for p in subject.model.parameters()) / 2**30
    forward_only = dataclasses.replace(config.profile, backward=False)
    scored = take_turn(subject, worker, forward_only).peak_memory_gb
    assert weights_gb < scored < take_turn(subject, worker, config.profile).peak_memory_gb
    assert all(p.device.type == "cpu" for p in subject.model.parameters())
