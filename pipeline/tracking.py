"""Runs, params, metrics, tags, artifacts and models in MLflow.

The only file that imports it, beside the code of the logged model itself.

Everything goes through a client with an explicit store and run id: a driver, its workers and
trials write to the same run, so nothing may hang on a process's "active run".
"""

import hashlib
import importlib.util
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Literal, SupportsFloat

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pipeline.config import TrackingConfig
from pipeline.failures import Pruned, RunFailed
from pipeline.sqlite_store import SQLITE, demand_store

logger = logging.getLogger(__name__)
Status = Literal["FINISHED", "FAILED", "KILLED"]

ARTIFACTS = "mlartifacts"
FAILURE_TAGS = frozenset({"failure", "failure_message"})
PACKAGE = Path(__file__).parent
MODEL = "detector"
"""Name of a run's logged model."""
MODEL_TAG, MODEL_OF_TAG = "logged_model", "logged_model_of"
"""Tags of a run: address of its logged model, and the checkpoint that it is."""
SERVED = (
    "mlflow",
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "pyarrow",
    "pillow",
    "omegaconf",
    "safetensors",
    "jaxtyping",
)
"""Packages that a logged model needs."""
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
MAX_PARAMS_PER_CALL = 100
MAX_METRICS_PER_CALL = 1000


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
    client = _client(config.uri)
    experiment_id = _experiment(client, config)
    if parent:
        tags = {**tags, MLFLOW_PARENT_RUN_ID: parent}
    run_id = client.create_run(
        experiment_id, run_name=name, tags=_texts(tags, limit=MAX_TAG_LENGTH)
    ).info.run_id
    _log_params(client, run_id, params)
    return run_id


def _log_params(client: MlflowClient, run_id: str, params: Mapping[str, object]) -> None:
    """Those that the run lacks: MLflow refuses to change the others."""
    known = client.get_run(run_id).data.params
    texts = _texts(params, limit=MAX_PARAM_LENGTH)
    entities = [Param(key, text) for key, text in texts.items() if key not in known]
    for start in range(0, len(entities), MAX_PARAMS_PER_CALL):
        client.log_batch(run_id, params=entities[start : start + MAX_PARAMS_PER_CALL])


def find_run(config: TrackingConfig, tags: Mapping[str, str], *, parent: str = "") -> str:
    """The oldest run of the experiment that bears these tags (and this parent); empty if none.

    So a study that was killed finds its own runs again instead of starting others.
    """
    client = _client(config.uri)
    wanted = {**tags, MLFLOW_PARENT_RUN_ID: parent} if parent else tags
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in wanted.items())
    found = client.search_runs(
        [_experiment(client, config)], query, max_results=1, order_by=["attributes.start_time ASC"]
    )
    return found[0].info.run_id if found else ""


def demand_run(config: TrackingConfig, run_id: str) -> None:
    """ValueError unless the run is in this store."""
    try:
        _client(config.uri).get_run(run_id)
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
    demand_run(config, run_id)
    client = _client(config.uri)
    client.update_run(run_id, status="RUNNING")
    _log_params(client, run_id, params or {})
    for key in FAILURE_TAGS & client.get_run(run_id).data.tags.keys():
        client.delete_tag(run_id, key)


def finish(
    config: TrackingConfig,
    run_id: str,
    *,
    status: Status = "FINISHED",
    tags: Mapping[str, object] | None = None,
) -> None:
    """Set tags, then end the run."""
    set_tags(config, run_id, tags or {})
    _client(config.uri).set_terminated(run_id, status=status)


@contextmanager
def failing(config: TrackingConfig, run_id: str) -> Iterator[None]:
    """End the run when the block raises: FAILED (KILLED when interrupted) with a tag `failure`.

    The tag holds RunFailed's reason, `interrupted` (Ctrl-C, SIGTERM), `bad_input` (ValueError) or
    `error`; `failure_message` holds the sentence. The exception goes on to the caller. A Pruned
    trial's run is left to the study.
    """
    with _sigterm_raises():
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
    _client(config.uri).log_batch(run_id, tags=entities)


def log_metrics(
    config: TrackingConfig, run_id: str, metrics: Mapping[str, SupportsFloat], *, step: int = 0
) -> None:
    """Log a result at once, in this thread; `MetricLogger` is for training loops.

    NaN and infinities are logged as they are (MLflow keeps infinity as the largest float). What the
    run has already is left out, so that work done again after a kill makes no duplicates.
    """
    client = _client(config.uri)
    known = {
        metric.key: (metric.step, repr(metric.value))
        for metric in client.get_run(run_id).data._metric_objs
    }
    # As texts, because NaN does not equal itself.
    fresh = {k: v for k, v in metrics.items() if known.get(k) != (step, repr(float(v)))}
    entities = _metric_entities(step, fresh)
    for start in range(0, len(entities), MAX_METRICS_PER_CALL):
        client.log_batch(run_id, metrics=entities[start : start + MAX_METRICS_PER_CALL])


def read_history(config: TrackingConfig, run_id: str, key: str) -> list[tuple[int, float]]:
    """Every (step, value) of one metric by ascending step; empty if there is none."""
    points = _client(config.uri).get_metric_history(run_id, key)
    return sorted((point.step, point.value) for point in points)


def log_model(config: TrackingConfig, run_id: str, *, checkpoint: Path) -> str:
    """Log a checkpoint as the run's MLflow model `detector`; return its address (`models:/...`).

    The model is code (`pipeline/serving.py`), weights in safetensors and this package; nothing in
    it is pickled. A checkpoint of a name that the run has logged is not logged again. The run's
    status stays what it was.
    """
    client = _client(config.uri)
    run = client.get_run(run_id)
    if run.data.tags.get(MODEL_OF_TAG) == checkpoint.name:
        return run.data.tags[MODEL_TAG]
    mlflow.set_tracking_uri(config.uri)
    with mlflow.start_run(run_id=run_id, log_system_metrics=False):
        logged = mlflow.pyfunc.log_model(
            name=MODEL,
            python_model=str(PACKAGE / "serving.py"),
            artifacts={"checkpoint": str(checkpoint)},
            code_paths=[str(PACKAGE)],
            pip_requirements=served_requirements(),
        )
    client.update_run(run_id, status=run.info.status)
    set_tags(config, run_id, {MODEL_OF_TAG: checkpoint.name, MODEL_TAG: logged.model_uri})
    return logged.model_uri


def register(config: TrackingConfig, run_id: str, *, model: str, name: str, alias: str) -> str:
    """Give a logged model (`models:/...`) a version of the registered model `name`; return it.

    The alias moves to that version. A model that has a version already gets no second one.
    """
    client = _client(config.uri)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    found = [
        one
        for one in client.search_model_versions(f"name = '{name}'")
        if (one.source, one.run_id) == (model, run_id)
    ]
    version = found[0] if found else client.create_model_version(name, model, run_id=run_id)
    client.set_registered_model_alias(name, alias, version.version)
    return str(version.version)


def served_requirements() -> list[str]:
    """What the logged model needs, at the versions that run here."""
    return [f"{name}=={version(name)}" for name in SERVED]


def log_artifact(config: TrackingConfig, run_id: str, file: Path) -> None:
    """Copy one file to the run's artifacts."""
    _client(config.uri).log_artifact(run_id, str(file))


def log_artifacts(config: TrackingConfig, run_id: str, folder: Path, *, subfolder: str) -> None:
    """Copy a folder's files into `subfolder` of the run's artifacts."""
    _client(config.uri).log_artifacts(run_id, str(folder), artifact_path=subfolder)


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
        run_id, sampling_interval=interval_s, resume_logging=True, tracking_uri=config.uri
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


class MetricLogger:
    """Sends metrics from a background thread, so that a training step never waits for a database.

    Made anew after a restart, it leaves out every step up to the last one logged of each metric:
    replayed steps make no duplicates. Call `flush` before writing a checkpoint: then whatever a
    crash loses from the queue is replayed from that checkpoint, and there are no gaps either.
    """

    def __init__(self, uri: str, run_id: str) -> None:
        self._client, self._run_id = _client(uri), run_id
        self._last_step = _last_steps(self._client, run_id)
        self._unsent: list[Metric] = []
        self._error: Exception | None = None
        self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="MetricLogger", daemon=True).start()

    def log(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Queue values of one step; returns at once. Raises what the thread failed of, if it did.

        Steps of one metric must ascend; a step that was logged before is left out.
        """
        self._raise_error()
        if self._closed:
            raise ValueError("this MetricLogger is closed; log before close()")
        fresh = {k: v for k, v in metrics.items() if step > self._last_step.get(k, -math.inf)}
        self._last_step |= dict.fromkeys(fresh, step)
        with self._changed:
            self._unsent += _metric_entities(step, fresh)
            self._changed.notify_all()

    def flush(self, *, timeout_s: float = 60.0) -> None:
        """Wait until everything logged is in the store; RuntimeError if it cannot be in time."""
        with self._changed:
            over = self._changed.wait_for(lambda: not self._unsent or self._error, timeout_s)
        self._raise_error()
        if not over:
            raise RuntimeError(
                f"{len(self._unsent)} metrics of run {self._run_id} were not in the tracking store "
                f"after {timeout_s:g} s; look at tracking.uri"
            )

    def close(self, *, timeout_s: float = 60.0) -> None:
        """`flush`, then end the thread; a second call does nothing."""
        if self._closed:
            return
        try:
            self.flush(timeout_s=timeout_s)
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise RuntimeError(
                f"metrics of run {self._run_id} could not be logged: {self._error}"
            ) from self._error

    def _work(self) -> None:
        while batch := self._next_batch():
            try:
                self._client.log_batch(self._run_id, metrics=batch)
            except Exception as error:  # this thread's edge: the next log, flush or close raises it
                self._error = error
            with self._changed:
                # Only now, so that "nothing unsent" means that everything is in the store.
                del self._unsent[: len(batch)]
                self._changed.notify_all()

    def _next_batch(self) -> list[Metric]:
        """Many steps in one call; empty when the logger was closed or has failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._unsent or self._closed or self._error)
            return [] if self._error else self._unsent[:MAX_METRICS_PER_CALL]


def _client(uri: str) -> MlflowClient:
    path = uri.removeprefix(SQLITE).partition("?")[0]
    if uri.startswith(SQLITE) and not Path(path).is_absolute():
        raise ValueError(
            f"tracking.uri={uri} is relative, so each process would open its own file; write "
            f"{SQLITE}/absolute/path.db"
        )
    if uri.startswith(SQLITE):
        demand_store(Path(path), artifacts=Path(path).parent / ARTIFACTS)
    return MlflowClient(uri)


def _experiment(client: MlflowClient, config: TrackingConfig) -> str:
    found = client.get_experiment_by_name(config.experiment)
    if found is None:
        _create_experiment(client, config)
        found = client.get_experiment_by_name(config.experiment)
    assert found is not None
    if found.lifecycle_stage != "active":
        raise ValueError(
            f"tracking.experiment={config.experiment} was deleted in {config.uri}; restore it "
            "there or choose another name"
        )
    return found.experiment_id


def _create_experiment(client: MlflowClient, config: TrackingConfig) -> None:
    location = None
    if config.uri.startswith(SQLITE):
        location = str(Path(config.uri.removeprefix(SQLITE)).parent / ARTIFACTS)
    try:
        client.create_experiment(config.experiment, artifact_location=location)
    except MlflowException as error:  # two jobs that start together may both find none
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def _texts(values: Mapping[str, object], *, limit: int) -> dict[str, str]:
    return {key: _fitted(str(value), limit=limit) for key, value in values.items()}


def _fitted(text: str, *, limit: int) -> str:
    """The text itself, or its beginning and a hash of the whole, so that two long ones differ."""
    if len(text) <= limit:
        return text
    mark = f"... sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return text[: limit - len(mark)] + mark


def _metric_entities(step: int, metrics: Mapping[str, SupportsFloat]) -> list[Metric]:
    now_ms = int(time.time() * 1000)
    return [Metric(key, float(value), now_ms, step) for key, value in metrics.items()]


def _last_steps(client: MlflowClient, run_id: str) -> dict[str, int]:
    """Last logged step of every metric; a run's record already holds them, histories are long."""
    return {metric.key: metric.step for metric in client.get_run(run_id).data._metric_objs}


def _failure_reason(error: BaseException) -> str:
    if isinstance(error, RunFailed):
        return error.reason
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "interrupted"
    return "bad_input" if isinstance(error, ValueError) else "error"


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM as SystemExit, so that a killed job still ends its run; Ray's handler does the same.

    Only where nobody else handles it, and only in the main thread, as Python demands.
    """
    free = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if threading.current_thread() is not threading.main_thread() or not free:
        yield
        return
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _exit_on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit_on_sigterm(number: int, frame: object) -> None:
    raise SystemExit(128 + number)
