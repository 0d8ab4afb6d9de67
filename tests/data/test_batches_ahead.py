"""Batches made ahead are the same batches, leave no thread behind, and may be bounded by points."""

import threading
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.batch import Batch
from pipeline.training import checkpoints
from pipeline.training.data_loop import BlockSteps
from pipeline.training.timing import TRACE
from pipeline.training.trainer import Trained, fit
from pipeline.training.worker import single_worker

COUNTS = [[7, 0, 12, 30], [5], [9, 9, 40], [1, 2, 3, 4, 5, 6], [20, 300]]


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory, random_row, write_prepared) -> Path:
    numbers = iter(range(99))
    parts = [[random_row(next(numbers), count) for count in shard] for shard in COUNTS]
    return write_prepared(tmp_path_factory.mktemp("ahead"), {"train": parts})


def steps_of(folder: Path, **changes: dict) -> BlockSteps:
    return BlockSteps(merge(Config(), changes), folder, single_worker(quiet, use_gpu=False))


def all_batches(steps: BlockSteps) -> list[Batch]:
    found = [batch for epoch in (0, 1) for batch in steps.epoch(epoch, first_step=0)]
    steps.close()
    return found


def batch_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_batches_made_ahead_are_those_made_when_asked_for(folder: Path, depth: int):
    plain = all_batches(steps_of(folder, data={"prefetch_batches": 0}))
    ahead = all_batches(steps_of(folder, data={"prefetch_batches": depth}))
    assert len(plain) == len(ahead) > 0
    for one, other in zip(plain, ahead, strict=True):
        for a, b in zip(one.tensors(), other.tensors(), strict=True):
            assert torch.equal(a, b)
    assert batch_threads() == []


@pytest.mark.parametrize("limit", [25, 60, 400])
def test_steps_bounded_by_points_show_every_frame_once(folder: Path, limit: int):
    steps = steps_of(folder, train={"points_per_batch": limit}, data={"ego_box_m": [0, 0]})
    for epoch in (0, 1):
        batches = list(steps.epoch(epoch, first_step=0))
        assert len(batches) == steps.in_epoch(epoch)
        assert [b.num_frames for b in batches] == [
            steps.num_frames(epoch, step) for step in range(len(batches))
        ]
        assert all(b.num_frames == 1 or len(b.points) <= limit for b in batches)
        rows = torch.cat([batch.row for batch in batches]).tolist()
        assert sorted(rows) == list(range(sum(map(len, COUNTS))))
    steps.close()


def test_a_stream_cannot_be_bounded_by_points():
    with pytest.raises(ValueError, match=r"points_per_batch=9 plans steps before they are read"):
        merge(Config(), {"train": {"points_per_batch": 9}, "data": {"reader": "stream"}})


def test_restarts_count_equal_epochs():
    with pytest.raises(ValueError, match=r"points_per_batch=9 makes epochs of unequal length"):
        merge(Config(), {"train": {"points_per_batch": 9, "lr_restart_epochs": [2]}})


def final_tensors(trained: Trained) -> dict[str, torch.Tensor]:
    newest = checkpoints.whole_checkpoints(trained.folder / checkpoints.FOLDER)[-1]
    return load_file(newest / checkpoints.TENSORS)


@pytest.mark.slow
def test_a_run_bounded_by_points_goes_on_inside_an_epoch(small_training: Config):
    points = {"points_per_batch": 16_000, "num_epochs": 2, "checkpoint_every_n_steps": 1}
    config = merge(small_training, {"train": points})
    whole = final_tensors(fit(config, say=quiet))

    def stop(line: str) -> None:
        if "step 3/" in line:
            raise KeyboardInterrupt

    place = merge(config, {"storage_path": f"{config.storage_path}-stopped"})
    with pytest.raises(KeyboardInterrupt):
        fit(place, say=stop)
    assert batch_threads() == []
    (stopped,) = (path for path in Path(place.storage_path).iterdir() if path.is_dir())
    resumed = final_tensors(fit(merge(place, {"train": {"resume": str(stopped)}}), say=quiet))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_training_says_where_its_time_went_and_keeps_a_trace(small_training: Config):
    lines: list[str] = []
    config = merge(small_training, {"train": {"profile_steps": 2, "num_epochs": 2}})
    trained = fit(config, say=lines.append)
    assert sum("of the rate with batches that are always ready" in line for line in lines) == 1
    assert "ProfilerStep" in (trained.folder / TRACE).read_text()
    client = MlflowClient(config.tracking.uri)
    assert TRACE in [artifact.path for artifact in client.list_artifacts(trained.run_id)]
    names = client.get_run(trained.run_id).data.metrics
    assert {"perf/data_wait_share", "perf/step_ms", "perf/frames_per_s"} <= names.keys()
    assert 0 <= names["perf/data_wait_share"] < 1
    assert batch_threads() == []
