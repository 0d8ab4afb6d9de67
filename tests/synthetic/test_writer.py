"""Files as AnoVox has them; the same bytes however the work is split; nothing half written."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox import paths
from pipeline.datasets.anovox.frame import read_frame
from pipeline.datasets.anovox.geometry import voxelise
from pipeline.datasets.anovox.label_rules import BY_IDS
from pipeline.datasets.anovox.labels import truth
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.scene import read_scenes
from pipeline.synthetic.plan import plan_scenes
from pipeline.synthetic.writer import (
    SYNTHETIC_STAMP,
    first_frame_id,
    is_synthetic,
    write_archives,
)


def scenes_of(root: Path) -> list[Path]:
    return sorted(root.glob("AnoVox_*/Scenario_*-*"))


def checksums(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != SYNTHETIC_STAMP
    }


def test_archives_and_scenes_are_where_anovox_has_them(
    written: Path, small_config: SyntheticConfig
) -> None:
    found = {path.name for path in written.iterdir()} - {SYNTHETIC_STAMP}
    assert found == {
        f"AnoVox_{kind}_Mono_{town}"
        for kind in ("Normality", "Static")
        for town in ("Town03", "Town07")
    }
    assert len(scenes_of(written)) == small_config.num_scenes
    lists = sorted(str(p.relative_to(written)) for p in written.glob("*/Scenario_Conf*/*"))
    assert lists == [
        "AnoVox_Normality_Mono_Town03/Scenario_Configuration_Files/scenario_config_map_Town03.json",
        "AnoVox_Static_Mono_Town07/Scenario_Configuration_Files/scenario_config_map_Town07.json",
    ]


def test_a_scene_has_its_ten_folders_and_a_normal_one_no_anomaly_folder(
    written: Path, small_config: SyntheticConfig
) -> None:
    for scene in scenes_of(written):
        folders = {path.name.split("(")[0] for path in scene.iterdir() if path.is_dir()}
        expected = {*paths.SENSOR_TYPES, "VOXEL_GRID", "ACTION", "ROUTE_MAP", "ANOMALY"}
        assert folders == expected - ({"ANOMALY"} if "Normality" in str(scene) else set())
        for folder in (path for path in scene.iterdir() if path.is_dir()):
            assert len(list(folder.iterdir())) == small_config.num_frames, folder


def test_arrays_have_anovox_s_types_orders_and_file_sizes(written: Path) -> None:
    for scene in scenes_of(written):
        for path in scene.glob("*/*.npy"):
            array, size = np.load(path, allow_pickle=False), path.stat().st_size
            kind = path.parent.name.split("(")[0]
            if kind == "LIDAR":
                assert array.dtype == np.float32
                assert array.flags.f_contiguous
                assert size == 128 + 16 * len(array)
            elif kind == "SEMANTIC-LIDAR":
                assert array.dtype == np.float64
                assert array.flags.f_contiguous
                assert size == 128 + 32 * len(array)
                np.testing.assert_array_equal(array, array.astype(np.float32))
            else:
                assert array.dtype == np.uint16
                assert array.flags.c_contiguous
                assert size == 128 + 8 * len(array)


def test_images_have_anovox_s_modes(written: Path, small_config: SyntheticConfig) -> None:
    modes = {"SEMANTIC-CAM": "L", "ROUTE_MAP": "L"}
    for scene in scenes_of(written):
        for path in scene.glob("*/*.png"):
            kind = path.parent.name.split("(")[0]
            image = Image.open(path)
            assert image.mode == modes.get(kind, "RGB")
            size = (small_config.image_width, small_config.image_height)
            assert image.size == ((192, 192) if kind == "ROUTE_MAP" else size)


def test_the_reader_reads_what_the_writer_wrote(written: Path) -> None:
    labels = []
    for archive in find_archives(written):
        assert not archive.refusal
        for path in archive.scenes:
            scene = read_scenes(path, archive)[0]
            assert not scene.partial_frames
            for frame_id in scene.frame_ids:
                frame = read_frame(scene, frame_id)
                labels.append(truth(frame, BY_IDS, min_points=1, min_pixels=1).frame_label)
                voxels, _ = voxelise(
                    frame.exact_xyz, frame.point_class, voxel_from_lidar=frame.voxel_from_lidar
                )
                np.testing.assert_array_equal(frame.voxels, voxels)
                assert (frame.anomaly is None) == (archive.kind == "normality")
    assert set(labels) >= {0, 1}


def test_weather_is_known_where_the_archive_lists_its_scenes(written: Path) -> None:
    known = {
        archive.name: read_scenes(archive.scenes[0], archive)[0].weather != "unknown"
        for archive in find_archives(written)
    }
    assert sorted(known.values()) == [False, False, True, True]


def test_frame_ids_are_consecutive_and_some_scenes_pass_from_999_to_1000() -> None:
    config = SyntheticConfig(num_scenes=30, num_frames=8)
    first = [first_frame_id(config, plan) for plan in plan_scenes(config)]
    crossing = [number for number in first if number < 1000 <= number + 7]
    assert len(crossing) >= 10
    assert len(set(first)) > 15
    assert min(first) > 0


@pytest.mark.parametrize("num_processes", [1, 2])
def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_processes(
    written: Path, small_config: SyntheticConfig, tmp_path: Path, num_processes: int
) -> None:
    write_archives(replace(small_config, num_processes=num_processes), tmp_path)
    assert checksums(tmp_path) == checksums(written)


def test_another_seed_gives_another_world(
    written: Path, small_config: SyntheticConfig, tmp_path: Path
) -> None:
    config = replace(small_config, seed=9, num_scenes=1, num_frames=1)
    write_archives(config, tmp_path)
    assert not set(checksums(tmp_path).values()) & set(checksums(written).values())


def test_progress_counts_frames_up_to_all_of_them(
    small_config: SyntheticConfig, tmp_path: Path
) -> None:
    calls: list[tuple[int, int]] = []
    config = replace(small_config, num_scenes=2, num_frames=2)
    counts = write_archives(config, tmp_path, lambda done, total: calls.append((done, total)))
    assert calls == [(0, 4), (2, 4), (4, 4)]
    assert counts == {"num_archives": 2, "num_scenes": 2, "num_scenes_written": 2, "num_frames": 4}


def test_a_finished_scene_is_not_written_again_and_a_missing_one_is(
    small_config: SyntheticConfig, tmp_path: Path
) -> None:
    config = replace(small_config, num_scenes=2, num_frames=1)
    write_archives(config, tmp_path)
    before = checksums(tmp_path)
    kept, lost = scenes_of(tmp_path)
    time_of = kept.stat().st_mtime_ns
    lost.rename(lost.with_name(".partial_" + lost.name))
    assert write_archives(config, tmp_path)["num_scenes_written"] == 1
    assert kept.stat().st_mtime_ns == time_of
    assert checksums(tmp_path) == before, "and what a killed job left is gone"


def test_a_root_of_another_config_is_refused_by_the_keys_that_differ(
    small_config: SyntheticConfig, tmp_path: Path
) -> None:
    config = replace(small_config, num_scenes=1, num_frames=1)
    write_archives(config, tmp_path)
    with pytest.raises(ValueError, match=r"data\.root .* synthetic\.seed, synthetic\.num_frames;"):
        write_archives(replace(config, seed=8, num_frames=2), tmp_path)
    assert write_archives(replace(config, num_processes=2), tmp_path)["num_scenes_written"] == 0


def test_a_root_from_before_a_key_existed_goes_on_with_the_key_at_its_default(
    small_config: SyntheticConfig, tmp_path: Path
) -> None:
    config = replace(small_config, num_scenes=1, num_frames=1)
    write_archives(config, tmp_path)
    stamp = json.loads((tmp_path / SYNTHETIC_STAMP).read_text())
    old = {key: value for key, value in stamp.items() if key not in ("sensor_set", "irregular")}
    (tmp_path / SYNTHETIC_STAMP).write_text(json.dumps(old))
    assert write_archives(config, tmp_path)["num_scenes_written"] == 0
    with pytest.raises(ValueError, match=r"with other synthetic\.sensor_set;"):
        write_archives(replace(config, sensor_set="Stereo"), tmp_path)


def test_a_setting_of_dynamic_scenes_without_any_is_said_to_have_no_effect(
    small_config: SyntheticConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_archives(replace(small_config, num_scenes=1, num_frames=1), tmp_path / "default")
    assert not caplog.messages
    config = replace(small_config, num_scenes=1, num_frames=1, anomaly_variant="B")
    write_archives(config, tmp_path / "idle")
    assert caplog.messages == [
        "synthetic.anomaly_variant=B has no effect: synthetic.kinds holds no dynamic"
    ]


TOWNS = [*(f"Town0{number}" for number in range(1, 8)), "Town10HD"]


def test_every_town_of_anovox_has_its_archives_and_10hd_is_named_as_there(
    small_config: SyntheticConfig, tmp_path: Path
) -> None:
    config = replace(small_config, num_scenes=8, num_frames=1, towns=TOWNS, kinds=["static"])
    write_archives(config, tmp_path)
    archives = find_archives(tmp_path)
    assert [archive.town for archive in archives] == [t.removesuffix("HD") for t in TOWNS]
    images = [next(tmp_path.glob(f"*{a.town}/Scen*-*/RGB-CAM*/*")) for a in archives]
    assert len({path.read_bytes() for path in images}) == 8


def test_a_root_with_archives_of_unknown_origin_is_refused(
    small_config: SyntheticConfig, tmp_path: Path
) -> None:
    (tmp_path / "AnoVox_Static_Mono_Town07").mkdir()
    with pytest.raises(ValueError, match="archives without a stamp of this writer"):
        write_archives(small_config, tmp_path)
    assert json.loads(json.dumps([p.name for p in tmp_path.iterdir()])) == [
        "AnoVox_Static_Mono_Town07"
    ]


@pytest.mark.slow
def test_a_killed_job_leaves_whole_scenes_only_and_the_next_one_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "root"
    command = [
        *(sys.executable, "-m", "jobs.synthesize", f"data.root={root}"),
        *("synthetic.num_scenes=12", "synthetic.num_frames=6", "synthetic.towns=[Town03]"),
        *("synthetic.image_width=192", "synthetic.image_height=128", "synthetic.num_channels=16"),
    ]
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(scenes_of(root)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    time.sleep(1.0)
    left = checksums(root)
    time.sleep(1.0)
    assert checksums(root) == left, "the killed job's writers have ended with it"
    assert 2 <= len(scenes_of(root)) < 12
    for scene in scenes_of(root):
        assert all(len(list(f.iterdir())) == 6 for f in scene.iterdir() if f.is_dir())
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["num_scenes"] == 12
    assert len(scenes_of(root)) == 12
    assert not list(root.rglob(".partial_*"))


def test_an_archive_that_is_moved_away_still_says_that_it_is_synthetic(written: Path) -> None:
    archives = [path for path in written.iterdir() if path.is_dir()]
    assert archives
    assert all(is_synthetic([archive]) for archive in archives)
    assert not is_synthetic([written.parent])
