"""Files that are missing, damaged or not AnoVox's: named on their line, and the others go on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets.anovox.geometry import voxelise
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.scene import Scene, read_scenes
from pipeline.inspection.check import Check
from pipeline.inspection.files import check_folders
from pipeline.inspection.sample import read_sample
from pipeline.inspection.voxels import check_pixel_voxels
from tests.helpers import wrong_archives as wrong

Checks = Callable[[Scene], dict[str, Check]]
Failed = Callable[[Scene], set[str]]
Scenes = Callable[[Path], list[Scene]]
NUM_FRAMES = 4


# ---- scenes that are whole for the reader, but lack something or have several poses


def test_a_missing_folder_or_setup_is_told(scene: Scene) -> None:
    folders = {field: path for field, path in scene.folders.items() if field != "voxels"}
    (scene.path / "sensor_setup.json").unlink()
    found = check_folders(replace(scene, folders=folders))
    assert (found.status, found.found) == ("warn", "no VOXEL_GRID, sensor_setup.json")


def test_without_a_grid_pixels_are_compared_with_the_clouds_own_voxels(scene: Scene) -> None:
    sample = read_sample(scene, scene.frame_ids[0])
    arrays = {name: array for name, array in sample.arrays.items() if name != "voxels"}
    without = replace(sample, arrays=arrays)
    assert check_pixel_voxels([without]).found == "not measured"
    found = check_pixel_voxels([without.with_own_voxels()])
    assert found.status == "pass"
    assert found.num_items > 1000


def test_a_grid_with_the_cells_of_several_lidars_passes(scene: Scene, checks: Checks) -> None:
    """The second LiDAR's cloud is displaced and wins some cells, as in AnoVox's MULTI set."""
    for frame_id in scene.frame_ids:
        files = scene.files(frame_id)
        cloud = np.load(files.semantic_lidar)
        both = np.concatenate([cloud, cloud - np.array([3.0, 0.0, 0.0, 0.0])])
        grid, _ = voxelise(
            both, both[:, 3].astype(np.uint8), voxel_from_lidar=wrong.shifted((0, 0, -1.8))
        )
        np.save(scene.file("voxels", frame_id), grid)
    found = checks(replace(scene, num_lidars=2))
    assert {name for name, check in found.items() if check.status != "pass"} == set()
    assert "cells of all LiDARs" in found["voxel content"].meaning
    assert "classes 100.0%" not in found["voxel content"].found


# ---- damaged files


def test_a_damaged_file_is_named_and_the_other_lines_go_on(
    scene: Scene, checks: Checks, failed: Failed
) -> None:
    first = scene.files(scene.frame_ids[0])
    first.semantic.write_bytes(first.semantic.read_bytes()[:500])
    scene.file("voxels", scene.frame_ids[0]).write_bytes(b"")
    found = checks(scene)
    assert found["files readable"].status == "FAIL"
    assert found["files readable"].found.startswith("2 damaged: ")
    assert first.semantic.name in found["files readable"].found
    assert found["voxel content"].num_frames == NUM_FRAMES - 1
    assert failed(scene) == {"files readable"}


def test_a_damaged_file_in_a_frame_that_is_not_sampled_is_found_by_its_ends(
    scene: Scene, checks: Checks, failed: Failed
) -> None:
    path = scene.files(scene.frame_ids[1]).depth
    path.write_bytes(path.read_bytes()[:-20])
    assert failed(scene) == {"files readable"}
    expected = f"1 damaged: {path.name}: the PNG is truncated"
    assert checks(scene)["files readable"].found == expected


@pytest.mark.parametrize(
    ("field", "content", "finding"),
    [
        ("lidar", b"", "its .npy header cannot be read"),
        ("lidar", b"\x93NUMPY\x01\x00\x06\x00{'a':(", "its .npy header cannot be read"),
        ("semantic_lidar", b"\x93NUMPY\x07\x00\x00\x00", "its .npy header cannot be read"),
        ("voxels", None, "its values are float64 instead of uint16"),
        ("route_map", b"", "it is empty"),
    ],
)
def test_damage_in_a_frame_that_is_not_sampled_is_named(
    scene: Scene, checks: Checks, failed: Failed, field: str, content: bytes | None, finding: str
) -> None:
    path: Path = getattr(scene.files(scene.frame_ids[1]), field)
    if content is None:
        np.save(path, np.ones((4, 4)))
    else:
        path.write_bytes(content)
    assert failed(scene) == {"files readable"}
    assert checks(scene)["files readable"].found.startswith(f"1 damaged: {path.name}: {finding}")


def test_a_scene_without_any_whole_label_file_is_not_passed_in_silence(
    scene: Scene, checks: Checks
) -> None:
    for field in ("semantic_lidar", "semantic", "voxels", "action"):
        for path in wrong.paths(scene, field):
            path.write_bytes(b"damaged")
    found = checks(scene)
    assert found["files readable"].status == "FAIL"
    unmeasured = {name for name, check in found.items() if check.found == "not measured"}
    assert unmeasured >= {"points vs pixels", "voxel content", "ground class", "sky class", "depth"}
    assert all(found[name].status == "warn" for name in unmeasured)


def test_colours_instead_of_ids_fail_as_image_form(scene: Scene, checks: Checks) -> None:
    wrong.change(scene, "semantic", lambda pixels: np.stack([pixels] * 3, axis=-1))
    found = checks(scene)["image form"]
    assert found.status == "FAIL"
    assert "SEMANTIC-CAM has 41 of RGB 192 x 128" in found.found


def test_unknown_ids_fail_as_class_ids(scene: Scene, checks: Checks) -> None:
    wrong.change(scene, "semantic", lambda pixels: np.where(pixels == 3, 77, pixels))
    assert checks(scene)["class ids"].found == "unknown ids [77]"


def test_an_anomaly_in_normality_fails_as_class_ids(scene: Scene, checks: Checks) -> None:
    path = scene.file("voxels", scene.frame_ids[1])  # a frame that is not sampled
    voxels = np.load(path)
    voxels[0, 3] = 30
    np.save(path, voxels)
    found = checks(scene)["class ids"]
    assert (found.status, found.found) == ("FAIL", "anomalous ids [30]")


def test_lost_frames_fail_and_a_broken_end_warns(scene: Scene, checks: Checks) -> None:
    scene.files(scene.frame_ids[-1]).semantic.unlink()
    [archive] = find_archives(scene.path.parent.parent)
    found = checks(read_scenes(scene.path, archive)[0])["frames per folder"]
    assert (found.status, "lacks SEMANTIC-CAM" in found.found) == ("warn", True)
    scene.files(scene.frame_ids[5]).semantic.unlink()
    found = checks(read_scenes(scene.path, archive)[0])["frames per folder"]
    assert found.status == "FAIL"
    assert "lost in the middle" in found.meaning


def test_too_many_points_are_not_this_lidars(scene: Scene, checks: Checks) -> None:
    for field in ("lidar", "semantic_lidar"):
        wrong.change(scene, field, lambda cloud: np.concatenate([cloud, cloud]))
    found = checks(scene)["cloud form"]
    assert found.status == "FAIL"
    assert found.expected.endswith("to 4000")


def test_points_beyond_the_range_fail_as_cloud_range(scene: Scene, checks: Checks) -> None:
    wrong.change(scene, "lidar", lambda cloud: cloud * np.float32(1.2))
    assert checks(scene)["cloud range"].status == "FAIL"
