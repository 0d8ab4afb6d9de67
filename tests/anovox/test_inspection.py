"""A healthy scene passes every line; each way of being wrong fails on its own lines only."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import wrong_archives as wrong

from pipeline.anovox.frame import read_frame
from pipeline.anovox.geometry import voxelise
from pipeline.anovox.inspection.archive import inspect_archive
from pipeline.anovox.inspection.check import Check
from pipeline.anovox.inspection.files import check_folders
from pipeline.anovox.inspection.sample import read_sample
from pipeline.anovox.inspection.scene import inspect_scene
from pipeline.anovox.inspection.voxels import check_pixel_voxels
from pipeline.anovox.inventory import take_inventory
from pipeline.anovox.layout import find_archives
from pipeline.anovox.scene import Scene, read_scenes
from pipeline.anovox.synthetic.writer import write_archives
from pipeline.anovox.weather import read_weather
from pipeline.config import SyntheticConfig

NUM_FRAMES = 4
DRIVE = SyntheticConfig(
    seed=19,  # the anomaly is in sight, and the ego moves 17 m within AWAY frames
    num_scenes=2,
    num_frames=2 * wrong.AWAY + 1,
    towns=["Town03"],
    image_width=192,
    image_height=128,
    num_channels=16,
    points_per_second=40_000,
    num_processes=1,
)
TOWNS = ["Town01", "Town02", "Town03", "Town04", "Town05", "Town06", "Town07", "Town10"]


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A normality and a static scene long enough for files of a frame far away."""
    root = tmp_path_factory.mktemp("drive") / "anovox"
    write_archives(DRIVE, root)
    return root


@pytest.fixture
def scene(drive: Path, tmp_path: Path) -> Scene:
    """A copy of the normality scene, to be changed."""
    return copied(drive, tmp_path, "Normality")


@pytest.fixture
def static_scene(drive: Path, tmp_path: Path) -> Scene:
    """A copy of the static scene, to be changed."""
    return copied(drive, tmp_path, "Static")


def copied(drive: Path, place: Path, kind: str) -> Scene:
    name = f"AnoVox_{kind}_Mono_Town03"
    shutil.copytree(drive / name, place / "anovox" / name)
    [scene] = scenes(place / "anovox")
    return scene


def scenes(root: Path) -> list[Scene]:
    return [read_scenes(path, a)[0] for a in find_archives(root) for path in a.scenes]


def checks(scene: Scene, *, num_frames: int = NUM_FRAMES) -> dict[str, Check]:
    return {check.name: check for check in inspect_scene(scene, num_frames=num_frames).checks}


def failed(scene: Scene) -> set[str]:
    return {name for name, check in checks(scene).items() if check.status == "FAIL"}


def not_passed(root: Path) -> list[str]:
    return [
        f"{scene.archive} {scene.scene_id}: {check.name} {check.status}, {check.found}"
        for scene in scenes(root)
        for check in checks(scene).values()
        if check.status != "pass"
    ]


# ---- healthy


def test_every_line_passes_on_healthy_scenes_of_both_kinds(drive: Path) -> None:
    assert not not_passed(drive)


@pytest.mark.parametrize(
    ("width", "height", "channels", "rate"),
    [(96, 64, 16, 40_000), (384, 256, 32, 200_000), (768, 512, 64, 1_000_000)],
)
def test_every_line_passes_at_every_size(
    tmp_path: Path, width: int, height: int, channels: int, rate: int
) -> None:
    size = {"image_width": width, "image_height": height}
    config = replace(DRIVE, num_frames=2, num_channels=channels, points_per_second=rate, **size)
    write_archives(config, tmp_path)
    assert not not_passed(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_every_line_passes_in_every_town_and_weather(tmp_path: Path, seed: int) -> None:
    write_archives(replace(DRIVE, seed=seed, num_scenes=48, num_frames=4, towns=TOWNS), tmp_path)
    presets = {
        w for archive in find_archives(tmp_path) for w in read_weather(archive.path).values()
    }
    assert len(presets) >= 8
    assert not not_passed(tmp_path)


def test_expectations_come_from_the_setup(drive: Path) -> None:
    found = checks(scenes(drive)[0])
    assert "192 x 128" in found["image form"].expected
    assert "to 4000" in found["cloud form"].expected  # 40,000 rays a second, 10 frames
    assert "about 0.067 m" in found["row alignment"].expected
    assert "vz 24 " in found["voxel height"].expected


def test_a_check_says_on_how_much_it_was_measured(drive: Path) -> None:
    found = checks(scenes(drive)[0])
    assert found["frames per folder"].num_frames == 41
    assert found["files readable"].num_items == 41 * 9
    assert found["points vs voxels"].num_frames == NUM_FRAMES
    assert found["points vs voxels"].num_items > 10_000


# ---- wrong, each on the right line: lines that must fail, and lines that may


ABOUT_VOXELS = {"voxel content", "points vs voxels", "pixels vs voxels"}
SAME_CLOUD = {"row alignment", "points vs pixels", "cloud form", *ABOUT_VOXELS}
take = wrong.take_files_of_another_frame
CASES: dict[str, tuple[Callable[[Scene], None], set[str], set[str]]] = {
    "mirrored clouds": (
        wrong.mirror_clouds,
        {"projection sign", "depth", "voxel content"},
        {"points vs pixels", "points vs voxels"},
    ),
    "mirrored images": (
        wrong.mirror_images,
        {"projection sign", "depth"},
        {"points vs pixels", "pixels vs voxels"},
    ),
    "voxels without shift": (
        partial(wrong.shift_voxels, shift_m=(0, 0, 0)),
        {"voxel height", "voxel content", "points vs voxels"},
        {"pixels vs voxels"},
    ),
    "voxels with the sign of the shift swapped": (
        partial(wrong.shift_voxels, shift_m=(0, 0, 1.8)),
        {"voxel height", "voxel content", "points vs voxels"},
        {"pixels vs voxels"},
    ),
    "voxels one layer up": (
        partial(wrong.shift_voxels, shift_m=(0, 0, -1.3)),
        {"voxel height", "voxel content", "points vs voxels"},
        {"pixels vs voxels"},
    ),
    "voxels moved forward": (
        partial(wrong.shift_voxels, shift_m=(3, 0, -1.8)),
        {"voxel content", "points vs voxels"},
        {"pixels vs voxels"},
    ),
    "shuffled rows": (wrong.shuffle_rows, {"row alignment"}, set()),
    "cloud labels of another frame": (
        lambda scene: take(scene, "semantic_lidar"),
        {"row alignment", "voxel content", "points vs voxels"},
        SAME_CLOUD,
    ),
    "classes of another frame": (
        wrong.take_classes_of_another_frame,
        {"points vs pixels", "voxel content", "points vs voxels"},
        {"ground class"},
    ),
    "image labels of another frame": (
        lambda scene: take(scene, "semantic"),
        {"points vs pixels", "sky class"},
        {"pixels vs voxels"},
    ),
    "cloud and image labels of another frame": (
        lambda scene: take(scene, "semantic", "semantic_lidar"),
        {"row alignment", "sky class", "voxel content", "points vs voxels"},
        SAME_CLOUD,
    ),
    "all labels of another frame": (
        lambda scene: take(scene, "semantic", "semantic_lidar", "voxels"),
        {"row alignment", "sky class"},
        {"cloud form", "points vs pixels"},
    ),
    "depth of another frame": (lambda scene: take(scene, "depth"), {"depth", "sky class"}, set()),
    "depth of another camera": (wrong.turn_depth, {"depth", "sky class"}, {"pixels vs voxels"}),
    "ids of CARLA 0.9.13": (wrong.use_old_class_table, {"ground class", "sky class"}, set()),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_scene_fails_on_its_own_lines_only(scene: Scene, case: str) -> None:
    spoil, must, may = CASES[case]
    spoil(scene)
    found = failed(scene)
    assert must <= found, f"missed {must - found}"
    assert found <= must | may, f"also failed {found - must - may}"


def test_files_of_another_frame_are_of_another_place(drive: Path) -> None:
    scene = scenes(drive)[0]
    places = [
        read_frame(scene, frame_id, modalities=()).world_from_lidar[:3, 3]
        for frame_id in scene.frame_ids
    ]
    moved = [np.linalg.norm(b - a) for a, b in zip(places, places[wrong.AWAY :], strict=False)]
    assert min(moved) > 5


def test_depth_points_in_the_grid_are_recognised(scene: Scene) -> None:
    wrong.merge_depth_into_voxels(scene)
    found = checks(scene)["voxel content"]
    assert found.status == "warn"
    assert "Depth points were merged" in found.meaning


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


def test_a_grid_with_the_cells_of_several_lidars_passes(scene: Scene) -> None:
    """The second LiDAR's cloud is displaced and wins some cells, as in AnoVox's MULTI set."""
    for frame_id in scene.frame_ids:
        files = scene.files(frame_id)
        cloud = np.load(files.semantic_lidar)
        both = np.concatenate([cloud, cloud - np.array([3.0, 0.0, 0.0, 0.0])])
        classes = both[:, 3].astype(np.uint8)
        grid, _ = voxelise(both, classes, voxel_from_lidar=wrong.shifted((0, 0, -1.8)))
        np.save(scene.file("voxels", frame_id), grid)
    found = checks(replace(scene, num_lidars=2))
    assert {name for name, check in found.items() if check.status != "pass"} == set()
    assert "cells of all LiDARs" in found["voxel content"].meaning
    assert "classes 100.0%" not in found["voxel content"].found


# ---- damaged files


def test_a_damaged_file_is_named_and_the_other_lines_go_on(scene: Scene) -> None:
    first = scene.files(scene.frame_ids[0])
    first.semantic.write_bytes(first.semantic.read_bytes()[:500])
    scene.file("voxels", scene.frame_ids[0]).write_bytes(b"")
    found = checks(scene)
    assert found["files readable"].status == "FAIL"
    assert str(first.semantic) in found["files readable"].found
    assert found["voxel content"].num_frames == NUM_FRAMES - 1
    assert failed(scene) == {"files readable"}


def test_a_damaged_file_in_a_frame_that_is_not_sampled_is_found_by_its_ends(scene: Scene) -> None:
    path = scene.files(scene.frame_ids[1]).depth
    path.write_bytes(path.read_bytes()[:-20])
    assert failed(scene) == {"files readable"}
    assert str(path) in checks(scene)["files readable"].found


def test_a_scene_without_any_whole_label_file_is_not_passed_in_silence(scene: Scene) -> None:
    for field in ("semantic_lidar", "semantic", "voxels", "action"):
        for path in wrong.paths(scene, field):
            path.write_bytes(b"damaged")
    found = checks(scene)
    assert found["files readable"].status == "FAIL"
    unmeasured = {name for name, check in found.items() if check.found == "not measured"}
    assert unmeasured >= {"points vs pixels", "voxel content", "ground class", "sky class", "depth"}
    assert all(found[name].status == "warn" for name in unmeasured)


def test_colours_instead_of_ids_fail_as_image_form(scene: Scene) -> None:
    wrong.change(scene, "semantic", lambda pixels: np.stack([pixels] * 3, axis=-1))
    found = checks(scene)["image form"]
    assert found.status == "FAIL"
    assert "SEMANTIC-CAM has 41 of RGB 192 x 128" in found.found


def test_unknown_ids_fail_as_class_ids(scene: Scene) -> None:
    wrong.change(scene, "semantic", lambda pixels: np.where(pixels == 3, 77, pixels))
    assert checks(scene)["class ids"].found == "unknown ids [77]"


def test_an_anomaly_in_normality_fails_as_class_ids(scene: Scene) -> None:
    path = scene.file("voxels", scene.frame_ids[1])  # a frame that is not sampled
    voxels = np.load(path)
    voxels[0, 3] = 30
    np.save(path, voxels)
    found = checks(scene)["class ids"]
    assert (found.status, found.found) == ("FAIL", "anomalous ids [30]")


def test_lost_frames_fail_and_a_broken_end_warns(scene: Scene) -> None:
    scene.files(scene.frame_ids[-1]).semantic.unlink()
    [archive] = find_archives(scene.path.parent.parent)
    found = checks(read_scenes(scene.path, archive)[0])["frames per folder"]
    assert (found.status, "lacks SEMANTIC-CAM" in found.found) == ("warn", True)
    scene.files(scene.frame_ids[5]).semantic.unlink()
    found = checks(read_scenes(scene.path, archive)[0])["frames per folder"]
    assert found.status == "FAIL"
    assert "lost in the middle" in found.meaning


def test_too_many_points_are_not_this_lidars(scene: Scene) -> None:
    for field in ("lidar", "semantic_lidar"):
        wrong.change(scene, field, lambda cloud: np.concatenate([cloud, cloud]))
    found = checks(scene)["cloud form"]
    assert found.status == "FAIL"
    assert found.expected.endswith("to 4000")


def test_points_beyond_the_range_fail_as_cloud_range(scene: Scene) -> None:
    wrong.change(scene, "lidar", lambda cloud: cloud * np.float32(1.2))
    assert checks(scene)["cloud range"].status == "FAIL"


# ---- anomalies


def test_the_placed_object_lies_on_its_points(static_scene: Scene) -> None:
    found = checks(static_scene)["anomaly location"]
    assert found.status == "pass"
    assert found.found.startswith("variant A, ")
    assert found.num_items >= 5
    assert found.num_frames >= 1


def test_a_record_of_another_place_fails_as_anomaly_location(static_scene: Scene) -> None:
    for path in wrong.paths(static_scene, "anomaly"):
        lines = path.read_text().splitlines()
        moved = ["location ; (0.0, 0.0, 0.0)" if s.startswith("location") else s for s in lines]
        path.write_text("\n".join(moved) + "\n")
    assert failed(static_scene) == {"anomaly location"}


# ---- whole archives


def test_an_archive_is_as_good_as_its_worst_scene(tmp_path: Path) -> None:
    config = replace(DRIVE, num_scenes=3, num_frames=2, kinds=["normality"])
    write_archives(config, tmp_path)
    [archive] = find_archives(tmp_path)
    wrong.shuffle_rows(read_scenes(archive.scenes[1], archive)[0])
    done: list[tuple[int, int]] = []
    report = inspect_archive(
        take_inventory(archive),
        num_scenes=0,
        num_frames=2,
        progress=lambda *counts: done.append(counts),
    )
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert report.status == "FAIL"
    [line] = [check for check in report.checks if check.status == "FAIL"]
    scene_id = archive.scenes[1].name.removeprefix("Scenario_")
    assert line.name == "row alignment"
    assert line.found.endswith(f"(scene {scene_id[:8]}; FAIL in 1 of 3 scenes)")
    assert line.num_frames == 6
    assert report.example is not None
    assert report.example.scene_id == scene_id


def test_the_sentence_counts_folders_scenes_and_frames_and_says_why(tmp_path: Path) -> None:
    config = replace(DRIVE, num_scenes=3, num_frames=2, kinds=["normality"])
    write_archives(config, tmp_path)
    [archive] = find_archives(tmp_path)
    for folder in archive.scenes[0].glob("SEMANTIC-LIDAR*"):
        shutil.rmtree(folder)
    report = inspect_archive(
        take_inventory(archive), num_scenes=1, num_frames=1, progress=lambda *_: None
    )
    start = f"AnoVox_Normality_Mono_Town03: 3 folders, 2 usable, 4 frames; {archive.scenes[0].name}"
    assert report.sentence.startswith(f"{start}: no folder SEMANTIC-LIDAR")
    assert report.checks[0].status == "warn"
    assert len(report.scenes) == 1


def test_a_refused_archive_fails_with_its_reason(tmp_path: Path) -> None:
    write_archives(replace(DRIVE, num_scenes=1, num_frames=1, kinds=["normality"]), tmp_path)
    [archive] = find_archives(tmp_path)
    refused = replace(archive, refusal="the legacy layout is not supported")
    report = inspect_archive(
        take_inventory(refused), num_scenes=0, num_frames=1, progress=lambda *_: None
    )
    assert report.status == "FAIL"
    assert report.checks[0].meaning == "the legacy layout is not supported"
    assert report.example is None
