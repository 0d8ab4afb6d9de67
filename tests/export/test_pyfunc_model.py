"""The logged model: what it takes and gives, for every form, and in a process without this code."""

import dataclasses
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.load import merge, to_dict
from pipeline.config.model import FUSIONS
from pipeline.config.schema import Config
from pipeline.data.batch import Batch
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.evaluation.evaluate import evaluate
from pipeline.export.pyfunc_model import ServedDetector
from pipeline.models.detector import build_detector
from pipeline.training import checkpoints
from pipeline.training.checkpoints import CheckpointMeta, Position
from pipeline.training.trainer import fit
from tests.helpers.repository import REPOSITORY
from tests.helpers.small_model import SMALL
from tests.helpers.streets import street_batch

FORMS: list[dict[str, Any]] = [
    *({"fusion": fusion} for fusion in FUSIONS),
    {"lidar_backbone": "cylinder3d", "semantic_head": True, "score": "energy"},
    {"pixel_head": True},
    {"name": "simple"},
]


def saved(folder: Path, **settings: Any) -> tuple[Path, torch.nn.Module]:
    """A checkpoint with random weights, and its model."""
    torch.manual_seed(0)
    changes: dict[str, Any] = {"model": dataclasses.asdict(dataclasses.replace(SMALL, **settings))}
    if settings.get("name") == "simple":
        changes["loss"] = {"name": "prior_self_supervised"}
    config = merge(Config(), changes)
    num_classes = len(ANOVOX_CLASSES.semantic_names)
    model = build_detector(config.model, prior=0.01, num_classes=num_classes).eval()
    meta = CheckpointMeta(
        position=Position(epoch=1, step_in_epoch=0, step=1),
        config=to_dict(config),
        run_id="",
        split_hash="",
        revision="",
        prior=0.01,
        metrics={},
        thresholds={},
        best={},
        history=[],
        epoch_loss=[0.0, 0.0],
        largest_grad_norm=0.0,
        precision="fp32",
        grad_scaler={},
        semantic_classes=list(ANOVOX_CLASSES.semantic_names),
    )
    return checkpoints.save_checkpoint(folder, model, None, meta), model


def served(checkpoint: Path) -> ServedDetector:
    model = ServedDetector()
    model.load_context(SimpleNamespace(artifacts={"checkpoint": str(checkpoint)}))
    return model


def frames_of(batch: Batch) -> list[dict[str, np.ndarray]]:
    ends = batch.point_offset.tolist()
    return [
        {
            "image": batch.image[i].permute(1, 2, 0).numpy(),
            "points": batch.points[start:end].numpy(),
            "intrinsics": batch.intrinsics[i].numpy(),
            "camera_from_lidar": batch.camera_from_lidar[i].numpy(),
        }
        for i, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
    ]


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_a_served_model_gives_the_checkpoints_scores(settings: dict[str, Any], tmp_path: Path):
    checkpoint, model = saved(tmp_path, **settings)
    batch = street_batch(num_points=(300, 0, 200))
    with torch.no_grad():
        scores = model(batch)
    found = served(checkpoint).predict(None, frames_of(batch))
    assert [one["frame_score"] for one in found] == pytest.approx(
        scores.frame_score.tolist(), abs=1e-5
    )
    for name in ("point_score", "semantic"):
        whole = getattr(scores, name)
        assert (whole is None) == (name not in found[0])
        if whole is not None:
            joined = np.concatenate([one[name] for one in found])
            np.testing.assert_allclose(joined, whole.numpy(), atol=1e-5)
    if scores.pixel_score is not None:
        np.testing.assert_allclose(found[2]["pixel_score"], scores.pixel_score[2], atol=1e-5)


def test_one_frame_may_come_alone_and_no_frame_at_all(tmp_path: Path):
    checkpoint, _ = saved(tmp_path)
    model, frames = served(checkpoint), frames_of(street_batch())
    alone = model.predict(None, frames[0])
    assert len(alone) == 1
    assert alone[0]["point_score"].shape == (600,)
    assert model.predict(None, []) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"points": np.zeros((5, 3))},
            r"points of frame 1 has shape \(5, 3\); it takes \(any, 4\)",
        ),
        ({"image": np.zeros((8, 8))}, r"image of frame 1 has shape \(8, 8\)"),
        ({"image": np.zeros((8, 8, 3))}, "images have sizes"),
        ({"image": np.full((8, 8, 3), 0.5)}, "image of frame 1 holds values that no uint8 has"),
        ({"intrinsics": None}, "frame 1 has no intrinsics; a frame has image, points"),
    ],
)
def test_a_wrong_frame_is_one_sentence(change: dict[str, Any], sentence: str, tmp_path: Path):
    checkpoint, _ = saved(tmp_path)
    frames = frames_of(street_batch())
    frames[1] = {k: v for k, v in (frames[1] | change).items() if v is not None}
    with pytest.raises(ValueError, match=sentence):
        served(checkpoint).predict(None, frames)


LOADED = """
import sys
import mlflow
import numpy as np
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
frame = dict(np.load(sys.argv[3]))
found = model.predict([frame])
np.savez(sys.argv[4], point_score=found[0]["point_score"], frame_score=found[0]["frame_score"])
import pipeline
print(pipeline.__file__)
"""


@pytest.mark.slow
def test_an_evaluated_run_has_a_model_that_another_process_loads_without_this_code(
    small_training: Config, tmp_path: Path
):
    changes = {"model": {"fusion": "cross_attention"}, "train": {"num_epochs": 1}}
    config = merge(small_training, changes)
    trained = fit(config, say=lambda line: None)
    watch = lambda phase: lambda done, total: None  # noqa: E731
    with warnings.catch_warnings(record=True) as heard:
        evaluated = evaluate(config, watch=watch)
    assert not [one for one in heard if "type hint" in str(one.message)]
    assert evaluate(config, watch=watch).facts["logged_model"] == evaluated.facts["logged_model"]
    frame = frames_of(street_batch())[0]
    np.savez(tmp_path / "frame.npz", **frame)  # pyright: ignore[reportArgumentType]
    files = [str(tmp_path / name) for name in ("frame.npz", "scores.npz")]
    arguments = [config.tracking.uri, evaluated.facts["logged_model"], *files]
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(REPOSITORY) not in done.stdout
    here = served(trained.checkpoint).predict(None, frame)[0]
    with np.load(tmp_path / "scores.npz") as there:
        np.testing.assert_allclose(there["point_score"], here["point_score"], atol=1e-5)
        assert float(there["frame_score"]) == pytest.approx(here["frame_score"], abs=1e-5)
