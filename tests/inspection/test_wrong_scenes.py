"""A healthy scene passes every line; each way of being wrong fails on its own lines only."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.frame import read_frame
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.scene import Scene
from pipeline.datasets.anovox.weather import read_weather
from pipeline.inspection.check import Check
from pipeline.synthetic.writer import write_archives
from tests.helpers import wrong_archives as wrong

Checks = Callable[[Scene], dict[str, Check]]
Failed = Callable[[Scene], set[str]]
Scenes = Callable[[Path], list[Scene]]
NUM_FRAMES = 4
TOWNS = ["Town01", "Town02", "Town03", "Town04", "Town05", "Town06", "Town07", "Town10"]


def not_passed(checks: Checks, scenes: Sequence[Scene]) -> list[str]:
    return [
        f"{scene.archive} {scene.scene_id}: {check.name} {check.status}, {check.found}"
        for scene in scenes
        for check in checks(scene).values()
        if check.status != "pass"
    ]


# ---- healthy


def test_every_line_passes_on_healthy_scenes_of_both_kinds(
    drive: Path, scenes: Scenes, checks: Checks
) -> None:
    assert not not_passed(checks, scenes(drive))


@pytest.mark.parametrize(
    ("width", "height", "channels", "rate"),
    [(96, 64, 16, 40_000), (384, 256, 32, 200_000), (768, 512, 64, 1_000_000)],
)
def test_every_line_passes_at_every_size(
    tmp_path: Path,
    width: int,
    height: int,
    channels: int,
    rate: int,
    scenes: Scenes,
    checks: Checks,
    drive_config: SyntheticConfig,
) -> None:
    size = {"image_width": width, "image_height": height}
    config = replace(
        drive_config, num_frames=2, num_channels=channels, points_per_second=rate, **size
    )
    write_archives(config, tmp_path)
    assert not not_passed(checks, scenes(tmp_path))


@pytest.mark.parametrize(
    ("seed", "num_scenes"),
    [
        pytest.param(11, 32, marks=pytest.mark.slow),
        pytest.param(11, 48, marks=pytest.mark.long),
        pytest.param(12, 48, marks=pytest.mark.long),
        pytest.param(13, 48, marks=pytest.mark.long),
    ],
)
def test_every_line_passes_in_every_town_and_weather(
    tmp_path: Path,
    seed: int,
    num_scenes: int,
    scenes: Scenes,
    checks: Checks,
    drive_config: SyntheticConfig,
) -> None:
    config = replace(drive_config, seed=seed, num_scenes=num_scenes, num_frames=4, towns=TOWNS)
    write_archives(config, tmp_path)
    presets = {
        w for archive in find_archives(tmp_path) for w in read_weather(archive.path).values()
    }
    assert len(presets) >= 8
    assert not not_passed(checks, scenes(tmp_path))


def test_expectations_come_from_the_setup(drive: Path, checks: Checks, scenes: Scenes) -> None:
    found = checks(scenes(drive)[0])
    assert "192 x 128" in found["image form"].expected
    assert "to 4000" in found["cloud form"].expected  # 40,000 rays a second, 10 frames
    assert "about 0.067 m" in found["row alignment"].expected
    assert "vz 24 " in found["voxel height"].expected


def test_a_check_says_on_how_much_it_was_measured(
    drive: Path, checks: Checks, scenes: Scenes
) -> None:
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
def test_a_wrong_scene_fails_on_its_own_lines_only(scene: Scene, case: str, failed: Failed) -> None:
    spoil, must, may = CASES[case]
    spoil(scene)
    found = failed(scene)
    assert must <= found, f"missed {must - found}"
    assert found <= must | may, f"also failed {found - must - may}"


def test_files_of_another_frame_are_of_another_place(drive: Path, scenes: Scenes) -> None:
    scene = scenes(drive)[0]
    places = [
        read_frame(scene, frame_id, modalities=()).world_from_lidar[:3, 3]
        for frame_id in scene.frame_ids
    ]
    moved = [np.linalg.norm(b - a) for a, b in zip(places, places[wrong.AWAY :], strict=False)]
    assert min(moved) > 5


def test_depth_points_in_the_grid_are_recognised(scene: Scene, checks: Checks) -> None:
    wrong.merge_depth_into_voxels(scene)
    found = checks(scene)["voxel content"]
    assert found.status == "warn"
    assert "Depth points were merged" in found.meaning
