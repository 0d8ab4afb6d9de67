"""The arithmetic behind the checks: setup figures, sampling, braking, statuses, margins."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets.anovox.annotations import format_key_value, parse_key_value
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.lead_vehicle import braking_onset
from pipeline.datasets.anovox.scene import Scene, read_scenes
from pipeline.inspection.anomalies import check_kinematics
from pipeline.inspection.check import Check, not_measured, worst, worst_check
from pipeline.inspection.images import Agreement, agreement, graded, total
from pipeline.inspection.sample import UNSEEN_CLASS, class_ids, read_sample
from pipeline.inspection.scene import evenly_spread
from pipeline.inspection.setup import read_lidar_args

BRAKING = [8.0] * 4 + [7.5, 7.0, 6.5, 6.0] + [5.5] * 8
"""Metres per second: 5 m/s2 between frames 3 and 7."""


@pytest.fixture
def scene(archive_path: Path) -> Scene:
    [archive] = find_archives(archive_path.parent)
    return read_scenes(archive.scenes[0], archive)[0]


def line(status: str, name: str = "depth") -> Check:
    return replace(not_measured(name, "x", "y"), status=status)


# ---- statuses


def test_fail_is_worse_than_warn_and_warn_than_pass() -> None:
    assert worst([]) == "pass"
    assert worst(["pass", "warn"]) == "warn"
    assert worst(["FAIL", "warn", "pass"]) == "FAIL"


def test_the_first_of_the_worst_checks_speaks_for_all() -> None:
    checks = [line("pass"), line("FAIL", "first"), line("FAIL", "second"), line("warn")]
    assert worst_check(checks).name == "first"


def test_what_was_not_measured_is_never_passed() -> None:
    assert not_measured("depth", "x", "No file.").status == "warn"


@pytest.mark.parametrize(("share", "status"), [(0.5, "FAIL"), (0.9, "warn"), (0.95, "pass")])
def test_shares_are_graded_by_two_limits(share: float, status: str) -> None:
    assert graded(share, (0.9, 0.95)) == status


def test_agreements_add_up_over_frames() -> None:
    parts = [agreement(np.array([True, False, True])), agreement(np.array([True]))]
    assert total(parts) == Agreement(num_agreeing=3, num=4)
    assert str(total(parts)) == "75.0%"
    assert total([]).share == 0


# ---- sampling


def test_frames_are_spread_from_the_first_to_the_last() -> None:
    assert evenly_spread(range(100, 300), 5) == (100, 150, 200, 249, 299)
    assert evenly_spread((7, 8, 9), 8) == (7, 8, 9)
    assert evenly_spread(range(50), 1) == (0,)


def test_values_that_are_no_class_are_kept_as_such() -> None:
    column = np.array([0.0, 24.0, 214.0, -1.0, 2.5, 300.0])
    assert class_ids(column).tolist() == [0, 24, 214, UNSEEN_CLASS, UNSEEN_CLASS, UNSEEN_CLASS]


def test_a_sample_says_what_it_could_not_read_and_keeps_the_rest(scene: Scene) -> None:
    files = scene.files(999)
    files.lidar.write_bytes(b"")
    files.action.write_text("speed 30\n")
    sample = read_sample(scene, 999)
    assert sample.frame is None
    assert set(sample.arrays) >= {"depth_m", "semantic", "exact_xyz", "point_class", "voxels"}
    assert not sample.has("semantic")  # without calibration nothing can be projected
    assert [str(path) in error for path, error in zip(
        (files.action, files.lidar), sample.errors, strict=True
    )] == [True, True]  # fmt: skip


# ---- the setup


def change_setup(scene: Scene, change: Callable[[dict], None]) -> None:
    path = scene.path / "sensor_setup.json"
    tree = json.loads(path.read_text())
    for name, entry in tree.items():
        if "LIDAR" in name:
            change(entry["args"])
    path.write_text(json.dumps(tree))


def test_rays_and_noise_come_from_the_setup(scene: Scene) -> None:
    change_setup(scene, lambda args: args.update(points_per_second=1_000_000, noise_stddev=0.2))
    args = read_lidar_args(scene)
    assert args.num_rays == 64 * 1563  # AnoVox's own maximum, 100,032
    assert args.expected_row_offset_m == pytest.approx(0.1349)


def test_what_the_setup_does_not_give_stays_unknown(scene: Scene) -> None:
    args = read_lidar_args(scene)
    assert math.isinf(args.num_rays)
    assert math.isnan(args.noise_m)
    assert args.num_ground_rays(scene.setup) == 1


def test_rays_on_flat_ground_are_counted_by_elevation(scene: Scene) -> None:
    change_setup(scene, lambda args: args.update(points_per_second=1_000_000))
    # 38 of 64 channels look down by 1.03 degrees or more (1.8 m in 100 m); 90 % of their rays.
    assert read_lidar_args(scene).num_ground_rays(scene.setup) == int(0.9 * 38 * 1563)


# ---- braking


def test_the_onset_is_the_first_frame_of_the_first_hard_braking() -> None:
    assert braking_onset(np.array(BRAKING)) == 3
    assert braking_onset(np.array([8.0, 7.5, 7.0, 7.0, 6.5, 6.0, 6.0])) is None  # two ticks only
    assert braking_onset(np.linspace(8, 2, 20)) is None  # 3.2 m/s2 all along
    assert braking_onset(np.array([8.0, 2.0])) is None


@pytest.fixture
def dynamic(write_archive: Callable[..., Path], tmp_path: Path) -> Scene:
    """A scene whose ANOMALY records tell of a vehicle that brakes from frame 3 on."""
    write_archive(tmp_path / "long", frame_ids=range(990, 990 + len(BRAKING)))
    [archive] = find_archives(tmp_path / "long")
    scene = read_scenes(archive.scenes[0], archive)[0]
    for frame_id, speed in zip(scene.frame_ids, BRAKING, strict=True):
        rewrite(scene, frame_id, {"velocity": (0.6 * speed, -0.8 * speed, 0.0)})
    return replace(scene, kind="dynamic")


def rewrite(scene: Scene, frame_id: int, values: dict, *, without: str = "") -> None:
    path = scene.files(frame_id).anomaly
    assert path is not None
    record = parse_key_value(path.read_text()) | values
    record.pop(without, None)
    path.write_text(format_key_value(record))


def test_labels_that_begin_with_the_braking_pass(dynamic: Scene) -> None:
    found = check_kinematics(dynamic, [992, 993, 994])
    assert (found.status, found.found) == ("pass", "brakes at 3, id 100 from 2 on")


def test_labels_long_before_the_braking_fail(dynamic: Scene) -> None:
    found = check_kinematics(dynamic, [1000, 1001])
    assert (found.status, found.found) == ("FAIL", "brakes at 3, id 100 from 10 on")


def test_native_ids_are_told_and_left_to_the_kinematics(dynamic: Scene) -> None:
    found = check_kinematics(dynamic, [])
    assert (found.status, found.found) == ("pass", "brakes at 3, native ids only")


def test_the_speed_in_kmh_of_variant_b_does_as_well(dynamic: Scene) -> None:
    for frame_id, speed in zip(dynamic.frame_ids, BRAKING, strict=True):
        rewrite(dynamic, frame_id, {"speed": 3.6 * speed}, without="velocity")
    assert check_kinematics(dynamic, [993]).status == "pass"


def test_a_vehicle_that_never_brakes_is_worth_a_look(dynamic: Scene) -> None:
    for frame_id in dynamic.frame_ids:
        rewrite(dynamic, frame_id, {"velocity": (8.0, 0.0, 0.0)})
    found = check_kinematics(dynamic, [993])
    assert (found.status, found.found) == ("warn", "no braking, id 100 from 3 on")


def test_records_without_any_speed_are_not_measured(dynamic: Scene) -> None:
    rewrite(dynamic, 995, {}, without="velocity")
    found = check_kinematics(dynamic, [993])
    assert found.found == "not measured"
    assert "ANOMALY_995.csv has neither velocity nor speed" in found.meaning
