"""What ASHA saves and what it misses: a pruned search against all its trials trained to the end.

    python -m benchmarks.asha [--config configs/tune.yaml] [--seeds 0 1 2 3 4] [-- key=value ...]

After `make demo`, on the same shards (synthetic data). For each seed, of the drawing and of the
trainings, a search with ASHA as `jobs.tune` runs it, without its look at test; then the trials
that it pruned go on from their checkpoints to their end. A training that was stopped and goes on
ends as one that was never stopped (tests/training/test_loop.py), so all trials together are the
full grid of the same settings, for the price of the grid alone. A trial that a guard ends (the loss
is not finite) has the epochs it reached. Stopped, the same command goes on; a search that was
stopped has no speed.

One JSON line per seed, then one with the medians. `busy_cores`: of the whole machine while the
search ran. `overhead_s`: time per trial in which a place for a training held none, from the start
of the search to its end; it holds Ray's start and the last trials that run alone.
`early_correlation`: Spearman's, of what the trials have where they may first be pruned and of the
best that each reaches in the end; what pruning there can know.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from mlflow import MlflowClient

from pipeline.config.load import load, merge, override, to_dict
from pipeline.config.schema import Config
from pipeline.data.manifest import read_manifest
from pipeline.data.prepare.prepare import find_blocks
from pipeline.experiments.resources import num_fitting
from pipeline.experiments.search.trial import make_trial, run_trial
from pipeline.experiments.search.trial_store import FINISHED, PRUNED, Ledger, Record
from pipeline.experiments.search.tune import open_search, run_search
from pipeline.experiments.study import Study
from pipeline.experiments.variant_runs import GUARDS
from pipeline.tracking import runs

SPEED = "speed.json"
"""Of a study's folder: what its search took; a search that is found done has no speed."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One seed: the search against all of its trials in full."""

    asha_value: float
    """Validation metric of the best trial that the search trained to the end."""
    full_value: float
    """Of the best of all trials."""
    asha_epochs: int
    full_epochs: int
    early_correlation: float
    """Of the trials' ranks at the first rung and in the end."""

    @property
    def missed(self) -> float:
        return self.full_value - self.asha_value

    @property
    def epochs_share(self) -> float:
        return self.asha_epochs / self.full_epochs


def main() -> None:
    """Print one JSON line per seed and one of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/tune.yaml"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args()
    base = load(arguments.config, arguments.overrides)
    compared = []
    for seed in arguments.seeds:
        config = seeded(base, seed)
        study, speed = searched(config)
        compared.append(one := compare(config, study))
        runs.finish(config.tracking, study.run_id)
        told = {"seed": seed, "study": study.run_id}
        print(json.dumps(told | summary([one]) | speed), flush=True)
    print(json.dumps({"seeds": arguments.seeds} | summary(compared)))


def seeded(base: Config, seed: int) -> Config:
    """A study of its own for each seed."""
    seeds = [f"tune.seed={seed}", f"train.seed={seed}", f"tune.name={base.tune.name}-seed{seed}"]
    return override(base, [*seeds, "tune.scheduler=asha"])


def searched(config: Config) -> tuple[Study, dict[str, float]]:
    """The study after its search, and how fast the search was."""
    study = open_search(config, read_manifest(find_blocks(config)))
    ledger = Ledger(config, study.folder)
    begun = bool(ledger.records())
    started_s, busy = time.monotonic(), busy_cpu_s()
    run_search(config, study, ledger, say)
    seconds, busy = time.monotonic() - started_s, busy_cpu_s() - busy
    note = study.folder / SPEED
    if not note.is_file():
        speed = {"busy_cores": busy / seconds, "overhead_s": overhead_s(config, ledger, seconds)}
        # The clock knows nothing of what ran before a search was stopped.
        speed = {} if begun else speed | {"search_s": seconds}
        note.write_text(json.dumps({key: round(value, 2) for key, value in speed.items()}))
    return study, json.loads(note.read_text())


def busy_cpu_s() -> float:
    """Seconds in which this machine's cores worked, all together, since it started."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def overhead_s(config: Config, ledger: Ledger, seconds: float) -> float:
    """Seconds per trial in which a place held no training."""
    client = MlflowClient(config.tracking.uri)
    runs = [client.get_run(one.run_id).info for one in ledger.records() if one.run_id]
    trained_s = sum(run.end_time - run.start_time for run in runs if run.end_time) / 1000
    places = num_fitting(config, asked=config.tune.num_parallel)
    return (places * seconds - trained_s) / len(runs)


def compare(config: Config, study: Study) -> Compared:
    """Train what was pruned to its end."""
    records = Ledger(config, study.folder).records(FINISHED, PRUNED)
    finished = [one for one in records if one.status == FINISHED]
    if not finished:
        raise SystemExit(f"{config.tune.name}: no trial finished, nothing to compare; train longer")
    pruned = [one for one in records if one.status == PRUNED]
    histories = {one.name: [point.value for point in one.history] for one in finished}
    histories |= continued(config, study, pruned)
    return Compared(
        asha_value=max(max(histories[one.name]) for one in finished),
        full_value=max(max(values) for values in histories.values()),
        asha_epochs=sum(one.num_epochs for one in records),
        full_epochs=sum(len(values) for values in histories.values()),
        early_correlation=early_correlation(config, list(histories.values())),
    )


def early_correlation(config: Config, histories: Sequence[Sequence[float]]) -> float:
    """Of trials that a guard ended earlier nothing is known at the first rung."""
    first = config.tune.grace_period
    known = [values for values in histories if len(values) >= first]
    early, reached = [values[first - 1] for values in known], [max(values) for values in known]
    return pd.Series(early).corr(pd.Series(reached), method="spearman")


def continued(config: Config, study: Study, pruned: Sequence[Record]) -> dict[str, list[float]]:
    """Validations of every epoch, by trial."""
    import ray

    task = ray.remote(max_retries=0, num_cpus=config.scaling.cpus_per_worker)(run_on)
    limit, waiting = num_fitting(config, asked=config.tune.num_parallel), list(pruned)
    running, found = {}, {}
    while waiting or running:
        while waiting and len(running) < limit:
            record = waiting.pop(0)
            running[task.remote(to_dict(config), study, record)] = record.name
        done, _ = ray.wait(list(running), num_returns=1)
        name = running.pop(done[0])
        found[name] = ray.get(done[0])
        say(f"{name} trained to its end; {len(waiting) + len(running)} more")
    return found


def run_on(config: dict[str, Any], study: Study, record: Record) -> list[float]:
    """The whole history of a trial that goes on from its checkpoint.

    A trial that a guard ends, of which the search saved the rest, keeps what it had reached.
    """
    trial = make_trial(merge(Config(), config), study, record.name, record.settings)
    reports: list[dict[str, Any]] = []
    run_trial(trial, report=reports.append)
    values = [point.value for point in record.history]
    for told in reports:
        if "history" in told:
            values = [point["value"] for point in told["history"]]
    status, whole = reports[-1]["status"], len(values) == trial.config.train.num_epochs
    if status not in GUARDS and not (status == FINISHED and whole):
        raise RuntimeError(f"{record.name}: {reports[-1]}")
    return values


def summary(compared: Sequence[Compared]) -> dict[str, float]:
    """Medians over seeds."""
    names = ("asha_value", "full_value", "missed", "epochs_share", "early_correlation")
    return {
        name: round(statistics.median(getattr(one, name) for one in compared), 4) for name in names
    }


def say(line: str) -> None:
    """Progress, beside the results."""
    print(f"asha: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
