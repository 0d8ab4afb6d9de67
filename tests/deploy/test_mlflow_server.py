"""deploy/mlflow/start.sh on a real PostgreSQL: one run logged with the password, none without."""

import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline.config.schema import TrackingConfig
from pipeline.tracking import runs
from pipeline.tracking.metric_logger import MetricLogger
from tests.helpers.ray_head import end_tree, free_ports, wait_for
from tests.helpers.repository import REPOSITORY

FOLDER = REPOSITORY / "deploy" / "mlflow"
PASSWORD = "correct horse battery staple"


def postgres_command(name: str) -> str:
    """Path of one of PostgreSQL's programs; Debian keeps them off PATH."""
    found = shutil.which(name) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None
    )
    if found is None:
        pytest.skip(f"PostgreSQL's {name} is not installed; apt install postgresql")
    return found


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """Address of an empty database of a PostgreSQL server on the loopback address."""
    initdb, postgres = postgres_command("initdb"), postgres_command("postgres")
    (port,) = free_ports(1)
    # Its own folder: PostgreSQL refuses to run as root, and another user cannot read pytest's.
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    user = "nobody" if os.getuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    password = folder / "password"
    password.write_text("database")
    password.chmod(0o644)
    data = folder / "data"
    subprocess.run(
        [initdb, "-D", data, "-U", "mlflow", "--auth=scram-sha-256", f"--pwfile={password}"],
        check=True, capture_output=True, cwd=folder, user=user,
    )  # fmt: skip
    command = [
        *(postgres, "-D", data, "-p", str(port), "-k", folder),
        *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"),
    ]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, user=user)
    try:
        yield f"postgresql+psycopg2://mlflow:database@127.0.0.1:{port}/postgres"
    finally:
        end_tree(server.pid)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Address and process of the server that start.sh starts."""
    folder = tmp_path_factory.mktemp("mlflow")
    (port,) = free_ports(1)
    scripts = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "DATABASE_URI": database,
        "ARTIFACTS": str(folder / "artifacts"),
        "PORT": str(port),
        "WORKERS": "1",
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a secret of this test",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(
            [str(FOLDER / "start.sh")], cwd=folder, env=environment, stdout=log, stderr=log
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", timeout_s=120)
        yield f"http://127.0.0.1:{port}", started.pid
    finally:
        end_tree(started.pid)


@pytest.fixture
def as_admin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


@pytest.mark.slow
def test_a_run_and_its_files_are_logged_and_read_back(
    server: tuple[str, int], as_admin: None, tmp_path: Path
):
    config = TrackingConfig(uri=server[0], experiment="cluster")
    run_id = runs.start_run(config, name="one", params={"train.lr": 0.002}, tags={"a": "b"})
    logger = MetricLogger(config.uri, run_id)
    for step in range(1, 51):
        logger.log(step, {"train/loss": 1 / step})
    logger.close()
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "loss.txt").write_text("a curve")
    runs.log_artifacts(config, run_id, tmp_path / "figures", subfolder="figures")
    runs.finish(config, run_id)

    client = MlflowClient(server[0])
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.lr"] == "0.002"
    history = client.get_metric_history(run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(s, 1 / s) for s in range(1, 51)]
    assert run.info.artifact_uri is not None
    assert run.info.artifact_uri.startswith("mlflow-artifacts:")
    fetched = client.download_artifacts(run_id, "figures/loss.txt", str(tmp_path))
    assert Path(fetched).read_text() == "a curve"


@pytest.mark.slow
@pytest.mark.parametrize("password", [None, "wrong"])
def test_without_the_password_nothing_is_read(
    server: tuple[str, int], password: str | None, monkeypatch: pytest.MonkeyPatch
):
    if password:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    with pytest.raises(MlflowException, match=r"401|authenticated"):
        MlflowClient(server[0], server[0]).search_experiments()


@pytest.mark.slow
def test_a_foreign_host_name_is_refused(server: tuple[str, int]):
    request = urllib.request.Request(f"{server[0]}/api/2.0/mlflow/experiments/search?max_results=1")
    request.add_header("Host", "evil.example")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == 403


@pytest.mark.slow
def test_the_server_listens_on_loopback_only(server: tuple[str, int]):
    root = psutil.Process(server[1])
    listening = {
        connection.laddr.ip
        for process in (root, *root.children(recursive=True))
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


@pytest.mark.slow
def test_no_command_line_shows_the_databases_password(server: tuple[str, int]):
    root = psutil.Process(server[1])
    lines = [" ".join(one.cmdline()) for one in (root, *root.children(recursive=True))]
    assert any("mlflow" in line for line in lines)
    assert not any("mlflow:database" in line for line in lines)


@pytest.mark.slow
def test_the_database_holds_runs_and_users(server: tuple[str, int], database: str):
    import psycopg2

    with (
        psycopg2.connect(database.replace("+psycopg2", "")) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("select table_name from information_schema.tables")
        tables = {name for (name,) in cursor.fetchall()}
        assert {"runs", "metrics", "users"} <= tables
        cursor.execute("select username, password_hash from users")
        ((name, stored),) = cursor.fetchall()
    assert name == "admin"
    assert PASSWORD not in stored


def test_the_server_is_not_started_without_its_settings():
    ran = subprocess.run(
        [str(FOLDER / "start.sh")], env={"PATH": os.environ["PATH"], "DATABASE_URI": "x"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode != 0
    assert "ARTIFACTS: a folder, or s3://BUCKET/FOLDER" in ran.stderr


def test_compose_publishes_the_server_on_loopback_and_holds_no_password():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    assert services["mlflow"]["ports"] == ["127.0.0.1:5000:5000"]
    assert "ports" not in services["postgres"]
    for service in services.values():
        secrets = {k: v for k, v in service["environment"].items() if "PASSWORD" in k or "KEY" in k}
        assert all(value.startswith("${") for value in secrets.values())


def test_the_server_has_the_version_of_mlflow_that_the_jobs_have():
    server = (FOLDER / "requirements.txt").read_text().replace("mlflow[auth]", "mlflow")
    jobs = (REPOSITORY / "requirements.txt").read_text()
    pinned = next(line for line in server.splitlines() if line.startswith("mlflow=="))
    assert pinned in jobs.splitlines()
