import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.config.load import flatten
from pipeline.config.schema import Config, TrackingConfig
from pipeline.runtime.errors import RunFailed
from pipeline.tracking import model_registry, runs
from pipeline.tracking.metric_logger import MetricLogger
from pipeline.tracking.store import _create_experiment
from tests.helpers.forked import REPOSITORY, Job, forks, own_signals


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]
) -> TrackingConfig:
    """One sqlite store for the module."""
    return TrackingConfig(uri=new_store(tmp_path_factory.mktemp("tracking")), experiment="tests")


@pytest.fixture
def run_id(store: TrackingConfig) -> str:
    return runs.start_run(store, name="a run", params={}, tags={})


@contextmanager
def locked(store: TrackingConfig) -> Iterator[None]:
    """Nobody else can read or write the store inside the block."""
    connection = sqlite3.connect(store.uri.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("COMMIT")
        connection.close()


@pytest.fixture(scope="module")
def start(
    tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]
) -> Iterator[Callable[..., Job]]:
    """`start(code, *arguments)`: a process that has used `pipeline.tracking.runs` before."""
    with forks(new_store(tmp_path_factory.mktemp("warm"))) as start:
        yield start


# ---- a fresh sqlite store

START = """
import sys
from pipeline.tracking import runs
from pipeline.config.schema import TrackingConfig
print(runs.start_run(TrackingConfig(uri=sys.argv[1]), name="a run", params={}, tags={}))
"""


def test_jobs_that_start_at_once_on_a_fresh_store_all_get_their_run(
    tmp_path: Path, start: Callable[..., Job]
) -> None:
    uri = f"sqlite:///{tmp_path}/not/yet/there/mlflow.db"
    jobs = [start(START, uri) for _ in range(3)]
    assert [job.wait(timeout=240) for job in jobs] == [0, 0, 0]
    started = {job.stdout.read().strip() for job in jobs}
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(TrackingConfig().experiment)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert {run.info.run_id for run in found} == started


def test_a_job_killed_while_it_makes_the_store_leaves_none_that_is_half_made(
    tmp_path: Path, start: Callable[..., Job]
) -> None:
    database = tmp_path / "mlflow.db"
    job = start(START, f"sqlite:///{database}")
    half_made = tmp_path / ".mlflow.db.tmp"
    end = time.monotonic() + 120
    while not (half_made.is_file() and half_made.stat().st_size) and time.monotonic() < end:
        time.sleep(0.005)
    job.send_signal(signal.SIGKILL)
    assert job.wait(timeout=60) == -signal.SIGKILL
    assert half_made.is_file()
    assert not database.exists()
    store = TrackingConfig(uri=f"sqlite:///{database}")
    run_id = runs.start_run(store, name="a run", params={}, tags={})
    assert MlflowClient(store.uri).get_run(run_id).info.status == "RUNNING"
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", ".mlflow.db.lock"}


# ---- runs


def test_a_run_holds_every_config_key_as_a_param_and_the_given_tags(store: TrackingConfig) -> None:
    params = flatten(Config())
    run_id = runs.start_run(
        store, name="fused", params=params, tags={"split_hash": "5b1f", "revision": "abc+changes"}
    )
    run = MlflowClient(store.uri).get_run(run_id)
    assert run.data.params == {key: str(value) for key, value in params.items()}
    assert run.data.tags["split_hash"] == "5b1f"
    assert run.data.tags["revision"] == "abc+changes"
    assert (run.info.run_name, run.info.status) == ("fused", "RUNNING")


def test_artifacts_of_a_sqlite_store_lie_beside_the_database(
    store: TrackingConfig, run_id: str, tmp_path: Path
) -> None:
    (tmp_path / "figure.png").write_bytes(b"1")
    runs.log_artifacts(store, run_id, tmp_path, subfolder="figures")
    beside = Path(store.uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    assert (beside / run_id / "artifacts" / "figures" / "figure.png").is_file()


def test_runs_of_one_experiment_share_it(store: TrackingConfig, run_id: str) -> None:
    other = runs.start_run(store, name="another", params={}, tags={})
    client = MlflowClient(store.uri)
    assert client.get_run(other).info.experiment_id == client.get_run(run_id).info.experiment_id


def test_two_jobs_that_create_the_same_experiment_both_get_it(store: TrackingConfig) -> None:
    both = TrackingConfig(uri=store.uri, experiment="created by two")
    client = MlflowClient(store.uri)
    for _ in range(2):
        _create_experiment(client, both)
    assert client.get_experiment_by_name("created by two")


def test_a_deleted_experiment_is_refused_with_the_way_out(store: TrackingConfig) -> None:
    gone = TrackingConfig(uri=store.uri, experiment="gone")
    run_id = runs.start_run(gone, name="a run", params={}, tags={})
    client = MlflowClient(store.uri)
    client.delete_experiment(client.get_run(run_id).info.experiment_id)
    with pytest.raises(ValueError, match=r"tracking\.experiment=gone was deleted .* restore it"):
        runs.start_run(gone, name="a run", params={}, tags={})


def test_a_relative_store_is_refused() -> None:
    relative = TrackingConfig(uri="sqlite:///mlflow.db")
    with pytest.raises(ValueError, match=r"tracking\.uri=sqlite:///mlflow\.db is relative"):
        runs.start_run(relative, name="a run", params={}, tags={})


def test_long_values_are_cut_and_stay_different(store: TrackingConfig) -> None:
    run_id = runs.start_run(
        store,
        name="long",
        params={"a": "x" * 9000, "b": "x" * 9001, "fits": "y" * 6000},
        tags={"long": "z" * 9000},
    )
    data = MlflowClient(store.uri).get_run(run_id).data
    assert len(data.params["a"]) == len(data.params["b"]) == 6000
    assert data.params["a"] != data.params["b"]
    assert data.params["fits"] == "y" * 6000
    assert len(data.tags["long"]) == 8000


def test_more_params_than_one_call_takes_are_all_stored(store: TrackingConfig) -> None:
    params = {f"section.key{i}": i for i in range(250)}
    run_id = runs.start_run(store, name="many", params=params, tags={})
    assert len(MlflowClient(store.uri).get_run(run_id).data.params) == 250


def test_a_run_names_its_data_once_however_often_it_is_told(
    store: TrackingConfig, run_id: str
) -> None:
    for _ in range(2):
        runs.log_data(
            store, run_id, name="synthetic AnoVox", split_hash="4f7f8d1c1201c258", root="/scenes"
        )
    inputs = MlflowClient(store.uri).get_run(run_id).inputs
    assert inputs is not None
    (used,) = inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("synthetic AnoVox", "4f7f8d1c1201c258")
    assert "/scenes" in used.dataset.source


def test_a_long_description_is_cut_between_lines_and_says_so(
    store: TrackingConfig, run_id: str
) -> None:
    def shown(text: str) -> list[str]:
        runs.set_description(store, run_id, text)
        return MlflowClient(store.uri).get_run(run_id).data.tags["mlflow.note.content"].split("\n")

    lines = [f"| row {number} | {'x' * 80} |" for number in range(200)]
    assert shown("\n".join(lines[:50])) == lines[:50]
    *first, _, last = shown("\n".join(lines))
    assert first == lines[: len(first)]
    assert last == f"({200 - len(first)} more lines in the run's artifacts)"
    assert len(first) > 50


def test_a_run_shows_its_revision_where_mlflow_shows_revisions(store: TrackingConfig) -> None:
    run_id = runs.start_run(store, name="a run", params={}, tags={"revision": "abc"})
    run = MlflowClient(store.uri).get_run(run_id)
    assert run.data.tags["mlflow.source.git.commit"] == "abc"


def test_finish_sets_tags_and_status(store: TrackingConfig, run_id: str) -> None:
    runs.finish(store, run_id, status="FAILED", tags={"failure": "no_signal"})
    run = MlflowClient(store.uri).get_run(run_id)
    assert (run.info.status, run.data.tags["failure"]) == ("FAILED", "no_signal")


def test_a_reopened_run_is_running_and_no_failure(store: TrackingConfig, run_id: str) -> None:
    tags = {"failure": "interrupted", "failure_message": "", "split_hash": "5b1f"}
    runs.finish(store, run_id, status="KILLED", tags=tags)
    runs.reopen(store, run_id)
    run = MlflowClient(store.uri).get_run(run_id)
    assert run.info.status == "RUNNING"
    assert "split_hash" in run.data.tags
    assert not runs.END_TAGS & run.data.tags.keys()


def test_a_job_killed_before_its_params_were_logged_logs_them_when_it_goes_on(
    store: TrackingConfig,
) -> None:
    run_id = runs.start_run(store, name="killed", params={"a": 1}, tags={})
    runs.reopen(store, run_id, params={"a": 2, "b": 3})
    assert MlflowClient(store.uri).get_run(run_id).data.params == {"a": "1", "b": "3"}


def test_a_result_that_is_told_again_is_not_logged_twice(
    store: TrackingConfig, run_id: str
) -> None:
    for ap in (0.25, 0.25, 0.5):
        runs.log_metrics(store, run_id, {"test/ap": ap, "test/undefined": math.nan})
    client = MlflowClient(store.uri)
    values = [point.value for point in client.get_metric_history(run_id, "test/ap")]
    assert sorted(values) == [0.25, 0.5]
    assert len(client.get_metric_history(run_id, "test/undefined")) == 1


def test_reopening_a_run_of_another_store_is_refused(store: TrackingConfig) -> None:
    with pytest.raises(ValueError, match=r"run 0000 is not in sqlite:.* set tracking\.uri to"):
        runs.reopen(store, "0000")


# ---- runs that fail


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (RunFailed("scores are all alike", reason="collapsed"), "FAILED", "collapsed"),
        (ValueError("data.blocks is empty"), "FAILED", "bad_input"),
        (ZeroDivisionError("division by zero"), "FAILED", "error"),
        (KeyboardInterrupt(), "KILLED", "interrupted"),
        (SystemExit(15), "KILLED", "interrupted"),
    ],
)
def test_a_block_that_raises_ends_its_run_with_the_reason(
    store: TrackingConfig, run_id: str, error: BaseException, status: str, reason: str
) -> None:
    with pytest.raises(type(error)), runs.failing(store, run_id):
        raise error
    run = MlflowClient(store.uri).get_run(run_id)
    assert (run.info.status, run.data.tags["failure"]) == (status, reason)
    assert run.data.tags["failure_message"] == str(error)


def test_a_block_that_ends_well_leaves_its_run_running(store: TrackingConfig, run_id: str) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with runs.failing(store, run_id):
        pass
    assert MlflowClient(store.uri).get_run(run_id).info.status == "RUNNING"
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_first_error_is_raised_even_if_the_store_is_gone(
    store: TrackingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ZeroDivisionError), runs.failing(store, "0000"):
        raise ZeroDivisionError
    assert "run 0000 could not be marked FAILED" in caplog.text


INSIDE = """
import sys, time
from pipeline.tracking import runs
from pipeline.config.schema import TrackingConfig
store = TrackingConfig(uri=sys.argv[1])
with runs.failing(store, sys.argv[2]):
    runs.demand_run(store, sys.argv[2])
    try:
        print('inside', flush=True)
        # In short pieces: a signal between Python's last look and the call would not end a sleep.
        for _ in range(600):
            time.sleep(0.1)
    finally:
        time.sleep(float(sys.argv[3]))
"""


def inside(job: Job | subprocess.Popen[str]) -> None:
    assert job.stdout
    assert job.stdout.readline() == "inside\n"


def end_of(store: TrackingConfig, run_id: str) -> tuple[str, str | None]:
    run = MlflowClient(store.uri).get_run(run_id)
    return run.info.status, run.data.tags.get("failure")


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_job_ends_its_run_as_killed_however_often_it_is_told(
    store: TrackingConfig,
    run_id: str,
    start: Callable[..., Job],
    number: int,
    sent: signal.Signals,
) -> None:
    job = start(INSIDE, store.uri, run_id, "0.3")
    inside(job)
    for _ in range(number):
        job.send_signal(sent)
        # Long enough for the handler, short enough to come inside the block's clean-up.
        time.sleep(0.1)
    code = 128 + sent if sent is signal.SIGTERM else -sent
    assert job.wait(timeout=60) == code
    assert end_of(store, run_id) == ("KILLED", "interrupted")


def test_a_signal_while_the_end_is_written_waits_for_it(
    store: TrackingConfig, run_id: str, start: Callable[..., Job]
) -> None:
    """The store is locked when the first signal comes, so the end is written during the second."""
    job = start(INSIDE, store.uri, run_id, "0.0")
    inside(job)
    with locked(store):
        for _ in range(3):
            job.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        assert job.poll() is None
    assert job.wait(timeout=60) == 128 + signal.SIGTERM
    assert end_of(store, run_id) == ("KILLED", "interrupted")


def test_timeout_ends_a_job_with_its_run(store: TrackingConfig, run_id: str) -> None:
    """It sends SIGTERM to the job and once more to its process group."""
    command = ["timeout", "-s", "TERM", "30", sys.executable, "-c", INSIDE]
    job = subprocess.Popen(
        [*command, store.uri, run_id, "0.3"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, preexec_fn=own_signals,
    )  # fmt: skip
    inside(job)
    os.kill(job.pid, signal.SIGALRM)
    assert job.wait(timeout=60) == 124
    assert end_of(store, run_id) == ("KILLED", "interrupted")


# ---- metrics


def test_every_value_logged_is_stored_once(store: TrackingConfig, run_id: str) -> None:
    logger = MetricLogger(store.uri, run_id)
    for step in range(50):
        logger.log(step, {"train/loss": 1 / (1 + step), "train/lr": 0.1})
    logger.close()
    assert runs.read_history(store, run_id, "train/loss") == [(s, 1 / (1 + s)) for s in range(50)]
    assert runs.read_history(store, run_id, "train/lr") == [(s, 0.1) for s in range(50)]


def test_logging_does_not_wait_for_the_store(store: TrackingConfig, run_id: str) -> None:
    logger = MetricLogger(store.uri, run_id)
    with locked(store):
        started = time.monotonic()
        for step in range(1000):
            logger.log(step, {"train/loss": 0.5})
        assert time.monotonic() - started < 0.5
    logger.close()
    assert len(runs.read_history(store, run_id, "train/loss")) == 1000


def test_one_step_may_hold_more_metrics_than_one_call_takes(
    store: TrackingConfig, run_id: str
) -> None:
    logger = MetricLogger(store.uri, run_id)
    logger.log(7, {f"slice/{i}": float(i) for i in range(2300)})
    logger.close()
    metrics = MlflowClient(store.uri).get_run(run_id).data.metrics
    assert metrics == {f"slice/{i}": float(i) for i in range(2300)}


def test_a_restarted_logger_leaves_no_gap_and_no_duplicate(
    store: TrackingConfig, run_id: str
) -> None:
    first = MetricLogger(store.uri, run_id)
    for step in range(30):
        first.log(step, {"train/loss": float(step)} | ({"val/ap": 0.1} if step == 10 else {}))
    first.close()
    again = MetricLogger(store.uri, run_id)
    for step in range(20, 40):  # from the checkpoint at step 20
        again.log(step, {"train/loss": float(step)} | ({"val/ap": 0.2} if step == 25 else {}))
    again.close()
    assert runs.read_history(store, run_id, "train/loss") == [(s, float(s)) for s in range(40)]
    assert runs.read_history(store, run_id, "val/ap") == [(10, 0.1), (25, 0.2)]


def test_a_killed_worker_leaves_no_gap_when_it_flushed_before_its_checkpoint(
    store: TrackingConfig, run_id: str, start: Callable[..., Job]
) -> None:
    code = (
        "import os, signal, sys; from pipeline.tracking.metric_logger import MetricLogger\n"
        "logger = MetricLogger(sys.argv[1], sys.argv[2])\n"
        "for step in range(500):\n"
        "    logger.log(step, {'train/loss': 1.0})\n"
        "    if step == 200: logger.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert start(code, store.uri, run_id).wait(timeout=60) == -signal.SIGKILL
    again = MetricLogger(store.uri, run_id)
    for step in range(201, 600):
        again.log(step, {"train/loss": 1.0})
    again.close()
    assert runs.read_history(store, run_id, "train/loss") == [(s, 1.0) for s in range(600)]


def test_an_error_in_the_background_is_raised_and_does_not_hang(
    store: TrackingConfig, run_id: str
) -> None:
    logger = MetricLogger(store.uri, run_id)
    MlflowClient(store.uri).delete_run(run_id)
    logger.log(0, {"train/loss": 1.0})
    with pytest.raises(RuntimeError, match=f"metrics of run {run_id} could not be logged"):
        logger.flush(timeout_s=10.0)
    with pytest.raises(RuntimeError, match="could not be logged"):
        logger.log(1, {"train/loss": 1.0})
    with pytest.raises(RuntimeError, match="could not be logged"):
        logger.close(timeout_s=10.0)


def test_a_store_that_does_not_answer_is_an_error_and_no_hang(
    store: TrackingConfig, run_id: str
) -> None:
    logger = MetricLogger(store.uri, run_id)
    with locked(store):
        logger.log(0, {"train/loss": 1.0, "train/lr": 0.1})
        with pytest.raises(RuntimeError, match=r"2 metrics of run \w+ were not in the .* 0.2 s"):
            logger.flush(timeout_s=0.2)
    logger.close()
    assert runs.read_history(store, run_id, "train/loss") == [(0, 1.0)]


def test_a_closed_logger_takes_no_more_and_its_thread_is_gone(
    store: TrackingConfig, run_id: str
) -> None:
    before = set(threading.enumerate())
    logger = MetricLogger(store.uri, run_id)
    (thread,) = set(threading.enumerate()) - before
    logger.close()
    logger.close()
    thread.join(timeout=5)
    assert not thread.is_alive()
    with pytest.raises(ValueError, match="closed"):
        logger.log(0, {"train/loss": 1.0})


def test_non_finite_values_are_logged_as_they_are(store: TrackingConfig, run_id: str) -> None:
    runs.log_metrics(store, run_id, {"test/ap": math.nan, "test/loss": math.inf})
    metrics = MlflowClient(store.uri).get_run(run_id).data.metrics
    assert math.isnan(metrics["test/ap"])
    assert metrics["test/loss"] == sys.float_info.max


def test_two_processes_write_to_one_run_at_the_same_time(
    store: TrackingConfig, run_id: str, start: Callable[..., Job]
) -> None:
    code = (
        "import sys; from pipeline.tracking.metric_logger import MetricLogger\n"
        "logger = MetricLogger(sys.argv[1], sys.argv[2])\n"
        "for step in range(100):\n"
        "    logger.log(step, {sys.argv[3]: float(step)})\n"
        "    logger.flush()\n"
        "logger.close()"
    )
    jobs = [start(code, store.uri, run_id, key) for key in ("driver/x", "rank0/x")]
    assert [job.wait(timeout=120) for job in jobs] == [0, 0]
    for key in ("driver/x", "rank0/x"):
        assert runs.read_history(store, run_id, key) == [(s, float(s)) for s in range(100)]


# ---- system metrics


def test_system_metrics_are_logged_while_the_block_runs(store: TrackingConfig, run_id: str) -> None:
    import ray  # noqa: F401  puts its own psutil on the path, as in every job

    with runs.system_metrics(store, run_id, interval_s=1):
        time.sleep(1.5)
    metrics = MlflowClient(store.uri).get_run(run_id).data.metrics
    assert 0 <= metrics["system/cpu_utilization_percentage"] <= 100
    assert metrics["system/system_memory_usage_megabytes"] > 0


def test_system_metrics_can_be_switched_off(store: TrackingConfig, run_id: str) -> None:
    off = TrackingConfig(uri=store.uri, system_metrics=False)
    with runs.system_metrics(off, run_id, interval_s=1):
        pass
    assert MlflowClient(store.uri).get_run(run_id).data.metrics == {}


def test_system_metrics_without_psutil_are_a_warning(
    store: TrackingConfig,
    run_id: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with runs.system_metrics(store, run_id, interval_s=1):
        pass
    assert "tracking.system_metrics=true has no effect" in caplog.text


@pytest.mark.parametrize(("set_by_user", "found"), [(None, "true"), ("false", "false")])
def test_telemetry_is_off_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, set_by_user: str | None, found: str
) -> None:
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY")
    if set_by_user:
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", set_by_user)
    code = "import os, pipeline.tracking.runs; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    shown = subprocess.check_output([sys.executable, "-c", code], cwd=REPOSITORY, text=True)
    assert shown == f"{found}\n"


# ---- a server


@pytest.mark.slow
def test_a_server_keeps_runs_and_artifacts_itself(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mlflow = str(Path(sys.executable).parent / "mlflow")
    command = [mlflow, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    places = ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    places += ["--artifacts-destination", str(tmp_path / "kept")]
    server = subprocess.Popen([*command, *places], cwd=tmp_path, start_new_session=True)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", timeout_s=90)
        _use_server(TrackingConfig(uri=f"http://127.0.0.1:{port}", experiment="served"), tmp_path)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def _wait_for(url: str, *, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
        else:
            return
    raise TimeoutError(url)


def _use_server(config: TrackingConfig, folder: Path) -> None:
    run_id = runs.start_run(config, name="a run", params=flatten(Config()), tags={"a": 1})
    logger = MetricLogger(config.uri, run_id)
    for step in range(20):
        logger.log(step, {"train/loss": float(step), "val/ap": math.nan})
    logger.close()
    (folder / "figures").mkdir()
    (folder / "figures" / "roc.png").write_bytes(b"1")
    runs.log_artifacts(config, run_id, folder / "figures", subfolder="figures")
    runs.finish(config, run_id)
    assert runs.read_history(config, run_id, "train/loss") == [(s, float(s)) for s in range(20)]
    run = MlflowClient(config.uri).get_run(run_id)
    assert math.isnan(run.data.metrics["val/ap"])
    assert run.info.status == "FINISHED"
    assert list((folder / "kept").rglob("roc.png"))


def test_a_model_is_registered_once_and_the_alias_moves(
    store: TrackingConfig, run_id: str, tmp_path: Path
) -> None:
    def version(of: str) -> str:
        return model_registry.register(
            store, run_id, model=str(tmp_path / of), name="search", alias="best"
        )

    assert [version("one"), version("two"), version("one")] == ["1", "2", "1"]
    client = MlflowClient(store.uri)
    assert client.get_model_version_by_alias("search", "best").source == str(tmp_path / "one")
    assert len(client.search_model_versions("name = 'search'")) == 2
