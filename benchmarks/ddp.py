"""Training as `jobs.train` does it against the same training by hand under torchrun.

    python -m benchmarks.ddp [--config configs/demo.yaml] [--steps 80] [--every 20] [--rounds 3]
        [--workers 2 1] [key=value ...]

After `make demo`, on its shards (synthetic data). The same model, optimizer, precision, threads and
frames per step; whole commands, which take turns:

jobs.train  as users start it: Ray Train's workers, reader, guards, metrics to MLflow; the figure is
            its own `perf/frames_per_s`, whose window holds everything between two progress lines
torchrun    `benchmarks.plain_ddp`: DDP and a loop, its batches in memory before the first step

Frames/s of windows of --every steps over all workers, the first one (warm-up) left out. Ratios are
paired by round: medians of the windows against each other.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient
from omegaconf import OmegaConf

from benchmarks import figures
from benchmarks.toy import toy_config
from pipeline.config.load import load, to_dict
from pipeline.config.schema import Config
from tests.helpers.repository import REPOSITORY


def ours(config: Config, place: Path, *, num_workers: int, num_steps: int, every: int) -> float:
    """Frames/s of jobs.train: the median of its windows after the first."""
    uri = f"sqlite:///{place}/mlflow.db"
    changes = [
        f"scaling.num_workers={num_workers}",
        f"storage_path={place / 'runs'}",
        f"tracking.uri={uri}",
        f"train.max_steps={num_steps}",
        f"train.num_epochs={num_steps}",
        f"train.validate_every_n_epochs={num_steps}",
        f"train.log_every_n_steps={every}",
    ]
    command = ["-m", "jobs.train", "--config", str(written(config, place)), *changes]
    facts = json.loads(run(command, may_fail=True))
    # So short a training may well have learned nothing; its steps cost the same.
    if facts["status"] != "finished" and facts["reason"] != "no_signal":
        raise RuntimeError(f"jobs.train failed: {facts}")
    history = MlflowClient(uri).get_metric_history(facts["run_id"], "perf/frames_per_s")
    return steady([metric.value for metric in sorted(history, key=lambda metric: metric.step)])


def theirs(config: Config, place: Path, *, num_workers: int, num_steps: int, every: int) -> float:
    """The same of the script under torchrun."""
    steps = ["--steps", str(num_steps), "--every", str(every)]
    script = ["-m", "benchmarks.plain_ddp", "--config", str(written(config, place)), *steps]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_workers)]
    return steady(json.loads(run([*torchrun, *script], may_fail=False)))


def written(config: Config, place: Path) -> Path:
    """The whole config as a file."""
    path = place / "config.yaml"
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(to_dict(config))))
    return path


def run(command: list[str], *, may_fail: bool) -> str:
    """Last line that a Python with these arguments prints."""
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, env=threads, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    if not lines or (done.returncode and not may_fail):
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    return lines[-1]


def steady(rates: list[float]) -> float:
    """Of the windows after the first, in which caches fill and kernels are chosen."""
    assert len(rates) > 1, rates
    return statistics.median(rates[1:])


def compare(
    config: Config, place: Path, *, num_workers: int, num_steps: int, every: int, rounds: int
) -> str:
    """One line: frames/s of both sides and their ratio."""
    sides = {"jobs.train": ours, "torchrun": theirs}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in list(sides.items())[:: -1 if number % 2 else 1]:
            options = {"num_workers": num_workers, "num_steps": num_steps, "every": every}
            rates[name].append(side(config, place, **options))
    ratios = [a / b for a, b in zip(rates["jobs.train"], rates["torchrun"], strict=True)]
    told = ", ".join(f"{name} {figures.spread(found, 1)}" for name, found in rates.items())
    return f"ddp: {num_workers} workers, frames/s: {told}; ratio {figures.spread(ratios)}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=REPOSITORY / "configs/demo.yaml")
    parser.add_argument(
        "--steps", type=int, default=80, help="steps of each training, within one epoch"
    )
    parser.add_argument("--every", type=int, default=20, help="steps of a window")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--toy", action="store_true", help="a small world and a small detector")
    arguments, overrides = parser.parse_known_args(argv)
    print(f"ddp: {figures.cpu()}, {figures.load()}", flush=True)
    for num_workers in arguments.workers:
        with tempfile.TemporaryDirectory(prefix="ddp-benchmark-") as place:
            folder = Path(place)
            is_toy = arguments.toy
            config = toy_config(folder) if is_toy else load(arguments.config, overrides)
            line = compare(
                config,
                folder,
                num_workers=num_workers,
                num_steps=arguments.steps,
                every=arguments.every,
                rounds=arguments.rounds,
            )
            print(line, flush=True)


if __name__ == "__main__":
    main()
