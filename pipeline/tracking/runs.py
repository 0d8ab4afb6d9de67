"""Runs, their params, metrics, tags and artifacts in MLflow.

Everything goes through a client with an explicit store and run id: a driver, its workers and
trials write to the same run, so nothing may hang on a process's "active run".
"""

import hashlib
import importlib.util
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, SupportsFloat

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
)

from pipeline.config.schema import TrackingConfig
from pipeline.runtime.errors import Pruned, RunFailed
from pipeline.runtime.signals import first_signal_ends, held
from pipeline.tracking.metric_logger import MAX_METRICS_PER_CALL, metric_entities
from pipeline.tracking.store import address_of, client_of, demand_experiment

logger = logging.getLogger(__name__)
Status = Literal["FINISHED", "FAILED", "KILLED"]

END_TAGS = frozenset({"failure", "failure_message", "pruned", "pruned_epoch"})
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
MAX_PARAMS_PER_CALL = 100


def start_run(
    config: TrackingConfig,
    *,
    name: str,
    params: Mapping[str, object],
    tags: Mapping[str, object],
    parent: str = "",
) -> str:
    """Create a RUNNING run, and its experiment where there is none yet; return the run's id.

    `parent` is the run of the study that this one belongs to; empty = none. Values longer than
    MLflow takes are cut and end in a hash of the whole. Artifacts of a sqlite store lie in
    `mlartifacts` beside the database; a server keeps its own.
    """
    client = client_of(config.uri)
    experiment_id = demand_experiment(client, config)
    tags = {**tags, **_tags_of_mlflow(tags, parent=parent)}
    run_id = client.create_run(
        experiment_id, run_name=name, tags=_texts(tags, limit=MAX_TAG_LENGTH)
    ).info.run_id
    _log_params(client, run_id, params)
    return run_id


def _tags_of_mlflow(tags: Mapping[str, object], *, parent: str) -> dict[str, object]:
    """What MLflow's own pages show."""
    own = {MLFLOW_PARENT_RUN_ID: parent, MLFLOW_GIT_COMMIT: tags.get("revision", "")}
    return {key: value for key, value in own.items() if value}


def _log_params(client: MlflowClient, run_id: str, params: Mapping[str, object]) -> None:
    texts = _texts(params, limit=MAX_PARAM_LENGTH)
    entities = [Param(key, text) for key, text in texts.items()]
    for start in range(0, len(entities), MAX_PARAMS_PER_CALL):
        client.log_batch(run_id, params=entities[start : start + MAX_PARAMS_PER_CALL])


def log_data(config: TrackingConfig, run_id: str, *, name: str, split_hash: str, root: str) -> None:
    """Name the scenes under `root`, as split, as the run's dataset: MLflow's column `Dataset`."""
    data = Dataset(name, split_hash, "local", json.dumps({"uri": root}))
    used = DatasetInput(data, tags=[InputTag(MLFLOW_DATASET_CONTEXT, "train, val, test")])
    client_of(config.uri).log_inputs(run_id, [used])


def find_run(config: TrackingConfig, tags: Mapping[str, str], *, parent: str = "") -> str:
    """The oldest run of the experiment that has these tags (and this parent); empty if none.

    So a study that was killed finds its own runs again instead of starting others.
    """
    client = client_of(config.uri)
    wanted = {**tags, MLFLOW_PARENT_RUN_ID: parent} if parent else tags
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in wanted.items())
    found = client.search_runs(
        [demand_experiment(client, config)],
        query,
        max_results=1,
        order_by=["attributes.start_time ASC"],
    )
    return found[0].info.run_id if found else ""


def demand_run(config: TrackingConfig, run_id: str) -> Run:
    """The run; ValueError unless it is in this store."""
    try:
        return client_of(config.uri).get_run(run_id)
    except MlflowException as error:
        raise ValueError(
            f"run {run_id} is not in {config.uri} ({error.message}); set tracking.uri to the store "
            "in which the run was started"
        ) from error


def reopen(
    config: TrackingConfig, run_id: str, *, params: Mapping[str, object] | None = None
) -> None:
    """Set an ended run to RUNNING again, for work that goes on where it was.

    Of `params`, those are added that a job killed at its start did not get to log.
    """
    known = demand_run(config, run_id).data
    client = client_of(config.uri)
    client.update_run(run_id, status="RUNNING")
    add_params(config, run_id, params or {})
    for key in END_TAGS & known.tags.keys():
        client.delete_tag(run_id, key)


def add_params(config: TrackingConfig, run_id: str, params: Mapping[str, object]) -> None:
    """Log those params that the run does not have yet; MLflow refuses to change one."""
    client = client_of(config.uri)
    known = client.get_run(run_id).data.params
    missing = {key: value for key, value in params.items() if key not in known}
    _log_params(client, run_id, missing)


def read_param(config: TrackingConfig, run_id: str, key: str) -> str:
    """A param of the run as text; empty if it has none of this name."""
    return client_of(config.uri).get_run(run_id).data.params.get(key, "")


def finish(
    config: TrackingConfig,
    run_id: str,
    *,
    status: Status = "FINISHED",
    tags: Mapping[str, object] | None = None,
) -> None:
    """End the run and set tags; a signal that comes meanwhile waits for both.

    The status comes first: a job that is killed in between has a run that ended, without its tags.
    """
    with held():
        client_of(config.uri).set_terminated(run_id, status=status)
        set_tags(config, run_id, tags or {})


@contextmanager
def failing(config: TrackingConfig, run_id: str) -> Iterator[None]:
    """End the run when the block raises: FAILED (KILLED when interrupted) with a tag `failure`.

    The tag holds RunFailed's reason, `interrupted` (Ctrl-C, SIGTERM), `bad_input` (ValueError) or
    `error`; `failure_message` holds the sentence. The exception goes on to the caller. A Pruned
    trial's run is left to the study. Signals after the first are ignored until the run has ended,
    so call `finish` inside the block as well.
    """
    with first_signal_ends():
        try:
            yield
        except Pruned:
            raise
        except BaseException as error:
            reason = _failure_reason(error)
            status = "KILLED" if reason == "interrupted" else "FAILED"
            tags = {"failure": reason, "failure_message": str(error)}
            try:
                finish(config, run_id, status=status, tags=tags)
            except MlflowException:
                # The block's own error is the story; that MLflow is gone as well is a footnote.
                logger.exception("run %s could not be marked %s in %s", run_id, status, config.uri)
            raise


def set_tags(config: TrackingConfig, run_id: str, tags: Mapping[str, object]) -> None:
    """Set or replace tags."""
    entities = [RunTag(key, text) for key, text in _texts(tags, limit=MAX_TAG_LENGTH).items()]
    client_of(config.uri).log_batch(run_id, tags=entities)


def set_description(config: TrackingConfig, run_id: str, text: str) -> None:
    """Set the Markdown that MLflow shows on the run's page; of a long text, its first lines."""
    if len(text) > MAX_TAG_LENGTH:
        whole = text[: MAX_TAG_LENGTH - 200].rpartition("\n")[0]
        num_left_out = text.count("\n") - whole.count("\n")
        text = f"{whole}\n\n({num_left_out} more lines in the run's artifacts)"
    set_tags(config, run_id, {MLFLOW_RUN_NOTE: text})


def log_metrics(
    config: TrackingConfig, run_id: str, metrics: Mapping[str, SupportsFloat], *, step: int = 0
) -> None:
    """Log a result at once, in this thread; `MetricLogger` is for training loops.

    NaN and infinities are logged as they are (MLflow keeps infinity as the largest float). What the
    run has already is left out, so that work done again after a kill makes no duplicates.
    """
    client = client_of(config.uri)
    known = {
        metric.key: (metric.step, repr(metric.value))
        for metric in client.get_run(run_id).data._metric_objs
    }
    # As texts, because NaN does not equal itself.
    fresh = {k: v for k, v in metrics.items() if known.get(k) != (step, repr(float(v)))}
    entities = metric_entities(step, fresh)
    for start in range(0, len(entities), MAX_METRICS_PER_CALL):
        client.log_batch(run_id, metrics=entities[start : start + MAX_METRICS_PER_CALL])


def read_history(config: TrackingConfig, run_id: str, key: str) -> list[tuple[int, float]]:
    """Every (step, value) of one metric by ascending step; empty if there is none."""
    points = client_of(config.uri).get_metric_history(run_id, key)
    return sorted((point.step, point.value) for point in points)


def log_artifact(config: TrackingConfig, run_id: str, file: Path) -> None:
    """Copy one file to the run's artifacts."""
    client_of(config.uri).log_artifact(run_id, str(file))


def log_artifacts(config: TrackingConfig, run_id: str, folder: Path, *, subfolder: str) -> None:
    """Copy a folder's files into `subfolder` of the run's artifacts."""
    client_of(config.uri).log_artifacts(run_id, str(folder), artifact_path=subfolder)


@contextmanager
def system_metrics(config: TrackingConfig, run_id: str, *, interval_s: int = 10) -> Iterator[None]:
    """Log CPU, memory, disk and network use of this host as `system/...` while the block runs.

    Usable in the driver or in one worker per run. GPU use is added where `nvidia-ml-py` is
    installed. Off with `tracking.system_metrics=false`.
    """
    if not config.system_metrics:
        yield
        return
    if importlib.util.find_spec("psutil") is None:
        # Ray brings its own copy and puts it on the path, so only a run without Ray lacks it.
        logger.warning("tracking.system_metrics=true has no effect: psutil is not installed")
        yield
        return
    # Imports psutil, hence not at the top.
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(
        run_id,
        sampling_interval=interval_s,
        resume_logging=True,
        tracking_uri=address_of(config.uri),
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def _texts(values: Mapping[str, object], *, limit: int) -> dict[str, str]:
    return {key: _fitted(str(value), limit=limit) for key, value in values.items()}


def _fitted(text: str, *, limit: int) -> str:
    """The text itself, or its beginning and a hash of the whole, so that two long ones differ."""
    if len(text) <= limit:
        return text
    mark = f"... sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return text[: limit - len(mark)] + mark


def _failure_reason(error: BaseException) -> str:
    if isinstance(error, RunFailed):
        return error.reason
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "interrupted"
    return "bad_input" if isinstance(error, ValueError) else "error"
