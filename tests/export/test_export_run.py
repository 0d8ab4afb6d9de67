"""The exported file of a run: checked, described, logged, loaded by a process without this code."""

import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from jobs.export import work
from pipeline.config.load import merge, to_dict
from pipeline.config.schema import Config
from pipeline.data.manifest import file_hash, read_manifest
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.export import export_run as export_run
from pipeline.export.program import inputs_of, outputs_of
from pipeline.models.detector import build_detector
from pipeline.runtime.errors import RunFailed
from pipeline.tracking import runs
from pipeline.training import checkpoints
from pipeline.training.checkpoints import CheckpointMeta, Position
from tests.helpers.repository import REPOSITORY
from tests.helpers.streets import street_batch

SMALL = {"image_channels": 8, "point_channels": 8, "image_stages": 2, "pillar_size_m": 1.0}
LOADED = """
import sys
import numpy as np
import torch
program = torch.export.load(sys.argv[1]).module()
frame = {name: torch.from_numpy(array) for name, array in np.load(sys.argv[2]).items()}
np.savez(sys.argv[3], **{name: scores.detach() for name, scores in program(**frame).items()})
assert not {"pipeline", "jaxtyping"} & sys.modules.keys()
"""


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a program is traced numbers are symbols, which the checks of `int` refuse."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="module")
def exported(
    tiny_config: Config,
    tiny_blocks: Path,
    new_store: Callable[[Path], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Config, dict[str, Any]]:
    """A run and what the job says of its export, which takes many seconds; not to change."""
    place = tmp_path_factory.mktemp("exported")
    new_store(place)
    config = saved_run(tiny_config, tiny_blocks, place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        return config, work(config)


@pytest.fixture
def run(
    tiny_config: Config, tiny_blocks: Path, new_store: Callable[[Path], str], tmp_path: Path
) -> Config:
    """A run whose checkpoint has random weights, as `evaluation.checkpoint`."""
    new_store(tmp_path)
    return saved_run(tiny_config, tiny_blocks, tmp_path)


def saved_run(tiny_config: Config, blocks: Path, place: Path, **settings: Any) -> Config:
    torch.manual_seed(0)
    folder = place / "runs" / "run"
    config = merge(
        tiny_config,
        {
            "model": SMALL | settings,
            "storage_path": str(place / "runs"),
            "tracking": {"uri": f"sqlite:///{place}/mlflow.db", "system_metrics": False},
            "evaluation": {"checkpoint": str(folder)},
        },
    )
    meta = CheckpointMeta(
        position=Position(epoch=1, step_in_epoch=0, step=7),
        config=to_dict(config),
        run_id=runs.start_run(config.tracking, name="run", params={}, tags={}),
        split_hash=read_manifest(blocks).split_hash,
        revision="abc",
        prior=0.01,
        metrics={},
        thresholds={"point": -2.5},
        best={},
        history=[],
        epoch_loss=[0.0, 0.0],
        largest_grad_norm=0.0,
        precision="fp32",
        grad_scaler={},
        semantic_classes=list(ANOVOX_CLASSES.semantic_names),
    )
    num_classes = len(ANOVOX_CLASSES.semantic_names)
    model = build_detector(config.model, prior=meta.prior, num_classes=num_classes)
    checkpoints.save_checkpoint(folder / checkpoints.FOLDER, model, None, meta)
    return config


def model_of(config: Config) -> torch.nn.Module:
    checkpoint = checkpoints.find(Path(config.evaluation.checkpoint))
    model = build_detector(config.model, prior=0.01)
    checkpoints.load_model(checkpoint, model)
    return model.eval()


@pytest.mark.slow
def test_a_process_without_this_code_gets_the_models_scores(
    exported: tuple[Config, dict[str, Any]], tmp_path: Path
):
    run, facts = exported
    card = json.loads(Path(facts["card"]).read_text())
    height, width = card["inputs"][0]["shape"][2:]
    frame = street_batch(num_points=(300,), height=height, width=width)
    arrays = {name: tensor.numpy() for name, tensor in inputs_of(frame).items()}
    np.savez(tmp_path / "frame.npz", **arrays)  # pyright: ignore[reportArgumentType]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LOADED, facts["program"], *(
            str(tmp_path / name) for name in ("frame.npz", "scores.npz")
        )],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    with torch.no_grad():
        ours = outputs_of(model_of(run)(frame))
    with np.load(tmp_path / "scores.npz") as theirs:
        assert set(theirs) == set(ours) == {one["name"] for one in card["outputs"]}
        for name in ours:
            np.testing.assert_allclose(theirs[name], ours[name], rtol=0, atol=1e-4)


def test_the_card_describes_the_program_and_where_it_is_from(
    exported: tuple[Config, dict[str, Any]],
):
    run, facts = exported
    card = json.loads(Path(facts["card"]).read_text())
    program = torch.export.load(facts["program"])
    specs = [spec.arg.name for spec in program.graph_signature.input_specs]
    assert [one["name"] for one in card["inputs"]] == specs[-4:]
    assert card["inputs"][0]["shape"] == [1, 3, 64, 96]
    assert card["inputs"][1]["shape"] == ["P", 4]
    assert "|x| <= 2.6 and |y| <= 1.1" in card["inputs"][1]["meaning"]
    assert card["thresholds"] == {"point": -2.5}
    assert (card["run_id"], card["step"]) == (facts["run_id"], 7)
    assert card["is_synthetic"] is True
    assert card["checked"]["num_frames"] == facts["num_frames"] == 17
    assert max(card["checked"]["differences"].values()) <= 1e-4
    assert card["program_sha256"] == file_hash(Path(facts["program"]))
    with zipfile.ZipFile(facts["program"]) as archive:
        told = b"".join(archive.read(name) for name in archive.namelist() if "json" in name)
    assert str(REPOSITORY).encode() not in told
    files = MlflowClient(run.tracking.uri).list_artifacts(facts["run_id"], "export")
    assert {file.path for file in files} == {"export/detector.json", "export/detector.pt2"}
    assert {path.name for path in Path(facts["card"]).parent.iterdir()} == {
        "detector.json",
        "detector.pt2",
    }


def test_the_card_names_what_other_heads_and_windows_need(
    tiny_config: Config, tiny_blocks: Path, new_store: Callable[[Path], str], tmp_path: Path
):
    new_store(tmp_path)
    changes = {"semantic_head": True, "score": "energy", "pixel_head": True}
    config = merge(
        saved_run(tiny_config, tiny_blocks, tmp_path, **changes), {"data": {"num_sweeps": 3}}
    )
    meta = checkpoints.read_meta(checkpoints.find(Path(config.evaluation.checkpoint)))
    meta = dataclasses.replace(meta, config=to_dict(config))
    card = export_run.card_of(meta, read_manifest(tiny_blocks))
    assert card["inputs"][1]["columns"] == ["x", "y", "z", "intensity", "time"]
    outputs = {one["name"]: one for one in card["outputs"]}
    assert outputs["semantic"]["shape"][1] == len(outputs["semantic"]["classes"])
    assert outputs["pixel_score"]["shape"] == [1, 8, 12]
    assert "logsumexp" in outputs["point_score"]["meaning"]


@pytest.mark.slow
def test_a_program_that_differs_is_not_kept(
    run: Config, exported: tuple[Config, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    program = torch.export.load(exported[1]["program"])  # of the same weights
    monkeypatch.setattr(export_run, "export_detector", lambda *_, **__: program)
    monkeypatch.setattr(export_run, "TOLERANCE", -1.0)
    with pytest.raises(RunFailed, match="differ from the model's by more than") as caught:
        work(run)
    assert caught.value.reason == "export_differs"
    assert not list((Path(run.evaluation.checkpoint) / "export").iterdir())


def test_shards_of_another_split_are_refused(run: Config, monkeypatch: pytest.MonkeyPatch):
    checkpoint = checkpoints.find(Path(run.evaluation.checkpoint))
    meta = dataclasses.replace(checkpoints.read_meta(checkpoint), split_hash="other")
    checkpoints.save_checkpoint(checkpoint.parent, model_of(run), None, meta)
    with pytest.raises(ValueError, match="trained on split other"):
        work(run)
