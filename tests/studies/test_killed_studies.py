"""jobs.ablate, killed at random moments and started again, ends as if nobody had touched it."""

import csv
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kills import Life, Moment, lives
from ray_head import short_folder
from study_runs import children, environment, every_run, histories, job, steps

from pipeline.config import Config

NUM_CELLS = 4
NUM_STEPS = 30
"""Of each training."""
STUDY = (
    "ablate.name=killed",
    'ablate.rows=["lidar model.fusion=lidar_only", "camera model.fusion=camera_only"]',
    "ablate.seeds=[0,1]",
    *("train.num_epochs=5", "train.checkpoint_every_n_steps=2"),
)
OF_THE_MACHINE = {"frames_per_s", "run_ids"}
"""Columns of the table that differ from one study to the next."""


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    folder = short_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def command(config: Config, folder: Path) -> list[str]:
    places = (f"storage_path={folder}/runs", f"tracking.uri=sqlite:///{folder}/mlflow.db")
    return job("ablate", config, *STUDY, *places)


def random_moments(seed: int, num_kills: int) -> list[Moment]:
    """While the store and the study are made, while Ray starts, and while cells run.

    A cell says its first line when it has a checkpoint, however slow the machine is.
    """
    dice, num_opening, num_starting = random.Random(seed), num_kills // 3, num_kills // 5
    opening = [Moment(delay_s=dice.uniform(4, 10)) for _ in range(num_opening)]
    starting = [Moment(after="trainings,", delay_s=dice.uniform(1, 8)) for _ in range(num_starting)]
    num_running = num_kills - num_opening - num_starting
    running = [Moment(after="-seed", delay_s=dice.uniform(0, 2.5)) for _ in range(num_running)]
    return [*opening, *starting, *running]


def notes(folder: Path) -> dict[str, tuple[int, float]]:
    """What would change if a finished cell were run again."""
    found = (folder / "runs").glob("killed-*/cells/*.json")
    return {path.name: (path.stat().st_ino, path.stat().st_mtime) for path in found}


def found_done(life: Life) -> list[int]:
    """What the job says when it has looked; it may have been killed before.

    More than were seen right after the last kill: a cell's process may outlive the job by the
    moment that its note takes.
    """
    said = re.compile(rf"ablate: {NUM_CELLS} trainings, (\d+) of them found done")
    return [int(found[1]) for line in life.lines if (found := said.fullmatch(line))]


def table(life: Life) -> list[dict[str, str]]:
    with Path(life.facts["table"]).with_suffix(".csv").open() as file:
        lines = list(csv.DictReader(file))
    return [{k: v for k, v in line.items() if k not in OF_THE_MACHINE} for line in lines]


@pytest.mark.parametrize(
    "num_kills", [pytest.param(3, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.long)]
)
def test_a_study_killed_again_and_again_ends_as_if_nobody_had_touched_it(
    tiny_config: Config, tiny_blocks: Path, tmp_path: Path, ray_folder: Path, num_kills: int
):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    surroundings = environment(ray_folder)
    (undisturbed,) = lives(command(tiny_config, calm), [], environment=surroundings)
    assert undisturbed.process.returncode == 0, "\n".join(undisturbed.lines)

    done: dict[str, tuple[int, float]] = {}
    killed_times, life, gone_on = 0, undisturbed, 0
    moments = random_moments(seed=5, num_kills=num_kills)
    for life in lives(command(tiny_config, killed), moments, environment=surroundings):
        assert set(found_done(life)) <= set(range(len(done), NUM_CELLS + 1))
        killed_times += life.killed
        gone_on += sum("going on from step" in line for line in life.lines)
        before, done = done, notes(killed)
        assert before.items() <= done.items(), "a finished cell was run again"
    assert life.process.returncode == 0, "\n".join(life.lines)
    assert killed_times == num_kills
    assert gone_on, "no kill hit a cell that had a checkpoint"
    assert table(life) == table(undisturbed)
    assert_same_runs(killed, life, calm, undisturbed)


def assert_same_runs(killed: Path, life: Life, calm: Path, undisturbed: Life) -> None:
    """One study and four children each; every metric the same, no step missing, none twice."""
    uri, calm_uri = (f"sqlite:///{folder}/mlflow.db" for folder in (killed, calm))
    study = life.facts["run_id"]
    assert {run.info.status for run in every_run(uri)} == {"FINISHED"}
    ours, theirs = children(uri, study), children(calm_uri, undisturbed.facts["run_id"])
    assert ours.keys() == theirs.keys()
    assert len(ours) == NUM_CELLS
    for name, run in ours.items():
        other = theirs[name]
        assert histories(uri, run) == histories(calm_uri, other)
        for prefix in ("train/loss", "perf/"):
            assert steps(uri, run, prefix) == steps(calm_uri, other, prefix)
        assert steps(uri, run, "train/loss")["train/loss"] == list(range(1, NUM_STEPS + 1))
        assert run.data.params.keys() == other.data.params.keys()
        for key, logged in steps(uri, run, "system/").items():
            assert len(set(logged)) == len(logged), key
