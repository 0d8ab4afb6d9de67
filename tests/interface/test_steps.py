"""The six functions of the package: light to import, typed, and the jobs' own work."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

import pipeline
from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.prepare.prepare import find_blocks
from pipeline.data.readers import open_reader
from tests.helpers.repository import REPOSITORY

IMPORTED = """
import sys, time
import pipeline
print(*sorted(pipeline.__all__))
assert set(pipeline.__all__) <= set(dir(pipeline))
heavy = {"torch", "ray", "mlflow", "numpy", "pandas", "omegaconf"} & set(sys.modules)
assert not heavy, heavy
config = pipeline.load_config(None, ["train.lr=0.5"])
assert config.train.lr == 0.5
heavy = {"torch", "ray", "mlflow", "numpy", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""


def test_importing_the_package_imports_nothing_else():
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        *("evaluate", "load_config", "load_detector", "prepare", "score_frame", "train")
    ]


@pytest.mark.parametrize("name", pipeline.__all__)
def test_a_function_has_types_and_says_what_it_raises(name: str):
    function = getattr(pipeline, name)
    signature = inspect.signature(function)
    kinds = [parameter.annotation for parameter in signature.parameters.values()]
    assert inspect.Signature.empty not in (*kinds, signature.return_annotation)
    assert "ValueError" in str(inspect.getdoc(function))


def test_another_name_is_not_there():
    with pytest.raises(AttributeError, match="module 'pipeline' has no attribute 'fit'"):
        pipeline.fit  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_from_archives_to_a_scored_frame(small_training: Config):
    config = merge(small_training, {"train": {"num_epochs": 1}})
    told: list[str] = []
    manifest = pipeline.prepare(config)
    trained = pipeline.train(config, say=told.append)
    evaluated = pipeline.evaluate(config)
    assert manifest.num_found == 48
    assert told
    assert evaluated.facts["split_hash"] == manifest.split_hash
    run = MlflowClient(config.tracking.uri).get_run(trained.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/point_ap"] == evaluated.facts["test/point_ap"]

    detector = pipeline.load_detector(trained.folder)
    reader = open_reader(config, find_blocks(config), "test", num_sweeps=1, say=told.append)
    frame = reader.batch([0], augment_seed=None)
    scores = pipeline.score_frame(
        detector,
        frame.image[0].permute(1, 2, 0).numpy(),
        frame.points.numpy(),
        frame.intrinsics[0].numpy(),
        frame.camera_from_lidar[0].numpy(),
    )
    expected = detector.model(frame)
    assert scores.frame_score == pytest.approx(float(expected.frame_score[0].detach()), abs=1e-5)
    assert scores.point_score is not None
    np.testing.assert_allclose(scores.point_score, expected.point_score.detach().numpy(), atol=1e-5)
    assert detector.thresholds.keys() >= {"point", "frame"}


def test_packed_archives_are_brought_in_first(small_training: Config, tmp_path: Path):
    place = {"root": str(tmp_path), "archives": [str(tmp_path / "none.tar.gz")]}
    with pytest.raises(ValueError, match=r"none\.tar\.gz"):
        pipeline.prepare(merge(small_training, {"data": place}))


def test_a_place_without_a_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no whole checkpoint"):
        pipeline.load_detector(tmp_path)
