"""The irregularities of real archives, each where `irregular.json` says and nowhere else."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.paths import CONFIG_FOLDER, SENSOR_FOLDER
from pipeline.synthetic.corruptions import IRREGULAR_FILE
from pipeline.synthetic.writer import write_archives

CONFIG = SyntheticConfig(
    seed=2,
    num_scenes=4,
    towns=["Town03"],
    num_frames=20,
    kinds=["normality", "static", "dynamic"],
    image_width=48,
    image_height=32,
    num_channels=4,
    points_per_second=4_000,
    num_processes=2,
    irregular=True,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    root = tmp_path_factory.mktemp("irregular") / "root"
    return root, write_archives(CONFIG, root)


@pytest.fixture
def root(written: tuple[Path, dict[str, int]]) -> Path:
    return written[0]


@pytest.fixture
def said(root: Path) -> dict:
    return json.loads((root / IRREGULAR_FILE).read_text())


def scenes_of(root: Path) -> dict[str, Path]:
    """Scene folders by id, at any depth."""
    return {path.name.removeprefix("Scenario_"): path for path in root.rglob("Scenario_*-*")}


def frame_ids(folder: Path) -> set[int]:
    return {int(path.stem.rpartition("_")[2]) for path in folder.iterdir()}


def test_counts_say_what_was_made_irregular(written: tuple[Path, dict[str, int]]) -> None:
    root, counts = written
    assert counts["num_frames"] == 3 * 20 + 12
    assert counts["num_scenes"] == 4
    assert counts["num_scenes_without_setup"] == counts["num_truncated_scenes"] == 1
    assert counts["num_scenes_with_repeated_frame_ids"] == 2
    assert len(scenes_of(root)) == 5


def test_one_scene_has_no_setup_and_one_no_voxels(root: Path, said: dict) -> None:
    scenes = scenes_of(root)
    lacking = {
        name: {key for key, path in scenes.items() if not (path / name).exists()}
        - {said["empty_scene"]}
        for name in ("sensor_setup.json", "VOXEL_GRID")
    }
    assert lacking["sensor_setup.json"] == {said["scene_without_setup"]}
    assert lacking["VOXEL_GRID"] == {said["scene_without_voxels"]}


def test_the_truncated_scene_ends_with_a_frame_that_only_action_and_anomaly_have(
    root: Path, said: dict
) -> None:
    for scene_id, path in scenes_of(root).items():
        ids = {
            folder.name.split("(")[0]: frame_ids(folder)
            for folder in path.iterdir()
            if folder.is_dir()
        }
        if scene_id == said["truncated_scene"]:
            whole = ids.pop("RGB-CAM")
            assert len(whole) == said["whole_frames_of_truncated_scene"] == 12
            early = {name for name, found in ids.items() if found - whole}
            assert early == {"ACTION", "ANOMALY"} & ids.keys()
            assert ids["ACTION"] - whole == {max(whole) + 1}
        else:
            assert all(len(found) == 20 for found in ids.values())


def test_two_scenes_have_the_same_frame_ids(root: Path, said: dict) -> None:
    scenes = scenes_of(root)
    first, second = (
        frame_ids(scenes[scene_id] / "ACTION")
        for scene_id in said["scenes_with_repeated_frame_ids"]
    )
    assert first & second


def test_one_archive_lies_a_folder_deeper_and_one_scene_is_empty(root: Path, said: dict) -> None:
    nested = said["nested_archive"]
    assert [path.name for path in (root / f"{nested}_1").iterdir()] == [nested]
    assert not (root / nested).exists()
    empty = scenes_of(root)[said["empty_scene"]]
    assert list(empty.iterdir()) == []
    assert empty.parent.name == said["archive_of_empty_scene"]


def test_some_archives_list_their_scenes_and_the_list_of_a_dynamic_one_says_what_happens(
    root: Path,
) -> None:
    lists = {path.parent.parent.name: path for path in root.rglob(f"{CONFIG_FOLDER}/*.json")}
    assert sorted(lists) == [
        "AnoVox_Dynamic_Mono_Town03",
        "AnoVox_Normality_Mono_Town03",
    ]
    text = lists["AnoVox_Dynamic_Mono_Town03"].read_text()
    for scenario in json.loads(text)["scenario_definition"]["scenarios"]:
        config = scenario["anomaly_config"]
        assert config["anomalytype"] == "SUDDEN_BREAKING_OF_VEHICLE_AHEAD"
        assert config["anomaly_bp_name"].startswith("vehicle.")
        assert 7 <= config["approximate_dist_to_spawning_waypoint"] <= 12


def checksums(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes_and_a_second_call_writes_nothing(
    root: Path, tmp_path: Path
) -> None:
    write_archives(replace(CONFIG, num_processes=1), tmp_path)
    assert checksums(tmp_path) == checksums(root)
    again = write_archives(CONFIG, tmp_path)
    assert again["num_scenes_written"] == 0
    assert checksums(tmp_path) == checksums(root)


def test_arrays_of_whole_frames_are_those_of_the_regular_world(root: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, irregular=False)
    write_archives(config, tmp_path)
    regular = {key: value for key, value in checksums(tmp_path).items() if key.endswith(".npy")}
    irregular = [value for key, value in checksums(root).items() if key.endswith(".npy")]
    assert len(irregular) == len(regular) - 8 * 3 - 20
    assert set(irregular) <= set(regular.values())
    assert not (tmp_path / IRREGULAR_FILE).exists()
    assert all(SENSOR_FOLDER.fullmatch(Path(key).parent.name) or "VOXEL" in key for key in regular)
