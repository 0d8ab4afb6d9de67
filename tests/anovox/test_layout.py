import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.anovox import names
from pipeline.anovox.layout import (
    Archive,
    ArchiveError,
    SceneError,
    find_archives,
    read_scene,
)

SCENE_ID = "739b5ee1-53b4-4a10-9a3c-0a8ce50e8d11"
OTHER_ID = "debde713-4da4-400b-816c-b10c28a14861"
Write = Callable[..., Path]


def only(root: Path) -> Archive:
    archives = find_archives(root)
    assert len(archives) == 1
    return archives[0]


def sensor_folder(scene: Path, sensor_type: str) -> Path:
    return next(p for p in scene.iterdir() if p.name.startswith(f"{sensor_type}("))


def read_only_scene(archive_path: Path):
    archive = only(archive_path)
    return read_scene(archive.scenes[0], archive)


def test_a_scene_says_where_its_frames_lie_and_how_its_sensors_see(archive_path: Path):
    scene = read_only_scene(archive_path)
    assert (scene.archive, scene.scene_id) == ("AnoVox_Static_Mono_Town03", SCENE_ID)
    assert (scene.kind, scene.town, scene.weather) == ("static", "Town03", "unknown")
    assert scene.pose == "(0, 0, 1.8)(0, 0, 0)"
    assert (scene.setup.image_width, scene.setup.image_height) == (24, 16)
    files = scene.files(1000)
    for field, (name, _) in names.FILE_SOURCES.items():
        path = getattr(files, field)
        assert path.is_file()
        assert path.parent.name.split("(")[0] == name


def test_frames_are_sorted_as_numbers_across_999_and_1000(archive_path: Path):
    scene = read_only_scene(archive_path)
    assert scene.frame_ids == (998, 999, 1000, 1001)
    assert scene.first_frame_id == 998
    assert scene.partial_frames == {}


def test_lidar_and_semantic_lidar_are_not_mixed_up(archive_path: Path):
    files = read_only_scene(archive_path).files(999)
    assert files.lidar.name.startswith("LIDAR(")
    assert files.semantic_lidar.name.startswith("SEMANTIC-LIDAR(")


def test_normality_scenes_have_no_anomaly_file(tmp_path: Path, write_archive: Write):
    scene = read_only_scene(write_archive(tmp_path, name="AnoVox_Normality_Mono_Town07"))
    assert (scene.kind, scene.town) == ("normality", "Town07")
    assert scene.files(999).anomaly is None


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_archives_are_found_at_the_root_in_it_and_one_folder_deeper(
    tmp_path: Path, write_archive: Write, depth: int
):
    outer = tmp_path.joinpath("data", *["AnoVox_Static_Mono_Town10_1", "x"][:depth])
    path = write_archive(outer if depth < 2 else outer.parent)
    root = {0: path, 1: outer, 2: tmp_path / "data"}[depth]
    archive = only(root)
    assert (archive.path, archive.name) == (path, "AnoVox_Static_Mono_Town03")
    assert archive.num_scene_folders == 1


def test_the_inner_name_counts_where_outer_and_inner_disagree(tmp_path: Path, write_archive: Write):
    outer = tmp_path / "AnoVox_Dynamic_Multi_Town10"
    write_archive(outer, name="AnoVox_Normality_Mono_Town07")
    assert (only(tmp_path).kind, only(tmp_path).refusal) == ("normality", "")


def test_scenario_configuration_files_is_not_a_scene_but_says_the_weather(archive_path: Path):
    folder = archive_path / names.CONFIG_FOLDER
    folder.mkdir()
    scenarios = [
        {"id": SCENE_ID, "weather_preset": "WET_NOON", "ego_route": {}},
        {"id": OTHER_ID, "ego_route": {"weather_preset": "CLEAR_SUNSET"}},
    ]
    text = json.dumps({"scenario_definition": {"map": "Town03", "scenarios": scenarios}})
    (folder / names.scenario_config_name("Town03")).write_text(text)
    archive = only(archive_path)
    assert [scene.name for scene in archive.scenes] == [f"Scenario_{SCENE_ID}"]
    assert archive.weather == {SCENE_ID: "WET_NOON", OTHER_ID: "CLEAR_SUNSET"}
    assert read_scene(archive.scenes[0], archive).weather == "WET_NOON"


def test_a_damaged_scenario_configuration_refuses_its_archive(archive_path: Path):
    folder = archive_path / names.CONFIG_FOLDER
    folder.mkdir()
    (folder / names.scenario_config_name("Town03")).write_text("{")
    assert "scenario_config_map_Town03.json" in refused(archive_path)


def refused(root: Path) -> str:
    """The archive's refusal, which reading any of its scenes repeats."""
    archive = only(root)
    for scene in archive.scenes:
        with pytest.raises(ArchiveError) as caught:
            read_scene(scene, archive)
        assert str(caught.value) == archive.refusal
    assert archive.refusal.startswith(str(archive.path))
    return archive.refusal


def test_dynamic_archives_are_refused(archive_path: Path):
    path = archive_path.rename(archive_path.with_name("AnoVox_Dynamic_Mono_Town07"))
    assert "kinematic label rule, which is not supported yet" in refused(path)


def test_an_archive_named_multi_is_refused_as_multi_pose(archive_path: Path):
    path = archive_path.rename(archive_path.with_name("AnoVox_Static_Multi_Town10"))
    assert "multi-pose" in refused(path)


def test_a_second_pose_in_a_scene_refuses_the_archive_whatever_its_name(
    archive_path: Path, scene_path: Path
):
    folder = names.sensor_folder_name("LIDAR", (1.5, 0, 1.8), (0, 0, 0), 5)
    (scene_path / folder).mkdir()
    refusal = refused(archive_path)
    assert "multi-pose ((0, 0, 1.8)(0, 0, 0), (1.5, 0, 1.8)(0, 0, 0))" in refusal


def test_the_legacy_layout_is_refused_by_its_name(tmp_path: Path):
    scene = tmp_path / "Anovox_Sample" / "Anovox" / f"Scenario_{SCENE_ID}"
    for folder in ("RGB_IMG", "PCD", "VOXEL_GRID"):
        (scene / folder).mkdir(parents=True)
    assert "legacy layout" in refused(tmp_path)


def test_an_archive_with_an_unknown_name_is_refused(archive_path: Path):
    path = archive_path.rename(archive_path.with_name("Final_Output_2024_02_22-13_38"))
    assert "is not named AnoVox_" in refused(path)


def test_an_archive_without_scenes_is_found_and_refused(tmp_path: Path):
    (tmp_path / "AnoVox_Static_Mono_Town03" / names.CONFIG_FOLDER).mkdir(parents=True)
    assert "no Scenario_<uuid> folder" in refused(tmp_path)


def test_a_refused_archive_does_not_hide_the_others(tmp_path: Path, write_archive: Write):
    write_archive(tmp_path, scene_ids=[SCENE_ID])
    write_archive(tmp_path, name="AnoVox_Dynamic_Mono_Town07", scene_ids=[SCENE_ID])
    found = {archive.kind: bool(archive.refusal) for archive in find_archives(tmp_path)}
    assert found == {"static": False, "dynamic": True}


def test_a_root_without_archives_is_refused_with_the_way_out(tmp_path: Path):
    (tmp_path / "AnoVox_Static_Mono_Town03.tar.gz").touch()
    with pytest.raises(ArchiveError, match=r"holds no AnoVox archive .* extract the .tar.gz files"):
        find_archives(tmp_path)
    with pytest.raises(ArchiveError, match=r"is not a folder; set data.root"):
        find_archives(tmp_path / "nowhere")


def test_two_archives_of_one_name_are_refused(tmp_path: Path, write_archive: Write):
    write_archive(tmp_path / "a")
    write_archive(tmp_path / "b", scene_ids=[OTHER_ID])
    with pytest.raises(ArchiveError, match="archive AnoVox_Static_Mono_Town03 is there 2 times"):
        find_archives(tmp_path)


def test_a_scene_that_lies_in_two_archives_is_refused(tmp_path: Path, write_archive: Write):
    write_archive(tmp_path)
    write_archive(tmp_path, name="AnoVox_Static_Mono_Town07")
    with pytest.raises(ArchiveError, match=f"scene Scenario_{SCENE_ID} is there 2 times: .* leak"):
        find_archives(tmp_path)


def test_every_scene_folder_is_read_or_refused_with_a_reason(tmp_path: Path, write_archive: Write):
    path = write_archive(tmp_path, scene_ids=[SCENE_ID, OTHER_ID], frame_ids=[5])
    (path / f"Scenario_{OTHER_ID}" / names.SETUP_FILE).unlink()
    (path / "Scenario_1").mkdir()
    archive = only(path)
    reasons = []
    for scene in archive.scenes:
        try:
            read_scene(scene, archive)
        except SceneError as error:
            reasons.append(str(error))
    assert archive.num_scene_folders == 3 == len(reasons) + 1
    assert any("Scenario_1: the folder is not named" in reason for reason in reasons)
    assert any("no sensor_setup.json, so no calibration" in reason for reason in reasons)


def test_ids_that_a_folder_lacks_are_partial_frames(archive_path: Path, scene_path: Path):
    names_999 = [p for p in sensor_folder(scene_path, "LIDAR").iterdir() if "_999." in p.name]
    names_999[0].unlink()
    (scene_path / "ACTION" / "ACTION_998.csv").unlink()
    (scene_path / "VOXEL_GRID" / "VOXEL_GRID_998.npy").unlink()
    scene = read_only_scene(archive_path)
    assert scene.frame_ids == (1000, 1001)
    assert scene.partial_frames == {998: ("VOXEL_GRID", "ACTION"), 999: ("LIDAR",)}
    assert scene.first_frame_id == 998
    with pytest.raises(ValueError, match="no whole frame 999; its frames are 1000 to 1001"):
        scene.files(999)


def test_files_with_other_names_are_not_frames(archive_path: Path, scene_path: Path):
    for name in ("ACTION_0997.csv", "ACTION_1002.csv.tmp", "._ACTION_1003.csv", "ACTION_.csv"):
        (scene_path / "ACTION" / name).touch()
    scene = read_only_scene(archive_path)
    assert scene.frame_ids == (998, 999, 1000, 1001)
    assert scene.partial_frames == {}


def set_entry(scene: Path, key: str, value: object) -> None:
    file = scene / names.SETUP_FILE
    setup = json.loads(file.read_text())
    for entry in setup.values():
        entry[key] = value
    file.write_text(json.dumps(setup))


def add_unsaved_entry(scene: Path, *, save_data: bool) -> None:
    file = scene / names.SETUP_FILE
    setup = json.loads(file.read_text())
    folder = names.sensor_folder_name("LIDAR", (0, 1, 1.8), (0, 0, 15), 9)
    setup[folder] = {"location": [0, 1, 1.8], "save_data": save_data}
    file.write_text(json.dumps(setup))


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def duplicate(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name(f"{folder.name}1"))


SCENE_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no cloud folder": (
        lambda s: shutil.rmtree(sensor_folder(s, "LIDAR")),
        "no folder LIDAR, but a static scene needs each of them; re-extract",
    ),
    "cloud folder without pose": (
        lambda s: sensor_folder(s, "LIDAR").rename(s / "LIDAR"),
        "no folder LIDAR, but a static scene",
    ),
    "no voxels and no actions": (
        lambda s: [shutil.rmtree(s / name) for name in ("VOXEL_GRID", "ACTION")],
        "no folder VOXEL_GRID, ACTION",
    ),
    "no anomaly folder": (lambda s: shutil.rmtree(s / "ANOMALY"), "no folder ANOMALY"),
    "empty folder": (
        lambda s: empty(sensor_folder(s, "SEMANTIC-LIDAR")),
        "no frame is in every folder .*4 in RGB-CAM.* 0 in SEMANTIC-LIDAR",
    ),
    "two folders of a sensor": (
        lambda s: duplicate(sensor_folder(s, "RGB-CAM")),
        "are two folders of one sensor",
    ),
    "empty setup": (
        lambda s: (s / names.SETUP_FILE).write_text(""),
        r"sensor_setup.json: it is not JSON .*; re-extract",
    ),
    "binary setup": (
        lambda s: (s / names.SETUP_FILE).write_bytes(b"\xff\xfe\xff"),
        r"sensor_setup.json: 'utf-8' codec",
    ),
    "mount unlike the folder": (
        lambda s: set_entry(s, "location", [0, 0, 2.0]),
        r"its mount \(0, 0, 2\)\(0, 0, 0\) is not that of the folder LIDAR",
    ),
    "setup of more sensors": (
        lambda s: add_unsaved_entry(s, save_data=True),
        r"folders that are not there: LIDAR\(0, 1, 1.8\)",
    ),
}


@pytest.mark.parametrize("case", SCENE_DAMAGES)
def test_a_damaged_scene_is_refused_with_path_finding_and_way_out(
    archive_path: Path, scene_path: Path, case: str
):
    damage, finding = SCENE_DAMAGES[case]
    damage(scene_path)
    with pytest.raises(SceneError, match=finding) as caught:
        read_only_scene(archive_path)
    assert str(caught.value).startswith(str(scene_path))


def test_a_sensor_that_was_not_saved_needs_no_folder(archive_path: Path, scene_path: Path):
    add_unsaved_entry(scene_path, save_data=False)
    assert read_only_scene(archive_path).scene_id == SCENE_ID


def test_a_normality_scene_with_anomalies_is_refused(tmp_path: Path, write_archive: Write):
    path = write_archive(tmp_path, name="AnoVox_Normality_Mono_Town07", frame_ids=[5])
    (path / f"Scenario_{SCENE_ID}" / "ANOMALY").mkdir()
    with pytest.raises(SceneError, match="has an ANOMALY folder, but normality archives have none"):
        read_only_scene(path)


def test_sensors_that_are_all_rotated_alike_are_refused(archive_path: Path, scene_path: Path):
    set_entry(scene_path, "rotation", [0, 0, 15])
    setup = scene_path / names.SETUP_FILE
    setup.write_text(setup.read_text().replace(")(0, 0, 0)_", ")(0, 0, 15)_"))
    for folder in scene_path.iterdir():
        folder.rename(scene_path / folder.name.replace(")(0, 0, 0)_", ")(0, 0, 15)_"))
    for sensor_type in names.SENSOR_TYPES:
        folder = sensor_folder(scene_path, sensor_type)
        for file in folder.iterdir():
            file.rename(folder / file.name.replace(")(0, 0, 0)_", ")(0, 0, 15)_"))
    with pytest.raises(SceneError, match="voxel grid of rotated sensors; use a Mono archive"):
        read_only_scene(archive_path)
