"""Turns Ray's worker errors into one-sentence messages; Ray's own are pages long."""

from pipeline.config.schema import ScalingConfig
from pipeline.runtime.errors import RunFailed
from pipeline.training import checkpoints
from pipeline.training.train_job import TrainJob

# Ray keeps these two classes to itself, so they are known by name.
TIMED_OUT = "WorkerGroupStartupTimeoutError"
LOST = "WorkerHealthCheckFailedError"
_MEMORY_ADVICE = "RAY_memory_usage_threshold"
"""In what Ray says when it killed a process because its node's memory ran out."""


def failure_of(error: Exception, job: TrainJob) -> RunFailed:
    """What Ray's TrainingFailedError means for the run.

    RunFailed `no_resources` when no node took a lost one's place, else `worker_error`.
    """
    scaling = job.config.scaling
    cause = getattr(error, "controller_failure", None)
    if type(cause).__name__ == TIMED_OUT:
        reason, message = "no_resources", _not_given(scaling)
    elif failures := getattr(error, "worker_failures", {}):
        reason, message = "worker_error", _ended(failures, scaling)
    else:
        reason, message = "worker_error", f"Ray Train failed ({cause_of(cause or error)})"
    facts = {"run_id": job.run_id, "folder": str(job.folder)}
    return RunFailed(f"{message}; {_way_on(job)}", reason=reason, facts=facts)


def _not_given(scaling: ScalingConfig) -> str:
    what = f"{scaling.cpus_per_worker:g} CPU" + (" and 1 GPU" if scaling.use_gpu else "")
    return (
        f"the cluster did not give {scaling.num_workers} workers {what} each within "
        f"scaling.start_timeout_s={scaling.start_timeout_s:g}, as nodes were lost or are in use; "
        "add nodes or lower scaling.num_workers"
    )


def _ended(failures: dict[int, BaseException], scaling: ScalingConfig) -> str:
    """The lost worker's sentence if there is one: the others only fail because it is gone."""
    lost = [rank for rank, error in failures.items() if type(error).__name__ == LOST]
    rank = min(lost or failures)
    return (
        f"worker {rank} of {scaling.num_workers} failed ({cause_of(failures[rank])}) and "
        f"scaling.max_failures={scaling.max_failures} allows no further restart"
    )


def _way_on(job: TrainJob) -> str:
    checkpoints.fetch(job.config, job.folder)
    if checkpoints.whole_checkpoints(job.folder / checkpoints.FOLDER):
        return f"train.resume={job.folder} goes on from its last checkpoint"
    return "it had no checkpoint yet, so start it again"


def cause_of(error: BaseException) -> str:
    """What a process of Ray's died of, in a few words; of a program's error, the last line."""
    text = str(error)
    if _MEMORY_ADVICE in text:
        return "Ray ended it, as the memory of its node ran out"
    if type(error).__name__ == LOST:
        return "its process or its node died"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
