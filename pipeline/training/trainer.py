"""The driver of a training: MLflow run, Ray Train workers, a verdict.

`scaling.num_workers=0` trains in this process without Ray; otherwise a Ray Train TorchTrainer runs
the same loop under DDP. The driver creates the MLflow run and ends it, so a crash of any worker
still leaves a FAILED run that says why.
"""

import dataclasses
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.config.load import flatten, merge, recorded, to_dict
from pipeline.config.schema import Config, ScalingConfig
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.data.prepare.prepare import find_blocks
from pipeline.runtime import remote_storage
from pipeline.runtime.errors import RunFailed
from pipeline.runtime.progress import Say
from pipeline.runtime.ray_cluster import demand_room, ensure_ray
from pipeline.runtime.revision import git_revision
from pipeline.tracking import runs
from pipeline.training import checkpoints
from pipeline.training.checkpoint_selection import checkpoint_metric, choice_sees
from pipeline.training.checkpoints import CheckpointMeta
from pipeline.training.loop import train
from pipeline.training.ray_errors import failure_of
from pipeline.training.timing import TRACE
from pipeline.training.train_job import TrainJob
from pipeline.training.worker import Validated, Worker, single_worker
from pipeline.training.worker_logs import printing

logger = logging.getLogger(__name__)
LAST_RUN = "LAST_RUN"
CONFIG = "config.yaml"
MAY_CHANGE = {
    "train.num_epochs",
    "train.max_steps",
    "train.patience",
    "train.validate_every_n_epochs",
    "train.checkpoint_every_n_steps",
    "train.log_every_n_steps",
    "train.num_threads",
    "train.frames_per_gpu",
    "train.compile",
    "train.sparse_backend",
}
"""Settings that a resumed run may change: how long it goes on, what it tells on the way, and what
computes it."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished training."""

    run_id: str
    folder: Path
    checkpoint: Path
    history: list[dict[str, float]]
    num_steps: int


@dataclass(frozen=True, kw_only=True)
class ParentRun:
    """The place of a run in a study: killed and started again, it goes on there."""

    study: str
    """MLflow run of the study."""
    name: str
    """Name of the run, unique in the study."""
    tag: str = "variant"
    """Tag of the run that holds the name: `variant` of an ablation, `trial` of a search."""
    folder: Path
    """Run folder. Training resumes from its newest complete checkpoint, if any."""


def fit(
    config: Config,
    *,
    say: Say,
    child: ParentRun | None = None,
    validated: Validated = lambda history: None,
) -> Trained:
    """Train as configured; `say` takes progress lines, `validated` what `Worker` says of it.

    A `child` of a study has its run folder named by the study and its run found again by name.
    With workers `validated` is called in another thread and cannot end the training.
    Raises RunFailed (`collapsed`, `no_signal`, `no_resources`, `worker_error`) after marking the
    MLflow run FAILED, and ValueError for bad input before anything starts.
    """
    blocks = find_blocks(config)
    manifest = read_manifest(blocks)
    job = _job(config, blocks, manifest, child)
    with runs.failing(config.tracking, job.run_id):
        with runs.system_metrics(config.tracking, job.run_id):
            result = _run_workers(config, job, say, validated)
        if config.train.profile_steps and (trace := job.folder / TRACE).is_file():
            runs.log_artifact(config.tracking, job.run_id, trace)
        if result["status"] == "failed":
            raise RunFailed(
                result["message"],
                reason=result["reason"],
                facts={"run_id": job.run_id, "folder": str(job.folder)},
            )
        runs.finish(config.tracking, job.run_id)
    checkpoints.fetch(config, job.folder)
    # Relative, as the local copy of a remote storage path may lie elsewhere on another node.
    last = os.path.relpath(job.folder, config.storage_path)
    (Path(config.storage_path) / LAST_RUN).write_text(last)
    return Trained(
        run_id=job.run_id,
        folder=job.folder,
        checkpoint=checkpoints.find(job.folder),
        history=result["history"],
        num_steps=result["num_steps"],
    )


def log_dataset(config: Config, run_id: str, manifest: Manifest) -> None:
    """Say in MLflow which data the run is about."""
    runs.log_data(
        config.tracking,
        run_id,
        name=manifest.data_name,
        split_hash=manifest.split_hash,
        root=manifest.root,
    )


def run_name(config: Config) -> str:
    """`detector-concat`, unless the config names the run."""
    fusion = f"-{config.model.fusion}" if config.model.name == "detector" else ""
    return config.tracking.run_name or f"{config.model.name}{fusion}"


def config_hash(config: Config) -> str:
    """First 12 hex digits of the SHA-256 of what decides the result (paths and names left out)."""
    text = json.dumps(_deciding(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _deciding(config: Config) -> dict[str, Any]:
    """The dotted keys that a training's result depends on."""
    sections = ("prepare.", "model.", "loss.", "train.", "augment.", "outliers.", "health_checks.")
    others = ("data.ego_box_m", "data.shuffle_shards", "data.num_sweeps", "data.reader")
    return {
        key: value
        for key, value in flatten(config).items()
        if key not in ("train.resume", "train.profile_steps")
        and (key.startswith(sections) or key in others)
    }


def last_run(config: Config) -> Path:
    """Folder of the run that was trained last under `storage_path`."""
    note = Path(config.storage_path) / LAST_RUN
    remote_storage.fetch_file(config, note)
    if not note.is_file():
        raise ValueError(
            f"{config.storage_path} holds no finished run; train first (jobs.train) or "
            "set evaluation.checkpoint"
        )
    return (Path(config.storage_path) / note.read_text().strip()).resolve()


def _job(config: Config, blocks: Path, manifest: Manifest, child: ParentRun | None) -> TrainJob:
    revision = git_revision()
    # Before there is an MLflow run: a path that cannot be written must not leave one behind.
    Path(config.storage_path).mkdir(parents=True, exist_ok=True)
    if config.train.resume:
        folder = Path(config.train.resume)
        checkpoints.fetch(config, folder)
        meta = checkpoints.read_meta(_newest(folder))
        _check_resumable(config, meta, folder, split_hash=manifest.split_hash)
        runs.reopen(config.tracking, meta.run_id)
        return TrainJob(
            config=config, run_id=meta.run_id, folder=folder, blocks=blocks, revision=revision
        )
    tags = {
        "split_hash": manifest.split_hash,
        "config_hash": config_hash(config),
        "revision": revision,
        "blocks": str(blocks),
        "model_choice": checkpoint_metric(config),
        "selection_data": choice_sees(config),
    }
    if child:
        run_id, folder = _child_run(config, child, tags), child.folder
    else:
        run_id = runs.start_run(
            config.tracking, name=run_name(config), params=flatten(config), tags=tags
        )
        folder = Path(config.storage_path) / f"{run_name(config)}-{run_id[:8]}"
    log_dataset(config, run_id, manifest)
    folder.mkdir(parents=True, exist_ok=child is not None)
    (folder / CONFIG).write_text(OmegaConf.to_yaml(OmegaConf.create(to_dict(config))))
    return TrainJob(config=config, run_id=run_id, folder=folder, blocks=blocks, revision=revision)


def _child_run(config: Config, child: ParentRun, tags: dict[str, str]) -> str:
    """The child's MLflow run, reopened where an earlier start of the study left one."""
    mark = {child.tag: child.name}
    run_id = runs.find_run(config.tracking, mark, parent=child.study)
    if run_id:
        runs.reopen(config.tracking, run_id, params=flatten(config))
        return run_id
    return runs.start_run(
        config.tracking,
        name=child.name,
        params=flatten(config),
        tags=tags | mark,
        parent=child.study,
    )


def _check_resumable(
    config: Config, meta: CheckpointMeta, folder: Path, *, split_hash: str
) -> None:
    """ValueError unless the run was trained on this split, with all that decides its result."""
    if meta.split_hash != split_hash:
        raise ValueError(
            f"{folder} was trained on split {meta.split_hash}, but data.blocks holds split "
            f"{split_hash}; point data.blocks at the original shards or start a new run"
        )
    if config.data.reader == "stream" and meta.position.step_in_epoch:
        raise ValueError(
            f"{folder} ended inside an epoch (after {meta.position.step_in_epoch} of its steps), "
            "and data.reader=stream goes on at the start of one only; start a new run"
        )
    before, now = _deciding(recorded(meta.config)), _deciding(config)
    # `auto` goes on in what the run began in, and so does its name.
    before["train.precision"] = meta.precision
    if now["train.precision"] == "auto":
        now["train.precision"] = meta.precision
    changed = [key for key in now if now[key] != before[key] and key not in MAY_CHANGE]
    if changed:
        shown = ", ".join(f"{key} {before[key]} -> {now[key]}" for key in changed)
        raise ValueError(
            f"{folder} was trained with other settings ({shown}); resume with the config in "
            f"{folder / CONFIG}, or start a new run"
        )


def _newest(folder: Path) -> Path:
    whole = checkpoints.whole_checkpoints(folder / checkpoints.FOLDER)
    if not whole:
        raise ValueError(
            f"train.resume={folder} holds no whole checkpoint; give the run folder of "
            "a training that got as far as its first checkpoint"
        )
    return whole[-1]


def _run_workers(config: Config, job: TrainJob, say: Say, validated: Validated) -> dict[str, Any]:
    if config.scaling.num_workers == 0:
        return train(single_worker(say, use_gpu=config.scaling.use_gpu, validated=validated), job)
    ensure_ray()
    with printing(say, validated) as queue:
        return _fit_on_ray(config, job, queue)


def _fit_on_ray(config: Config, job: TrainJob, queue: Any) -> dict[str, Any]:
    import ray.train
    from ray.train import RunConfig
    from ray.train.torch import TorchTrainer

    scaling = config.scaling
    # The tasks that read a stream need a CPU beside the workers', or both wait for ever.
    reading = [{"CPU": 1.0}] if config.data.reader == "stream" else []
    demand_room(scaling, beside=reading)
    trainer = TorchTrainer(
        _ray_worker,
        train_loop_config={"job": dataclasses.asdict(job), "queue": queue},
        scaling_config=ray.train.ScalingConfig(
            num_workers=scaling.num_workers,
            use_gpu=scaling.use_gpu,
            resources_per_worker={"CPU": scaling.cpus_per_worker},
        ),
        run_config=RunConfig(
            name=job.folder.name,
            storage_path=remote_storage.place(config, "ray"),
            failure_config=_patience(scaling),
        ),
        **_ingest(config, job),
    )
    try:
        result = trainer.fit().return_value
        assert result is not None
        return result
    except ray.train.TrainingFailedError as error:
        raise failure_of(error, job) from error


def _patience(scaling: ScalingConfig) -> Any:
    """Ray's FailureConfig: restarts, and waits for nodes that add up to `start_timeout_s`.

    Ray gives up after `num_waits` + 1 time-outs, one after another, and has no bound on their sum.
    """
    from ray.train import FailureConfig

    num_waits = max(1, scaling.max_failures)
    timeout_s = scaling.start_timeout_s / (num_waits + 1)
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(timeout_s)
    return FailureConfig(max_failures=scaling.max_failures, controller_failure_limit=num_waits)


def _ingest(config: Config, job: TrainJob) -> dict[str, Any]:
    """The trainer's arguments for `data.reader=stream`."""
    if config.data.reader != "stream":
        return {}
    from pipeline.data.readers import training_extras
    from pipeline.data.stream import stream_dataset
    from pipeline.training.ray_data_config import NoDropDataConfig

    dataset = stream_dataset(config, job.blocks, extras=training_extras(config))
    return {"datasets": {"train": dataset}, "dataset_config": NoDropDataConfig()}


def _ray_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Entry point of one Ray Train worker."""
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    facts = settings["job"]
    job = TrainJob(**facts | {"config": merge(Config(), facts["config"])})
    queue = settings["queue"]
    worker = Worker(
        rank=context.get_world_rank(),
        num_workers=context.get_world_size(),
        device=ray.train.torch.get_device(),
        barrier=lambda metrics: ray.train.report(metrics),
        progress=lambda line: queue.put(line, block=False),
        validated=lambda history: queue.put(history, block=False),
    )
    return train(worker, job)
