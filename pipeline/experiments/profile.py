"""Rows of a grid, timed against each other on the same frames: what each part costs.

Every round gives each row one turn, and every other round goes backwards, so that whatever else the
machine does falls on all rows alike.
"""

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.config.load import flatten
from pipeline.config.schema import Config
from pipeline.data.manifest import Manifest
from pipeline.experiments.ablation import one_split
from pipeline.experiments.timing import SPLIT, Subject, Turn, make_subject, take_turn
from pipeline.experiments.timing_table import Cost, timings_markdown, write_timings_csv
from pipeline.experiments.variants import parse_row, row_configs
from pipeline.runtime.progress import Progress
from pipeline.runtime.revision import git_revision, short_revision
from pipeline.tracking import runs
from pipeline.training.report import data_note
from pipeline.training.trainer import config_hash, log_dataset
from pipeline.training.worker import Worker, single_worker


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """The table as text, and the facts for the job's JSON."""

    text: str
    facts: dict[str, Any]
    costs: list[Cost]


def profile(config: Config, progress: Progress) -> Profiled:
    """Time the networks of `ablate.variants`, here, on `scaling.use_gpu`'s device.

    Raises ValueError before anything starts when a row is wrong, is of another split, or the GPU is
    missing.
    """
    rows = row_configs(config, config.ablate.variants)
    _one_timing(config, rows)
    manifest = one_split(rows)
    worker = single_worker(lambda _: None, use_gpu=config.scaling.use_gpu)
    subjects = [
        make_subject(name, row, config.profile, device=worker.device) for name, row in rows.items()
    ]
    run_id = runs.start_run(
        config.tracking,
        name=f"profile-{config.ablate.name}",
        params=flatten(config) | {"precision": subjects[0].precision.name},
        tags={
            "split_hash": manifest.split_hash,
            "config_hash": config_hash(config),
            "revision": git_revision(),
            "device": device_name(worker),
        },
    )
    with runs.failing(config.tracking, run_id):
        log_dataset(config, run_id, manifest)
        turns = _all_turns(subjects, worker, config, progress)
        costs, note = _costs(config, subjects, turns), precision_note(subjects)
        profiled = _report(config, manifest, run_id, costs, worker, note=note)
        runs.finish(config.tracking, run_id)
    return profiled


def _one_timing(config: Config, rows: Mapping[str, Config]) -> None:
    """ValueError when a row would be timed otherwise than the rest."""
    for name, row in rows.items():
        if row.profile != config.profile or row.scaling.use_gpu != config.scaling.use_gpu:
            raise ValueError(
                f"row {name} changes how it is timed, and its figures could not be compared; take "
                "profile and scaling.use_gpu out of ablate.variants and set them for all rows"
            )


def device_name(worker: Worker) -> str:
    """The GPU's name, or the CPU's architecture."""
    if worker.device.type == "cuda":
        return torch.cuda.get_device_name(worker.device)
    return f"{platform.machine()} CPU"


def precision_note(subjects: Sequence[Subject]) -> str:
    """Why the first row is computed in what it is, and which rows differ from it."""
    first = subjects[0].precision
    others = [f"{one.name} in {one.precision.name}" for one in subjects if one.precision != first]
    return ", ".join([first.reason, *others])


def _all_turns(
    subjects: Sequence[Subject], worker: Worker, config: Config, progress: Progress
) -> dict[str, list[Turn]]:
    """Turns of every row in the order of the rounds."""
    num_rounds = config.profile.num_rounds
    turns: dict[str, list[Turn]] = {subject.name: [] for subject in subjects}
    done, total = 0, num_rounds * len(subjects)
    for number in range(num_rounds):
        for subject in subjects[:: -1 if number % 2 else 1]:
            turns[subject.name].append(take_turn(subject, worker, config.profile))
            done += 1
            progress(done, total)
    return turns


def _costs(
    config: Config, subjects: Sequence[Subject], turns: Mapping[str, list[Turn]]
) -> list[Cost]:
    changes = dict(parse_row(text) for text in config.ablate.variants)
    num = config.profile.num_frames
    return [
        Cost(
            name=subject.name,
            changes=" ".join(changes[subject.name]),
            num_parameters=subject.num_parameters,
            num_trained=subject.num_trained,
            forward_frames_per_s=[num / turn.forward_s for turn in turns[subject.name]],
            training_frames_per_s=[num / turn.training_s for turn in turns[subject.name]],
            latency_ms=[1000 * s for turn in turns[subject.name] for s in turn.latency_s],
            peak_memory_gb=max(turn.peak_memory_gb for turn in turns[subject.name]),
        )
        for subject in subjects
    ]


def _report(
    config: Config,
    manifest: Manifest,
    run_id: str,
    costs: list[Cost],
    worker: Worker,
    *,
    note: str,
) -> Profiled:
    folder = Path(config.storage_path) / f"profile-{config.ablate.name}-{run_id[:8]}"
    folder.mkdir(parents=True)
    estimate_s = training_estimate_s(config, manifest, costs)
    text = _text(config, manifest, run_id, costs, worker, estimate_s=estimate_s, precision=note)
    (folder / "profile.md").write_text(text + "\n")
    facts = {
        "split_hash": manifest.split_hash,
        "device": device_name(worker),
        "batch_size": config.profile.batch_size,
        "run_id": run_id,
    }
    write_timings_csv(costs, folder / "profile.csv", facts=facts)
    for suffix in ("md", "csv"):
        runs.log_artifact(config.tracking, run_id, folder / f"profile.{suffix}")
    runs.log_metrics(config.tracking, run_id, _metrics(costs))
    paths = {"table": str(folder / "profile.md"), "csv": str(folder / "profile.csv")}
    # JSON knows no nan.
    told_s = None if math.isnan(estimate_s) else round(estimate_s)
    numbers = {"num_rows": len(costs), "training_estimate_s": told_s}
    return Profiled(text=text, facts=facts | paths | numbers, costs=costs)


def _metrics(costs: Sequence[Cost]) -> dict[str, float]:
    """`ROW/FIGURE`, as far as measured."""
    return {
        f"{cost.name}/{key}": value
        for cost in costs
        for key, value in cost.figures().items()
        if not math.isnan(value)
    }


def _text(
    config: Config,
    manifest: Manifest,
    run_id: str,
    costs: Sequence[Cost],
    worker: Worker,
    *,
    estimate_s: float,
    precision: str,
) -> str:
    timing = config.profile
    note = " ".join(word for word in (data_note(manifest), f"split {SPLIT}") if word)
    head = (
        f"{device_name(worker)}, threads: {config.train.num_threads}, {precision}; "
        f"{timing.num_frames} frames ({note} of {manifest.split_hash}) in batches of "
        f"{timing.batch_size}, medians of {timing.num_rounds} rounds; ratios are paired by round "
        f"[smallest, largest]; latency is that of single frames, {len(costs[0].latency_ms)} of "
        f"them; without reading and optimizer; run {run_id[:8]}, revision {short_revision()}"
    )
    parts = [head, timings_markdown(costs)]
    if timing.backward:
        parts.append(
            f"Estimate: {len(costs)} rows x {len(config.ablate.seeds)} seeds train for "
            f"{estimate_s / 3600:.1f} h one after the other at these rates (optimizer, reading, "
            "validation and evaluation come on top)"
        )
    return "\n\n".join(parts)


def training_estimate_s(config: Config, manifest: Manifest, costs: Sequence[Cost]) -> float:
    """Seconds of all rows' and seeds' training steps, one after the other; nan when not timed."""
    num_frames = sum(shard.num_rows for shard in manifest.shards_of("train"))
    rows = row_configs(config, config.ablate.variants)
    seconds = 0.0
    for cost in costs:
        train = rows[cost.name].train
        shown = num_frames * train.num_epochs
        if train.max_steps:
            shown = min(shown, train.max_steps * train.batch_size)
        seconds += shown / cost.figures()["training_frames_per_s"]
    return seconds * len(config.ablate.seeds)
