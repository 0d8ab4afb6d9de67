import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.datasets.anovox import paths
from pipeline.datasets.anovox.layout import Archive, ArchiveError, find_archives
from pipeline.datasets.anovox.scene import read_scenes

SCENE_ID = "739b5ee1-53b4-4a10-9a3c-0a8ce50e8d11"
OTHER_ID = "debde713-4da4-400b-816c-b10c28a14861"
Write = Callable[..., Path]


def only(root: Path) -> Archive:
    archives = find_archives(root)
    assert len(archives) == 1
    return archives[0]


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
    folder = archive_path / paths.CONFIG_FOLDER
    folder.mkdir()
    scenarios = [
        {"id": SCENE_ID, "weather_preset": "WET_NOON", "ego_route": {}},
        {"id": OTHER_ID, "ego_route": {"weather_preset": "CLEAR_SUNSET"}},
    ]
    text = json.dumps({"scenario_definition": {"map": "Town03", "scenarios": scenarios}})
    (folder / paths.scenario_config_name("Town03")).write_text(text)
    archive = only(archive_path)
    assert [scene.name for scene in archive.scenes] == [f"Scenario_{SCENE_ID}"]
    assert archive.weather == {SCENE_ID: "WET_NOON", OTHER_ID: "CLEAR_SUNSET"}
    assert read_scenes(archive.scenes[0], archive)[0].weather == "WET_NOON"


def test_a_damaged_scenario_configuration_refuses_its_archive(archive_path: Path):
    folder = archive_path / paths.CONFIG_FOLDER
    folder.mkdir()
    (folder / paths.scenario_config_name("Town03")).write_text("{")
    assert "scenario_config_map_Town03.json" in refused(archive_path)


def refused(root: Path) -> str:
    """The archive's refusal, which reading any of its scenes repeats."""
    archive = only(root)
    for scene in archive.scenes:
        with pytest.raises(ArchiveError) as caught:
            read_scenes(scene, archive)
        assert str(caught.value) == archive.refusal
    assert archive.refusal.startswith(str(archive.path))
    return archive.refusal


def test_the_legacy_layout_is_refused_by_its_name(tmp_path: Path):
    scene = tmp_path / "Anovox_Sample" / "Anovox" / f"Scenario_{SCENE_ID}"
    for folder in ("RGB_IMG", "PCD", "VOXEL_GRID"):
        (scene / folder).mkdir(parents=True)
    assert "legacy layout" in refused(tmp_path)


def test_an_archive_with_an_unknown_name_is_refused(archive_path: Path):
    path = archive_path.rename(archive_path.with_name("Final_Output_2024_02_22-13_38"))
    assert "is not named AnoVox_" in refused(path)


def test_an_archive_without_scenes_is_found_and_refused(tmp_path: Path):
    (tmp_path / "AnoVox_Static_Mono_Town03" / paths.CONFIG_FOLDER).mkdir(parents=True)
    assert "no Scenario_<uuid> folder" in refused(tmp_path)


def test_a_refused_archive_does_not_hide_the_others(tmp_path: Path, write_archive: Write):
    write_archive(tmp_path, scene_ids=[SCENE_ID])
    legacy = tmp_path / "Anovox" / f"Scenario_{SCENE_ID}"
    (legacy / "RGB_IMG").mkdir(parents=True)
    found = {archive.name: bool(archive.refusal) for archive in find_archives(tmp_path)}
    assert found == {"AnoVox_Static_Mono_Town03": False, "Anovox": True}


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


@pytest.mark.parametrize("name", ["AnoVox_Dynamic_Mono_Town07", "AnoVox_Static_Multi_Town10_2"])
def test_every_kind_and_sensor_set_is_read(archive_path: Path, name: str):
    archive = only(archive_path.rename(archive_path.with_name(name)))
    assert archive.refusal == ""
    assert archive.kind == name.split("_")[1].lower()


def test_a_hidden_folder_is_somebodys_unfinished_work(tmp_path: Path, write_archive: Write):
    path = write_archive(tmp_path)
    write_archive(tmp_path / ".unpacking", name="AnoVox_Static_Mono_Town04")
    (path / f".partial_Scenario_{OTHER_ID}").mkdir()
    assert only(tmp_path).num_scene_folders == 1
