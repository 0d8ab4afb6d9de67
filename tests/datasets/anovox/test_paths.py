import pytest

from pipeline.datasets.anovox import paths


def test_a_sensor_folder_is_named_as_in_real_archives():
    folder = paths.sensor_folder_name("SEMANTIC-LIDAR", (0, 0, 1.8), (0, 0, 0), 8567646834588022690)
    assert folder == "SEMANTIC-LIDAR(0, 0, 1.8)(0, 0, 0)_8567646834588022690"
    file = paths.sensor_file_name(folder, 1000, ".npy")
    assert file == "SEMANTIC-LIDAR(0, 0, 1.8)(0, 0, 0)_8567646834588022690_1000.npy"


def test_whole_numbers_are_printed_without_a_point_even_if_they_are_floats():
    assert paths.pose_name((0.0, -0.0, 1.8), (0, 0, -15.0)) == "(0, 0, 1.8)(0, 0, -15)"
    assert paths.pose_name((-1.5, -0.9, 1), (0, 0, 180)) == "(-1.5, -0.9, 1)(0, 0, 180)"


def test_other_files_repeat_their_folder_and_are_not_padded():
    assert paths.other_file_name("VOXEL_GRID", 999, "npy") == "VOXEL_GRID_999.npy"
    assert paths.other_file_name("ACTION", 10000, ".csv") == "ACTION_10000.csv"


@pytest.mark.parametrize("sensor_type", paths.SENSOR_TYPES)
def test_each_sensor_folder_is_recognised_as_its_own_type(sensor_type: str):
    folder = paths.sensor_folder_name(sensor_type, (1.5, 0, 1.8), (0, 0, 0), 17)
    match = paths.SENSOR_FOLDER.fullmatch(folder)
    assert match is not None
    assert (match["type"], match["pose"]) == (sensor_type, "(1.5, 0, 1.8)(0, 0, 0)")


@pytest.mark.parametrize(
    "folder",
    ["LIDAR", "LIDAR(0, 0, 1.8)_5", "MYLIDAR(0, 0, 1.8)(0, 0, 0)_5", "DEPTH-CAM(0)(0)_5"],
)
def test_other_folders_are_no_sensor_folders(folder: str):
    assert paths.SENSOR_FOLDER.fullmatch(folder) is None


@pytest.mark.parametrize(
    ("name", "kind", "town"),
    [
        ("AnoVox_Normality_Mono_Town07", "normality", "Town07"),
        ("AnoVox_Static_Mono_Town10_1", "static", "Town10"),
        ("AnoVox_Static_Mono_Town10HD", "static", "Town10"),
        ("AnoVox_Dynamic_Multi_Town10", "dynamic", "Town10"),
        ("AnoVox_Static_Surround_Town01_Opt_3", "static", "Town01"),
    ],
)
def test_an_archive_name_says_kind_and_town(name: str, kind: str, town: str):
    assert paths.parse_archive_name(name) == (kind, town)


@pytest.mark.parametrize("kind", ["normality", "static", "dynamic"])
def test_archive_names_parse_back(kind: str):
    assert paths.parse_archive_name(paths.archive_name(kind, "Town03")) == (kind, "Town03")
    assert paths.archive_name("static", "Town03") == "AnoVox_Static_Mono_Town03"


@pytest.mark.parametrize(
    "name", ["Anovox", "Final_Output_2024_02_22-13_38", "AnoVox_Static_Town03"]
)
def test_other_archive_names_are_refused_with_the_pattern(name: str):
    with pytest.raises(ValueError, match="is not named AnoVox_<Normality"):
        paths.parse_archive_name(name)


def test_a_scene_folder_bears_a_uuid_of_version_4():
    scene_id = "debde713-4da4-400b-816c-b10c28a14861"
    assert paths.scene_folder_name(scene_id) == f"Scenario_{scene_id}"
    for bad in ("Configuration_Files", scene_id.upper(), scene_id.replace("-4", "-1"), ""):
        with pytest.raises(ValueError, match="UUID version 4"):
            paths.scene_folder_name(bad)
