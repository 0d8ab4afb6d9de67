"""Runs of a study: one training with its evaluation each, side by side, each done once.

A run is a Ray task. Killed at any moment and started again, a study finds the runs that are done
by their notes, and the others go on in their own MLflow run from their newest checkpoint. On a
remote storage path results and note are there as soon as the run is done, for any other node.
"""

import dataclasses
import json
import logging
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.load import merge, to_dict
from pipeline.config.schema import Config
from pipeline.data.manifest import read_manifest
from pipeline.data.prepare.prepare import find_blocks
from pipeline.evaluation.evaluate import evaluate_run
from pipeline.experiments.resources import num_fitting
from pipeline.experiments.study import Study
from pipeline.metrics.tally import SplitCounts
from pipeline.models.detector import build_detector
from pipeline.runtime import remote_storage
from pipeline.runtime.errors import RunFailed
from pipeline.runtime.file_lock import file_lock
from pipeline.runtime.progress import Say
from pipeline.runtime.ray_cluster import ensure_ray
from pipeline.tracking import runs
from pipeline.training.ray_errors import cause_of
from pipeline.training.trainer import ParentRun, fit
from pipeline.training.worker_logs import printing

logger = logging.getLogger(__name__)
GUARDS = ("collapsed", "no_signal", "non_finite", "one_class")
"""Reasons of a failed run that are a result: the same config fails the same way again."""
NOTES = "finished"
LOCK = ".lock"


@dataclass(frozen=True, kw_only=True)
class VariantRun:
    """One training and its evaluation."""

    name: str
    """Unique in the study; other settings have another name."""
    config: Config


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a run."""

    name: str
    run_id: str
    status: str
    """`finished`, or the reason why a guard ended the run."""
    tally: str
    """File of the test scores' counts (in the note: relative to the study's folder, as that is
    elsewhere on other nodes); empty when a guard ended the run."""
    num_parameters: int
    frames_per_s: float
    """Median while training, on a machine that may have trained others beside it."""

    def read_tally(self) -> SplitCounts:
        """Counts of the test scores."""
        return SplitCounts.from_file(Path(self.tally))


def run_variants(
    wanted: Sequence[VariantRun], study: Study, *, num_parallel: int, say: Say
) -> list[Outcome]:
    """Outcomes in the order of the runs; those that are done already are not run again.

    A run that fails for another reason than a guard does not stop the others; at the end RunFailed
    names it, and the next start tries it again. `num_parallel` as `ablate.num_parallel`.
    """
    remote_storage.fetch_files(wanted[0].config, study.folder / NOTES)
    missing = [run for run in wanted if not _note(study, run.name).is_file()]
    say(f"{len(wanted)} trainings, {len(wanted) - len(missing)} of them already finished")
    failed = _run_missing(missing, study, num_parallel, say) if missing else {}
    if failed:
        name, message = next(iter(failed.items()))
        raise RunFailed(
            f"{len(failed)} of {len(wanted)} trainings failed, the first is {name}: {message}; the "
            "others are kept: repair it and start the same command again",
            reason="worker_error",
        )
    return [_read_note(study, run) for run in wanted]


def _run_missing(
    missing: Sequence[VariantRun], study: Study, num_parallel: int, say: Say
) -> dict[str, str]:
    """Messages of the runs that failed, by name."""
    ensure_ray()
    import ray
    from ray.exceptions import RayError

    limit = num_fitting(missing[0].config, asked=num_parallel)
    waiting, running, failed = list(missing), {}, {}
    started_s, num_done = time.monotonic(), 0
    task = ray.remote(max_retries=0)(_run_variant)
    with printing(say) as queue:
        while waiting or running:
            while waiting and len(running) < limit:
                run = waiting.pop(0)
                options = task.options(name=run.name, **_task_resources(run.config))
                running[options.remote(run.name, to_dict(run.config), study, queue)] = run.name
            done, _ = ray.wait(list(running), num_returns=1)
            name = running.pop(done[0])
            try:
                ray.get(done[0])
            except RayError as error:
                failed[name] = cause_of(error)
            num_done += 1
            eta_s = (time.monotonic() - started_s) / num_done * (len(missing) - num_done)
            end = f"failed: {failed[name]}" if name in failed else "done"
            say(f"{name} {end}; {num_done} of {len(missing)}, ETA {eta_s:.0f} s")
    return failed


def _task_resources(config: Config) -> dict[str, Any]:
    """Of the task itself: with workers of its own it only waits for them."""
    if config.scaling.num_workers:
        return {"num_cpus": 0.0}
    return {"num_cpus": config.scaling.cpus_per_worker, "num_gpus": float(config.scaling.use_gpu)}


def _run_variant(name: str, config: dict[str, Any], study: Study, queue: Any) -> None:
    """Entry point of the task: train, evaluate, leave a note.

    Ray's workers outlive a killed driver by moments, so that two tasks of one run may run at once,
    as when a study is started twice: the second one waits, and has nothing to do where the first
    came to its end.
    """
    run = VariantRun(name=name, config=merge(Config(), config))

    def say(line: str) -> None:
        if "validation" in line or "resumes" in line:
            queue.put(f"{name}: {line.removeprefix('train: ')}", block=False)

    folder = study.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(folder / LOCK):
        if _note(study, name).is_file():
            return
        outcome = run_variant(run, study, say=say)
        remote_storage.push_results(run.config, folder)
        write_note(run.config, _note(study, name), dataclasses.asdict(outcome))


def write_note(config: Config, note: Path, facts: dict[str, Any]) -> None:
    """Say, whole or not at all, that something is done; what the note names is stored by then."""
    note.parent.mkdir(parents=True, exist_ok=True)
    temporary = note.with_name(f".{note.name}.tmp")
    temporary.write_text(json.dumps(facts))
    temporary.replace(note)
    remote_storage.push_file(config, note)


def run_variant(run: VariantRun, study: Study, *, say: Say) -> Outcome:
    """Train and evaluate one variant here; a guard that ends the run is an outcome."""
    config = run.config
    child = ParentRun(study=study.run_id, name=run.name, folder=study.folder / run.name)
    status, tally = "finished", ""
    try:
        run_id = fit(config, say=say, child=child).run_id
    except RunFailed as failure:
        if failure.reason not in GUARDS:
            raise
        status, run_id = failure.reason, str(failure.facts["run_id"])
    if status == "finished":
        evaluated = evaluate_run(config, child.folder, watch=lambda _: lambda *_: None)
        tally = str(evaluated.tally_path.relative_to(study.folder))
    speeds = runs.read_history(config.tracking, run_id, "perf/frames_per_s")
    return Outcome(
        name=run.name,
        run_id=run_id,
        status=status,
        tally=tally,
        num_parameters=_num_parameters(config),
        frames_per_s=statistics.median([value for _, value in speeds] or [math.nan]),
    )


def _num_parameters(config: Config) -> int:
    """Of the network itself: a run that a guard ended may have left no checkpoint."""
    classes = read_manifest(find_blocks(config)).dataset.classes
    model = build_detector(
        config.model,
        prior=0.5,
        num_classes=len(classes.semantic_names),
        num_sweeps=config.data.num_sweeps,
        fetch_weights=False,
    )
    return sum(p.numel() for p in model.parameters())


def _note(study: Study, name: str) -> Path:
    return study.folder / NOTES / f"{name}.json"


def _read_note(study: Study, run: VariantRun) -> Outcome:
    facts = json.loads(_note(study, run.name).read_text())
    if facts["tally"]:
        tally = study.folder / facts["tally"]
        remote_storage.fetch_file(run.config, tally)
        facts["tally"] = str(tally)
    return Outcome(**facts)
