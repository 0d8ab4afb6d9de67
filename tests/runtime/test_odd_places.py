"""Names that mean something in an address mean nothing in a path: files lie where the user said."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.schema import TrackingConfig
from pipeline.tracking import runs
from pipeline.tracking.metric_logger import MetricLogger

ODD = ["a b", "异常", "a%20b", "what?now", "run #2", "a;b&c=d", "a+b"]


@pytest.mark.parametrize("name", ODD)
def test_a_store_and_its_artifacts_lie_in_the_folder_that_was_named(
    name: str, new_store: Callable[[Path], str], tmp_path: Path
) -> None:
    folder, written = tmp_path / name, tmp_path / "figures"
    folder.mkdir()
    written.mkdir()
    (written / "figure.png").write_bytes(b"1")
    config = TrackingConfig(uri=new_store(folder), experiment="tests")
    run_id = runs.start_run(config, name="a run", params={"a": 1}, tags={})
    logger = MetricLogger(config.uri, run_id)
    logger.log(1, {"train/loss": 0.5})
    logger.close()
    runs.log_artifacts(config, run_id, written, subfolder="figures")
    assert runs.read_history(config, run_id, "train/loss") == [(1, 0.5)]
    (artifact,) = folder.rglob("figure.png")
    assert artifact.is_relative_to(folder / "mlartifacts" / run_id)
    assert {path.name for path in tmp_path.iterdir()} == {name, "figures"}


def test_a_store_that_is_not_there_yet_is_made_in_the_folder_that_was_named(tmp_path: Path) -> None:
    folder = tmp_path / "#1 of 100%3F?"
    config = TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db", experiment="tests")
    runs.start_run(config, name="a run", params={}, tags={})
    assert (folder / "mlflow.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
