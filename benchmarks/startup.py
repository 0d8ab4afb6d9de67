"""What is paid before the work begins: arguments, shards, and the trials of a search.

    python -m benchmarks.startup [--config configs/demo.yaml] [--rounds 3] [--trials 6]
        [--toy] [-- key=value ...]

After `make demo`, on its shards (synthetic data). One JSON line each, medians of the rounds:

`help`, `refused`: `--help` of every job, and a config with a typo, in a process of its own.
`opening`: the prepared folder found and its train split opened, in this process.
`trials`: a search of short trainings, one after another, each in its own process
(`scaling.num_workers=0`). `gap_s`: from the end of a training in MLflow to the start of the next,
the median over trials; `first_s`: to the first one, Ray's start included; `overhead_s`: the figure
of benchmarks.asha, all of it per trial. With `--trials 0` it is left out.

CPU seconds are of the process and all that it started; they alone can be compared on a machine that
has other work.
"""

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from benchmarks import figures
from benchmarks.toy import toy_config
from pipeline.config.load import load, merge
from pipeline.config.schema import Config
from pipeline.data.manifest import read_manifest
from pipeline.data.prepare.prepare import find_blocks
from pipeline.data.readers import open_reader
from pipeline.experiments.search.trial_store import Ledger
from pipeline.experiments.search.tune import open_search, run_search

JOBS = Path(__file__).parents[1] / "jobs"
NOT_JOBS = ("__init__", "__main__", "command", "progress")


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON line per part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--toy", action="store_true", help="a small world, two of the jobs")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        is_toy = arguments.toy
        config = toy_config(folder) if is_toy else load(arguments.config, arguments.overrides)
        say_part("machine", {"cpu": figures.cpu(), "load": figures.load()})
        names = job_names()[:2] if is_toy else job_names()
        for part, word in (("help", "--help"), ("refused", "trian.lr=1")):
            for name in names:
                times = process(["-m", f"jobs.{name}", word], rounds=arguments.rounds)
                say_part(part, {"job": name} | times)
        say_part("opening", opening(config, rounds=arguments.rounds))
        if arguments.trials:
            say_part("trials", trials(short(config, folder / "search", arguments.trials)))


def say_part(part: str, facts: dict[str, Any]) -> None:
    """One JSON line."""
    print(json.dumps({"part": part} | facts), flush=True)


def job_names() -> list[str]:
    """Every file of jobs/ that is one."""
    return sorted(path.stem for path in JOBS.glob("*.py") if path.stem not in NOT_JOBS)


def process(words: Sequence[str], *, rounds: int) -> dict[str, float]:
    """Median CPU and wall seconds of a Python with these arguments."""

    def once() -> None:
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=JOBS.parent, capture_output=True, check=False)
        # 0 for help, 2 for a config that is refused; anything else measures something else.
        if done.returncode not in (0, 2):
            raise RuntimeError(done.stderr.decode())

    return medians([measured(once, of=resource.RUSAGE_CHILDREN) for _ in range(rounds)])


def opening(config: Config, *, rounds: int) -> dict[str, float]:
    """Median seconds to find the prepared folder and to open its train split."""
    folder = find_blocks(config)

    def opened() -> None:
        open_reader(config, folder, "train", num_sweeps=config.data.num_sweeps, say=say)

    found = medians([measured(lambda: find_blocks(config)) for _ in range(rounds)])
    read = medians([measured(opened) for _ in range(rounds)])
    num_rows = sum(shard.num_rows for shard in read_manifest(folder).shards_of("train"))
    times = {f"find_{key}": value for key, value in found.items()}
    return times | {f"open_{key}": value for key, value in read.items()} | {"num_rows": num_rows}


def short(config: Config, folder: Path, num_trials: int) -> Config:
    """The config's search of trainings of a few steps, with results of its own."""
    return merge(
        config,
        {
            "storage_path": str(folder / "runs"),
            "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
            "scaling": {"num_workers": 0},
            "train": {"num_epochs": 1, "max_steps": 2},
            "health_checks": {"enabled": False},
            "tune": {
                "space": ["train.lr loguniform 1e-4 1e-2"],
                "searcher": "random",
                "num_samples": num_trials,
                "num_parallel": 1,
                "grace_period": 1,
            },
        },
    )


def trials(config: Config) -> dict[str, Any]:
    """Seconds between the trainings of a search."""
    study = open_search(config, read_manifest(find_blocks(config)))
    ledger = Ledger(config, study.folder)
    started_s = time.time()
    run_search(config, study, ledger, say)
    seconds = time.time() - started_s
    client = MlflowClient(config.tracking.uri)
    runs = [client.get_run(one.run_id).info for one in ledger.records()]
    spans = sorted((run.start_time / 1000, (run.end_time or 0) / 1000) for run in runs)
    gaps = [start - end for (_, end), (start, _) in itertools.pairwise(spans)]
    trained_s = sum(end - start for start, end in spans)
    return rounded(
        {
            "num_trials": len(spans),
            "gap_s": statistics.median(gaps),
            "longest_gap_s": max(gaps),
            "first_s": spans[0][0] - started_s,
            "overhead_s": (seconds - trained_s) / len(spans),
            "trained_s": trained_s / len(spans),
        }
    )


def measured(work: Callable[[], object], *, of: int = resource.RUSAGE_SELF) -> dict[str, float]:
    """CPU and wall seconds of one call."""
    before, started_s = cpu_s(of), time.perf_counter()
    work()
    return {"cpu_s": cpu_s(of) - before, "wall_s": time.perf_counter() - started_s}


def cpu_s(of: int) -> float:
    """Of this process, or of those that it started and that have ended."""
    used = resource.getrusage(of)
    return used.ru_utime + used.ru_stime


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of each figure over the rounds."""
    return rounded({key: statistics.median(one[key] for one in rounds) for key in rounds[0]})


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """To the millisecond."""
    return {key: round(value, 3) for key, value in figures.items()}


def say(line: str) -> None:
    """Progress, beside the results."""
    print(f"startup: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
