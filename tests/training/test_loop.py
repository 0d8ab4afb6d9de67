"""Training on tiny synthetic shards: reproducible, resumable, able to learn, honest at the end."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.prepare.prepare import find_blocks
from pipeline.data.readers import open_reader
from pipeline.evaluation.evaluate import load_run
from pipeline.runtime.errors import RunFailed
from pipeline.runtime.progress import Say
from pipeline.training import checkpoints
from pipeline.training.trainer import Trained, fit
from pipeline.training.validation import validate
from pipeline.training.worker import single_worker

TINY = {
    "model": {"image_channels": 16, "point_channels": 16, "image_stages": 2, "dropout": 0.1},
    "train": {
        "num_epochs": 2,
        "batch_size": 4,
        "warmup_steps": 2,
        "log_every_n_steps": 1,
        "checkpoint_every_n_steps": 2,
    },
    "scaling": {"num_workers": 0},
    "health_checks": {"no_signal_margin": 0.0},
}


HOPELESS = {"train": {"num_epochs": 8, "lr": 1e-12, "patience": 2}}
FROZEN = {"train": {"lr": 1e-12}, "health_checks": {"enabled": True, "no_signal_margin": 0.5}}


Place = Callable[[Path], Config]


@pytest.fixture(scope="module")
def config_in(tiny_config: Config, new_store: Callable[[Path], str]) -> Place:
    """The config of these trainings with runs and store in a folder."""

    def place(folder: Path) -> Config:
        paths = {"storage_path": str(folder / "runs"), "tracking": {"uri": new_store(folder)}}
        return merge(tiny_config, TINY, paths)

    return place


@pytest.fixture
def config(config_in: Place, tmp_path: Path) -> Config:
    return config_in(tmp_path)


@pytest.fixture(scope="module")
def whole(config_in: Place, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run that nobody stopped; not to change."""
    return try_fit(config_in(tmp_path_factory.mktemp("whole")))


@pytest.fixture(scope="module")
def averaged(config_in: Place, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same with averaged weights; not to change."""
    config = config_in(tmp_path_factory.mktemp("averaged"))
    return try_fit(merge(config, {"train": {"ema_decay": 0.9}}))


@pytest.fixture(scope="module")
def hopeless(
    config_in: Place, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, Trained, list[str]]:
    """A run that runs out of patience: its config, itself and what it told; not to change."""
    lines: list[str] = []
    config = merge(config_in(tmp_path_factory.mktemp("hopeless")), HOPELESS)
    return config, try_fit(config, say=lines.append), lines


def quiet(line: str) -> None:
    pass


def copy_of(trained: Trained, folder: Path) -> Path:
    """Of its run folder, to be changed."""
    return Path(shutil.copytree(trained.folder, folder / trained.folder.name))


def final_tensors(trained: Trained) -> dict[str, torch.Tensor]:
    newest = checkpoints.whole_checkpoints(trained.folder / checkpoints.FOLDER)[-1]
    return load_file(newest / checkpoints.TENSORS)


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def try_fit(config: Config, say=quiet) -> Trained:
    """`fit` without the verdict on learning: a few steps need not have learned anything."""
    return fit(merge(config, {"health_checks": {"enabled": False}}), say=say)


def stop_at(step: int) -> Say:
    """Ends a training, as ctrl-C does, when it tells of this step."""

    def say(line: str) -> None:
        if f"step {step}/" in line:
            raise KeyboardInterrupt

    return say


def test_one_seed_twice_is_bitwise_equal(config: Config, whole: Trained):
    assert_same(final_tensors(try_fit(config)), final_tensors(whole))


def test_a_stopped_and_resumed_run_equals_one_that_never_stopped(config: Config, whole: Trained):
    """Its curve holds every step once, too."""
    with pytest.raises(KeyboardInterrupt):
        try_fit(config, say=stop_at(3))
    (stopped,) = [
        p
        for p in Path(config.storage_path).iterdir()
        if p.is_dir()
        and checkpoints.whole_checkpoints(p / checkpoints.FOLDER)
        and checkpoints.read_meta(
            checkpoints.whole_checkpoints(p / checkpoints.FOLDER)[-1]
        ).position.step
        == 2
    ]
    resumed = try_fit(merge(config, {"train": {"resume": str(stopped)}}))
    assert resumed.folder == stopped
    assert_same(final_tensors(whole), final_tensors(resumed))
    client = MlflowClient(config.tracking.uri)
    steps = [m.step for m in client.get_metric_history(resumed.run_id, "train/loss")]
    assert steps == list(range(1, resumed.num_steps + 1))
    assert client.get_run(resumed.run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_a_resumed_run_averages_on(config: Config, averaged: Trained):
    """From inside an epoch and from its end, both as if it had never stopped."""
    never_stopped = final_tensors(averaged)
    assert any(name.startswith(checkpoints.TRAINED) for name in never_stopped)
    for step in (3, 4):
        runs = {"storage_path": f"{config.storage_path}-{step}", "train": {"ema_decay": 0.9}}
        place = merge(config, runs)
        with pytest.raises(KeyboardInterrupt):
            try_fit(place, say=stop_at(step))
        (stopped,) = (p for p in Path(place.storage_path).iterdir() if p.is_dir())
        resumed = try_fit(merge(place, {"train": {"resume": str(stopped)}}))
        assert_same(never_stopped, final_tensors(resumed))


def test_what_is_kept_is_the_average_of_the_weights_so_far(config: Config):
    """With a decay that the rising one does not reach: the trained weights of every step count."""
    short = {"train": {"ema_decay": 0.9, "checkpoint_every_n_steps": 1, "num_epochs": 1}}
    seen: list[dict[str, torch.Tensor]] = []

    def look(line: str) -> None:
        for folder in Path(config.storage_path).glob(f"*/{checkpoints.FOLDER}"):
            seen.extend(
                load_file(newest / checkpoints.TENSORS)
                for newest in checkpoints.whole_checkpoints(folder)[-1:]
            )

    last = final_tensors(try_fit(merge(config, short), say=look))
    names = [n.removeprefix(checkpoints.TRAINED) for n in last if n.startswith(checkpoints.TRAINED)]
    steps = {float(t[f"optimizer.{names[0]}.step"]): t for t in [*seen, last]}
    weights = [steps[step] for step in sorted(steps)]
    assert sorted(steps) == [float(step) for step in range(1, len(weights) + 1)]
    for name in names:
        average = weights[0][checkpoints.TRAINED + name]
        for count, tensors in enumerate(weights[1:], 1):
            decay = min(0.9, (1 + count) / (10 + count))
            average = decay * average + (1 - decay) * tensors[checkpoints.TRAINED + name]
        torch.testing.assert_close(last[checkpoints.MODEL + name], average)


def test_the_average_changes_nothing_of_the_training(whole: Trained, averaged: Trained):
    plain, both = final_tensors(whole), final_tensors(averaged)
    for name in (n.removeprefix(checkpoints.MODEL) for n in plain if n.startswith("model.")):
        assert torch.equal(plain[f"model.{name}"], both[f"trained.{name}"]), name


def test_what_was_validated_is_what_evaluation_loads(config: Config, averaged: Trained):
    loaded = load_run(averaged.folder)
    val = open_reader(config, find_blocks(config), "val", num_sweeps=1, say=quiet)
    worker = single_worker(quiet, use_gpu=False)
    metrics, _ = validate(
        loaded.model, val, worker, config=config, precision="fp32", pos_weight=1.0
    )
    assert metrics["val/point_ap"] == loaded.meta.metrics["val/point_ap"]


def test_training_ends_when_no_validation_is_better(
    hopeless: tuple[Config, Trained, list[str]], tmp_path: Path
):
    config, trained, lines = hopeless
    assert len(trained.history) == 3
    assert any("no better val/point_ap since step" in line for line in lines)
    resume = {"train": {"resume": str(copy_of(trained, tmp_path))}}
    again = try_fit(merge(config, resume))
    assert again.history == trained.history
    longer = try_fit(merge(config, resume, {"train": {"patience": 4}}))
    assert len(longer.history) == 5


def test_a_training_that_ends_early_is_judged(config: Config):
    frozen = {
        "train": {"lr": 1e-12, "patience": 1, "num_epochs": 8},
        "health_checks": {"enabled": True, "no_signal_margin": 0.5},
    }
    with pytest.raises(RunFailed) as failure:
        fit(merge(config, frozen), say=quiet)
    assert failure.value.reason == "no_signal"


@pytest.mark.slow
def test_what_is_validated_at_a_restart_is_what_a_shorter_training_reaches(config: Config):
    restarted = try_fit(merge(config, {"train": {"lr_restart_epochs": [1]}}))
    short = try_fit(merge(config, {"train": {"num_epochs": 1}}))
    assert len(restarted.history) == 2
    assert restarted.history[0] == short.history[0]


@pytest.mark.slow
def test_a_few_batches_can_be_overfit(config: Config):
    """By the mean over an epoch: batches without anomalies have next to no loss from the start."""
    steps = {
        "train": {
            "num_epochs": 15,
            "lr": 5e-3,
            "augment": False,
            "validate_every_n_epochs": 15,
            "checkpoint_every_n_steps": 0,
        },
        "model": {"dropout": 0.0},
    }
    trained = try_fit(merge(config, steps))
    client = MlflowClient(config.tracking.uri)
    losses = [m.value for m in client.get_metric_history(trained.run_id, "train/loss")]
    num_batches = len(losses) // 15
    assert sum(losses[-num_batches:]) < 0.2 * sum(losses[:num_batches])


def test_the_best_checkpoint_is_the_one_with_the_highest_validation_ap(
    hopeless: tuple[Config, Trained, list[str]],
):
    _, trained, _ = hopeless
    best = max(trained.history, key=lambda row: row["val/point_ap"])
    assert best["step"] < trained.num_steps
    assert checkpoints.read_meta(trained.checkpoint).position.step == best["step"]


def test_a_run_that_learned_nothing_is_failed_with_tag_no_signal_and_so_it_is_resumed(
    config: Config,
):
    with pytest.raises(RunFailed) as failure:
        fit(merge(config, FROZEN), say=quiet)
    assert failure.value.reason == "no_signal"
    run = MlflowClient(config.tracking.uri).get_run(failure.value.facts["run_id"])
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"] == "no_signal"
    again = merge(config, FROZEN, {"train": {"resume": failure.value.facts["folder"]}})
    with pytest.raises(RunFailed) as second:
        fit(again, say=quiet)
    assert second.value.reason == "no_signal"


def test_another_split_is_refused_on_resume(config: Config, whole: Trained, tmp_path: Path):
    folder = copy_of(whole, tmp_path)
    newest = checkpoints.whole_checkpoints(folder / checkpoints.FOLDER)[-1]
    model_and_meta = checkpoints.read_meta(newest)
    text = (newest / checkpoints.META).read_text().replace(model_and_meta.split_hash, "0" * 12)
    (newest / checkpoints.META).write_text(text)
    with pytest.raises(ValueError, match=r"point data\.blocks at the original shards"):
        try_fit(merge(config, {"train": {"resume": str(folder), "num_epochs": 4}}))


def test_a_missing_gpu_is_an_error_not_silent_cpu(config: Config):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match=r"scaling\.use_gpu=true but torch sees no CUDA device"):
        fit(merge(config, {"scaling": {"use_gpu": True}}), say=quiet)


@pytest.mark.slow
@pytest.mark.parametrize("frames_per_gpu", [0, 1])
def test_two_workers_equal_one_at_the_same_global_batch(
    config: Config, ray_session, frames_per_gpu: int
):
    """fp32, no dropout: every step's loss agrees to 1e-6, also where the two add up gradients.

    So do the weights, but for the few whose gradient is about zero: Adam divides it by its own
    size, which turns rounding into steps of up to the learning rate.
    """
    exact = merge(config, {"model": {"dropout": 0.0}, "train": {"num_epochs": 1}})
    apart = {"scaling": {"num_workers": 2}, "train": {"frames_per_gpu": frames_per_gpu}}
    one, two = try_fit(exact), try_fit(merge(exact, apart))
    client = MlflowClient(config.tracking.uri)
    curves = [
        [m.value for m in client.get_metric_history(r.run_id, "train/loss")] for r in (one, two)
    ]
    assert len(curves[0]) == len(curves[1]) == one.num_steps
    assert curves[0] == pytest.approx(curves[1], rel=1e-6)
    a, b = final_tensors(one), final_tensors(two)
    for name in a:
        if name.startswith("model."):
            apart = (a[name] - b[name]).abs()
            assert apart.double().quantile(0.999) < 1e-6, name
            assert apart.max() < config.train.lr, name


def test_more_workers_than_the_cluster_can_hold_are_refused_in_one_sentence(
    config: Config, ray_session
):
    wide = merge(
        config,
        {"scaling": {"num_workers": 64, "cpus_per_worker": 4.0}, "train": {"batch_size": 64}},
    )
    with pytest.raises(RunFailed, match="scaling asks for 256 CPU") as failure:
        fit(wide, say=quiet)
    assert failure.value.reason == "no_resources"


def test_job_survives_a_trip_through_plain_dicts(config: Config):
    assert merge(Config(), dataclasses.asdict(config)) == config


def test_a_run_that_max_steps_ended_inside_an_epoch_goes_on_there(config: Config):
    short = try_fit(merge(config, {"train": {"max_steps": 3, "lr_schedule": "none"}}))
    (newest, *_) = reversed(checkpoints.whole_checkpoints(short.folder / checkpoints.FOLDER))
    position = checkpoints.read_meta(newest).position
    assert (position.epoch, position.step_in_epoch, position.step) == (0, 3, 3)


def test_a_run_is_not_resumed_with_other_settings(config: Config, whole: Trained):
    other = merge(config, {"train": {"resume": str(whole.folder), "lr": 0.5}})
    with pytest.raises(ValueError, match=r"other settings \(train\.lr 0\.002 -> 0\.5\)"):
        try_fit(other)


def test_a_storage_path_that_cannot_be_written_leaves_no_run_behind(config: Config, tmp_path: Path):
    (tmp_path / "file").write_text("")
    place = {
        "storage_path": str(tmp_path / "file" / "runs"),
        "tracking": {"uri": f"sqlite:///{tmp_path}/none.db"},
    }
    with pytest.raises(OSError, match="file"):
        try_fit(merge(config, place))
    assert not (tmp_path / "none.db").exists()


def test_a_step_that_is_not_finite_never_reaches_a_checkpoint(config: Config):
    """The first step makes the weights huge; it is the second one whose loss is not finite."""
    wild = {"train": {"lr": 1e30, "warmup_steps": 0, "checkpoint_every_n_steps": 1, "grad_clip": 0}}
    with pytest.raises(RunFailed, match=r"is (nan|inf) at step 1") as failure:
        try_fit(merge(config, wild))
    assert failure.value.reason == "non_finite"
    whole = checkpoints.whole_checkpoints(Path(failure.value.facts["folder"]) / checkpoints.FOLDER)
    assert [checkpoints.read_meta(path).position.step for path in whole] == [1]
    assert all(
        tensor.isfinite().all() for tensor in load_file(whole[0] / checkpoints.TENSORS).values()
    )
