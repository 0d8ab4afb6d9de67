"""jobs.ablate, killed at random moments and started again, ends as if nobody had touched it."""

import csv
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.load import load
from pipeline.config.schema import Config
from pipeline.experiments.ablation import ablate
from tests.helpers.kills import Life, Moment, lives
from tests.helpers.ray_head import short_folder
from tests.helpers.study_runs import children, environment, every_run, histories, job, steps, words

NUM_STEPS = 18
"""Of each training."""
STUDY = (
    "ablate.name=killed",
    'ablate.variants=["lidar model.fusion=lidar_only", "camera model.fusion=camera_only"]',
    *("train.num_epochs=3", "train.checkpoint_every_n_steps=2"),
)
OF_THE_MACHINE = {"frames_per_s", "run_ids"}
"""Columns of the table that differ from one study to the next."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A study and the moments at which it is killed."""

    seeds: list[int]
    num_parallel: int
    moments: list[Moment]

    @property
    def num_runs(self) -> int:
        """Two rows for each seed."""
        return 2 * len(self.seeds)

    def overrides(self, folder: Path) -> list[str]:
        """Of the study, with runs and MLflow in this folder."""
        own = (f"ablate.seeds={self.seeds}", f"ablate.num_parallel={self.num_parallel}")
        places = (f"storage_path={folder}/runs", f"tracking.uri=sqlite:///{folder}/mlflow.db")
        return [*STUDY, *own, *places]


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    folder = short_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def moments_of_each_kind(seed: int) -> list[Moment]:
    """While the study begins, in the first of two runs, and in the second.

    A training's first line here is of its first validation, so it has a checkpoint, however slow
    the machine is.
    """
    dice = random.Random(seed)
    return [
        Moment(delay_s=dice.uniform(4, 10)),
        Moment(after="-seed", delay_s=dice.uniform(0, 1)),
        Moment(after="done; 1 of", delay_s=dice.uniform(0, 1)),
    ]


def random_moments(seed: int, num_kills: int) -> list[Moment]:
    """While the store and the study are made, while Ray starts, and while trainings run."""
    dice, num_opening, num_starting = random.Random(seed), num_kills // 3, num_kills // 5
    opening = [Moment(delay_s=dice.uniform(4, 10)) for _ in range(num_opening)]
    starting = [Moment(after="trainings,", delay_s=dice.uniform(1, 8)) for _ in range(num_starting)]
    num_running = num_kills - num_opening - num_starting
    running = [Moment(after="-seed", delay_s=dice.uniform(0, 2.5)) for _ in range(num_running)]
    return [*opening, *starting, *running]


ONE_BY_ONE = Chain(seeds=[0], num_parallel=1, moments=moments_of_each_kind(5))
SIDE_BY_SIDE = Chain(seeds=[0, 1], num_parallel=0, moments=random_moments(5, 10))


def notes(folder: Path) -> dict[str, tuple[int, float]]:
    """What would change if a finished training were run again."""
    found = (folder / "runs").glob("killed-*/finished/*.json")
    return {path.name: (path.stat().st_ino, path.stat().st_mtime) for path in found}


def found_done(life: Life, num_runs: int) -> list[int]:
    """What the job says when it has looked; it may have been killed before.

    More than were seen right after the last kill: a training's process may outlive the job by the
    moment that its note takes.
    """
    said = re.compile(rf"ablate: {num_runs} trainings, (\d+) of them already finished")
    return [int(found[1]) for line in life.lines if (found := said.fullmatch(line))]


def table(facts: dict[str, Any]) -> list[dict[str, str]]:
    with Path(facts["table"]).with_suffix(".csv").open() as file:
        lines = list(csv.DictReader(file))
    return [{k: v for k, v in line.items() if k not in OF_THE_MACHINE} for line in lines]


@pytest.mark.parametrize(
    "chain",
    [
        pytest.param(ONE_BY_ONE, id="3", marks=pytest.mark.slow),
        pytest.param(SIDE_BY_SIDE, id="10", marks=pytest.mark.long),
    ],
)
def test_a_study_killed_again_and_again_ends_as_if_nobody_had_touched_it(
    tiny_config: Config,
    tiny_blocks: Path,
    new_store: Callable[[Path], str],
    tmp_path: Path,
    ray_folder: Path,
    chain: Chain,
):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    calm.mkdir()
    new_store(calm)
    undisturbed = ablate(
        load(None, [*words(tiny_config), *chain.overrides(calm)]), say=lambda line: None
    ).facts

    done: dict[str, tuple[int, float]] = {}
    killed_times, life, gone_on = 0, None, 0
    command = job("ablate", tiny_config, *chain.overrides(killed))
    for life in lives(command, chain.moments, environment=environment(ray_folder)):
        counts = range(len(done), chain.num_runs + 1)
        assert set(found_done(life, chain.num_runs)) <= set(counts)
        killed_times += life.killed
        gone_on += sum("resumes from step" in line for line in life.lines)
        before, done = done, notes(killed)
        assert before.items() <= done.items(), "a finished training was run again"
    assert life is not None
    assert life.process.returncode == 0, "\n".join(life.lines)
    assert killed_times == len(chain.moments)
    assert gone_on, "no kill hit a training that had a checkpoint"
    assert table(life.facts) == table(undisturbed)
    assert_same_runs(killed, life.facts["run_id"], calm, undisturbed["run_id"])
    assert len(notes(killed)) == chain.num_runs


def assert_same_runs(killed: Path, study: str, calm: Path, undisturbed: str) -> None:
    """One study with the same children each; every metric the same, none missing, none twice."""
    uri, calm_uri = (f"sqlite:///{folder}/mlflow.db" for folder in (killed, calm))
    assert {run.info.status for run in every_run(uri)} == {"FINISHED"}
    ours, theirs = children(uri, study), children(calm_uri, undisturbed)
    assert ours.keys() == theirs.keys()
    assert len(ours) == len(notes(killed))
    for name, run in ours.items():
        other = theirs[name]
        assert histories(uri, run) == histories(calm_uri, other)
        for prefix in ("train/loss", "perf/"):
            assert steps(uri, run, prefix) == steps(calm_uri, other, prefix)
        assert steps(uri, run, "train/loss")["train/loss"] == list(range(1, NUM_STEPS + 1))
        assert run.data.params.keys() == other.data.params.keys()
        for key, logged in steps(uri, run, "system/").items():
            assert len(set(logged)) == len(logged), key
