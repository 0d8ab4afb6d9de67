"""A data set of another kind goes from its files to a results table by configuration alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.block_reader import BlockReader
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.data.prepare.prepare import find_blocks, prepare
from pipeline.datasets.protocol.registry import DATASETS, open_dataset
from pipeline.evaluation.evaluate import evaluate
from pipeline.training import checkpoints
from pipeline.training.trainer import fit
from tests.helpers.made_up_dataset import (
    CLASSES,
    CRATE,
    FRIDGE,
    HEIGHT,
    INTRINSICS,
    NUM_FRAMES,
    NUM_POINTS,
    WIDTH,
    MadeUp,
    rolled_camera,
    write_made_up,
)

NUM_SCENES = 4
"""One for each split and one more to train on."""
SETTINGS = {
    "data": {"dataset": "tests.helpers.made_up_dataset:MadeUp", "ego_box_m": [0.0, 0.0]},
    "prepare": {"image_width": WIDTH, "frames_per_shard": 4},
    "model": {
        "image_channels": 8,
        "point_channels": 8,
        "image_stages": 2,
        "semantic_head": True,
    },
    "outliers": {"raised_road": 1.0},
    "train": {"num_epochs": 2, "warmup_steps": 2, "precision": "fp32"},
    "scaling": {"num_workers": 0},
    "health_checks": {"enabled": False},
    "evaluation": {"num_bootstraps": 100},
}


def quiet(done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def config(
    new_store: Callable[[Path], str],
    ray_session: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Config:
    place = tmp_path_factory.mktemp("made-up")
    write_made_up(place / "drives", num_scenes=NUM_SCENES)
    (place / "drives" / "drive-empty").mkdir()
    (place / "drives" / "drive-0" / "frame-1.npz").write_bytes(b"torn")
    places = {
        "data": {"root": str(place / "drives"), "blocks": str(place / "blocks")},
        "storage_path": str(place / "runs"),
        "tracking": {"uri": new_store(place), "system_metrics": False},
    }
    return merge(Config(), SETTINGS, places)


@pytest.fixture(scope="module")
def manifest(config: Config) -> Manifest:
    return prepare(config, quiet)


def test_the_manifest_says_what_the_data_set_is(config: Config, manifest: Manifest):
    assert manifest.dataset == MadeUp.facts == read_manifest(find_blocks(config)).dataset
    assert (manifest.data_name, manifest.image_height, manifest.image_width) == (
        "made up",
        HEIGHT,
        WIDTH,
    )


def test_every_frame_is_a_row_or_in_quarantine(manifest: Manifest):
    assert manifest.num_found == NUM_SCENES * NUM_FRAMES
    assert (manifest.num_accepted, manifest.num_quarantined) == (manifest.num_found - 1, 1)
    assert (manifest.num_refused_scenes, manifest.num_refused_archives) == (1, 0)


def test_batches_hold_its_frames_and_its_classes_and_no_voxels(config: Config, manifest: Manifest):
    reader = BlockReader(find_blocks(config), "test", ego_box_m=(0.0, 0.0), extras=("voxels",))
    batch = reader.batch([0], augment_seed=None)
    line = reader.index.iloc[0]
    file = Path(config.data.root) / line["scene_id"] / f"frame-{line['frame_id']}.npz"
    with np.load(file) as arrays:
        assert np.array_equal(batch.points.numpy(), arrays["points"])
        assert np.array_equal(batch.image[0].permute(1, 2, 0).numpy(), arrays["image"])
    assert batch.points.shape == (NUM_POINTS, 4)
    assert batch.intrinsics.tolist() == [list(INTRINSICS)]
    np.testing.assert_allclose(batch.camera_from_lidar[0], rolled_camera(), atol=1e-7)
    assert batch.classes == CLASSES
    assert batch.voxels is None


def test_pixels_that_have_no_labels_are_refused(config: Config, manifest: Manifest):
    with pytest.raises(ValueError, match=r"made up has no pixel labels.*model.pixel_head=false"):
        BlockReader(find_blocks(config), "train", ego_box_m=(0.0, 0.0), extras=("pixels",))


def test_it_is_trained_and_evaluated_with_its_own_classes_and_slices(
    config: Config, manifest: Manifest
):
    trained = fit(config, say=lambda line: None)
    assert checkpoints.read_meta(trained.checkpoint).semantic_classes == [
        "street",
        "hedge",
        "crate",
    ]
    evaluated = evaluate(config, watch=lambda phase: quiet)
    metrics = evaluated.tally.metrics("test")
    assert evaluated.tally.lookalike_classes == (CRATE,)
    assert {"point", "small_object", "point_furniture", "frame"} <= set(evaluated.tally.slices)
    assert {name for name in metrics if "semantic_iou" in name} == {
        "test/semantic_iou_street",
        "test/semantic_iou_hedge",
        "test/semantic_iou_crate",
    }
    assert not any("voxel" in name or "animal" in name for name in metrics)
    frames = evaluated.tally.frames()
    assert frames["num_anomaly_points"].to_numpy().max() == 30
    assert "AnoVox" not in evaluated.text


def test_a_data_set_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ValueError, match=r"data.dataset=nowhere:Thing cannot .* one of anovox, or"):
        open_dataset("nowhere:Thing")
    assert open_dataset("anovox").facts.name == "AnoVox"
    assert all(open_dataset(name).facts.classes.classes for name in DATASETS)


def test_ids_outside_the_table_are_refused():
    with pytest.raises(ValueError, match=r"class ids \[9\] are not in the data set's class table"):
        CLASSES.label_of(np.array([FRIDGE, 9], np.uint8))
