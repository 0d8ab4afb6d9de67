"""Trainings by the stream and on windows: they run, count right and say what they cannot do."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from pipeline.config.load import flatten, merge
from pipeline.config.schema import Config
from pipeline.data.manifest import read_manifest
from pipeline.evaluation.evaluate import evaluate
from pipeline.runtime.errors import RunFailed
from pipeline.training import checkpoints
from pipeline.training.trainer import Trained, fit


@pytest.fixture
def config(small_training: Config) -> Config:
    return merge(small_training, {"train": {"num_epochs": 2, "batch_size": 5}})


def quiet(line: str) -> None:
    pass


def losses(config: Config, run_id: str) -> list[float]:
    history = MlflowClient(config.tracking.uri).get_metric_history(run_id, "train/loss")
    return [metric.value for metric in sorted(history, key=lambda metric: metric.step)]


def num_steps(tiny_blocks: Path) -> int:
    num_rows = sum(shard.num_rows for shard in read_manifest(tiny_blocks).shards_of("train"))
    return 2 * -(-num_rows // 5)


def newest_position(trained: Trained) -> checkpoints.Position:
    newest = checkpoints.whole_checkpoints(trained.folder / checkpoints.FOLDER)[-1]
    return checkpoints.read_meta(newest).position


def test_a_streamed_training_takes_as_many_steps_as_one_by_blocks(
    config: Config, tiny_blocks: Path
):
    trained = fit(merge(config, {"data": {"reader": "stream"}}), say=quiet)
    assert trained.num_steps == num_steps(tiny_blocks)
    assert len(losses(config, trained.run_id)) == trained.num_steps
    assert len(trained.history) == 2


def test_a_streamed_run_that_ended_inside_an_epoch_is_not_resumed(config: Config):
    streaming = merge(config, {"data": {"reader": "stream"}, "train": {"max_steps": 2}})
    trained = fit(streaming, say=quiet)
    assert newest_position(trained).step_in_epoch == 2
    more = {"train": {"resume": str(trained.folder), "max_steps": 0}}
    with pytest.raises(ValueError, match=r"ended inside an epoch \(after 2 of its steps\), and"):
        fit(merge(streaming, more), say=quiet)


def test_a_run_is_not_resumed_with_another_reader_or_window(config: Config):
    trained = fit(merge(config, {"train": {"num_epochs": 1}}), say=quiet)
    for change, told in (({"reader": "stream"}, "blocks -> stream"), ({"num_sweeps": 2}, "1 -> 2")):
        other = merge(config, {"train": {"resume": str(trained.folder)}, "data": change})
        with pytest.raises(ValueError, match=rf"other settings \(data\.\w+ {told}\)"):
            fit(other, say=quiet)


@pytest.mark.slow
def test_a_training_on_windows_is_evaluated_on_windows_and_counts_current_points(config: Config):
    """Also when the evaluation's own config says nothing of windows."""
    single = fit(config, say=quiet)
    windowed = fit(merge(config, {"data": {"num_sweeps": 3}}), say=quiet)
    assert losses(config, single.run_id) != losses(config, windowed.run_id)
    tallies = []
    for trained in (single, windowed):
        place = {"evaluation": {"checkpoint": str(trained.folder)}}
        found = evaluate(merge(config, place), watch=lambda phase: lambda done, total: None)
        tallies.append(found.tally)
    one, other = (tally.counts("point").to_array().sum(axis=1).tolist() for tally in tallies)
    assert one == other
    assert (tallies[0].frames()["num_points"] == tallies[1].frames()["num_points"]).all()


def test_a_stream_needs_a_cpu_beside_the_workers(config: Config, ray_session: None):
    """Without it the workers hold all CPUs and wait for ever for tasks that read."""
    full = {"data": {"reader": "stream"}, "scaling": {"num_workers": 4}}
    with pytest.raises(RunFailed, match="scaling asks for 5 CPU but the cluster has 4") as failure:
        fit(merge(config, full), say=quiet)
    assert failure.value.reason == "no_resources"


def command(config: Config) -> list[str]:
    """The train job with this config as overrides."""
    defaults = flatten(Config())
    overrides = [
        f"{key}={json.dumps(value) if isinstance(value, bool) else value}"
        for key, value in flatten(config).items()
        if value != defaults[key] and not key.startswith("synthetic.")
    ]
    return [sys.executable, "-m", "jobs.train", *overrides]


TWO_STREAMING = {"data": {"reader": "stream"}, "scaling": {"num_workers": 2}}


@pytest.mark.slow
def test_two_workers_stream_and_begin_an_epoch_again_when_one_is_killed(
    config: Config, tiny_blocks: Path
):
    """Ray starts both workers anew; they go on from the last epoch's end, and no step is lost."""
    changed = merge(config, TWO_STREAMING)
    lines: list[str] = []
    with subprocess.Popen(
        command(changed), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as job:
        assert job.stderr is not None
        assert job.stdout is not None
        for line in job.stderr:
            lines.append(line)
            if "epoch 2/2" in line and sum("epoch 2/2" in told for told in lines) == 1:
                kill_a_worker(job.pid)
        facts = json.loads(job.stdout.read().splitlines()[-1])
    assert job.returncode == 0, "".join(lines)
    first_of_epoch = f"step {num_steps(tiny_blocks) // 2 + 1}/"
    assert sum(first_of_epoch in line for line in lines) == 2
    assert len(losses(changed, facts["run_id"])) == num_steps(tiny_blocks)


def kill_a_worker(job: int) -> None:
    """SIGKILL to one Ray Train worker among the processes that the job started."""
    children = psutil.Process(job).children(recursive=True)
    workers = [one for one in children if "RayTrainWorker" in " ".join(one.cmdline())]
    assert len(workers) == 2, workers
    workers[-1].kill()
