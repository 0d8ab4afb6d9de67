import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.datasets.anovox import paths
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.scene import Scene, read_scenes
from pipeline.datasets.anovox.sensors import Mount
from pipeline.datasets.protocol.frames import SceneError

SCENE_ID = "739b5ee1-53b4-4a10-9a3c-0a8ce50e8d11"
OTHER_ID = "debde713-4da4-400b-816c-b10c28a14861"
FRONT = ((0, 0, 1.8), (0, 0, 0))
LEFT, RIGHT = ((0, -1, 1.8), (0, 0, -15)), ((0, 1, 1.8), (0, 0, 15))
Write = Callable[..., Path]


def views(archive_path: Path, poses: tuple[str, ...] = ()) -> tuple[Scene, ...]:
    archive = find_archives(archive_path)[0]
    return read_scenes(archive.scenes[0], archive, poses)


def read_only_scene(archive_path: Path) -> Scene:
    (scene,) = views(archive_path)
    return scene


def sensor_folder(scene: Path, sensor_type: str) -> Path:
    return next(p for p in scene.iterdir() if p.name.startswith(f"{sensor_type}("))


def test_a_scene_says_where_its_frames_lie_and_how_its_sensors_see(archive_path: Path):
    scene = read_only_scene(archive_path)
    assert (scene.archive, scene.scene_id) == ("AnoVox_Static_Mono_Town03", SCENE_ID)
    assert (scene.kind, scene.town, scene.weather) == ("static", "Town03", "unknown")
    assert scene.pose == "(0, 0, 1.8)(0, 0, 0)"
    assert (scene.setup.image_width, scene.setup.image_height) == (24, 16)
    files = scene.files(1000)
    for field, (name, _) in paths.FILE_SOURCES.items():
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


def test_every_scene_folder_is_read_or_refused_with_a_reason(tmp_path: Path, write_archive: Write):
    path = write_archive(tmp_path, scene_ids=[SCENE_ID, OTHER_ID], frame_ids=[5])
    (path / f"Scenario_{OTHER_ID}" / paths.SETUP_FILE).write_text("{}")
    (path / "Scenario_1").mkdir()
    archive = find_archives(path)[0]
    reasons = []
    for scene in archive.scenes:
        try:
            read_scenes(scene, archive)
        except SceneError as error:
            reasons.append(str(error))
    assert archive.num_scene_folders == 3 == len(reasons) + 1
    assert any("Scenario_1: the folder is not named" in reason for reason in reasons)
    assert any("sensor_setup.json: it has no entry for the folder" in reason for reason in reasons)


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
    file = scene / paths.SETUP_FILE
    setup = json.loads(file.read_text())
    for entry in setup.values():
        entry[key] = value
    file.write_text(json.dumps(setup))


def add_unsaved_entry(scene: Path, *, save_data: bool) -> None:
    file = scene / paths.SETUP_FILE
    setup = json.loads(file.read_text())
    folder = paths.sensor_folder_name("LIDAR", (0, 1, 1.8), (0, 0, 15), 9)
    mount = {"location": [0, 1, 1.8], "rotation": [0, 0, 15]}
    setup[folder] = mount | {"save_data": save_data}
    file.write_text(json.dumps(setup))


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def duplicate(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name(f"{folder.name}1"))


SCENE_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no cloud folder": (
        lambda s: shutil.rmtree(sensor_folder(s, "LIDAR")),
        "no LIDAR folder at the camera pose .* elsewhere .none.; re-extract",
    ),
    "cloud folder without pose": (
        lambda s: sensor_folder(s, "LIDAR").rename(s / "LIDAR"),
        "no LIDAR folder at the camera pose",
    ),
    "no depth and no actions": (
        lambda s: [shutil.rmtree(p) for p in (sensor_folder(s, "DEPTH_CAM"), s / "ACTION")],
        "no folder DEPTH_CAM, ACTION for the pose .*, but a static scene needs each of them",
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
        lambda s: (s / paths.SETUP_FILE).write_text(""),
        r"sensor_setup.json: it is not JSON .*; re-extract",
    ),
    "binary setup": (
        lambda s: (s / paths.SETUP_FILE).write_bytes(b"\xff\xfe\xff"),
        r"sensor_setup.json: 'utf-8' codec",
    ),
    "mount unlike the folder": (
        lambda s: set_entry(s, "location", [0, 0, 2.0]),
        r"its mount \(0, 0, 2\)\(0, 0, 0\) is not that of the folder RGB-CAM",
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


OPTIONAL = {
    "INSTANCE-CAM": ("instance", "no INSTANCE-CAM"),
    "ROUTE_MAP": ("route_map", "no ROUTE_MAP"),
    "VOXEL_GRID": ("voxels", "no VOXEL_GRID: voxels are computed from SEMANTIC-LIDAR"),
}


@pytest.mark.parametrize("is_empty", [True, False])
@pytest.mark.parametrize("name", OPTIONAL)
def test_a_scene_is_read_without_an_optional_folder_and_says_so(
    archive_path: Path, scene_path: Path, name: str, is_empty: bool
):
    folder = next(p for p in scene_path.iterdir() if p.name.startswith(name))
    empty(folder) if is_empty else shutil.rmtree(folder)
    scene = read_only_scene(archive_path)
    field, note = OPTIONAL[name]
    assert scene.notes == (note,)
    assert getattr(scene.files(999), field) is None
    assert len(scene.frame_ids) == 4


def test_a_lost_setup_is_that_of_another_scene_with_the_same_sensors(
    tmp_path: Path, write_archive: Write
):
    path = write_archive(tmp_path, scene_ids=(SCENE_ID, OTHER_ID), frame_ids=[7])
    set_args(path / f"Scenario_{OTHER_ID}", "camera_fov", 110.0)
    (path / f"Scenario_{SCENE_ID}" / paths.SETUP_FILE).unlink()
    scene = read_only_scene(path)
    assert scene.setup.camera_fov_deg == 110.0
    assert scene.notes == (
        f"no sensor_setup.json: that of Scenario_{OTHER_ID} lists the same sensors",
    )


def test_a_lost_setup_is_read_from_folder_names_and_the_first_image(
    archive_path: Path, scene_path: Path
):
    (scene_path / paths.SETUP_FILE).unlink()
    scene = read_only_scene(archive_path)
    assert (scene.setup.image_width, scene.setup.image_height) == (24, 16)
    assert (scene.setup.camera_fov_deg, scene.setup.lidar_range_m) == (90.0, 100.0)
    assert scene.setup.camera == Mount((0, 0, 1.8), (0, 0, 0))
    assert scene.notes[0].startswith("no sensor_setup.json: mounts by folder names")


def test_a_scene_without_setup_and_sensors_says_both(tmp_path: Path, write_archive: Write):
    path = write_archive(tmp_path, frame_ids=[7])
    aborted = path / f"Scenario_{OTHER_ID}"
    (aborted / "ACTION").mkdir(parents=True)
    archive = find_archives(path)[0]
    with pytest.raises(SceneError, match=r"no folder RGB-CAM.* and no sensor_setup.json, so it"):
        read_scenes(aborted, archive)


def set_args(scene: Path, key: str, value: object) -> None:
    file = scene / paths.SETUP_FILE
    setup = json.loads(file.read_text())
    for entry in setup.values():
        if key in entry["args"]:
            entry["args"][key] = value
    file.write_text(json.dumps(setup))


def add_pose(scene: Path, pose: tuple, sensor_types: tuple[str, ...] = paths.SENSOR_TYPES) -> None:
    """The sensors of the front pose once more at another one, folders and setup."""
    file = scene / paths.SETUP_FILE
    setup = json.loads(file.read_text())
    for sensor_type in sensor_types:
        old = sensor_folder(scene, sensor_type)
        new = paths.sensor_folder_name(sensor_type, *pose, sensor_hash=77)
        shutil.copytree(old, scene / new)
        for image in (scene / new).iterdir():
            image.rename(image.with_name(image.name.replace(old.name, new)))
        location, rotation = (list(triple) for triple in pose)
        setup[new] = setup[old.name] | {"location": location, "rotation": rotation}
    file.write_text(json.dumps(setup))


def test_a_scene_of_several_poses_is_read_once_per_pose(archive_path: Path, scene_path: Path):
    add_pose(scene_path, LEFT)
    add_pose(scene_path, RIGHT)
    found = views(archive_path)
    assert {scene.pose for scene in found} == {paths.pose_name(*p) for p in (FRONT, LEFT, RIGHT)}
    for scene in found:
        assert paths.pose_name(*scene.setup.camera) == scene.pose
        assert scene.setup.camera == scene.setup.lidar
        assert f"{scene.pose}_" in scene.files(999).semantic_lidar.name
        assert scene.setup.action_mounts == ((Mount(*RIGHT), Mount(*RIGHT)),)
        assert not scene.has_own_voxels
        assert "VOXEL_GRID merges all poses" in scene.notes[0]


def test_data_poses_picks_poses_and_names_those_there_are(archive_path: Path, scene_path: Path):
    add_pose(scene_path, LEFT)
    wanted = paths.pose_name(*LEFT)
    assert [scene.pose for scene in views(archive_path, (wanted,))] == [wanted]
    with pytest.raises(SceneError, match=r"its camera poses are .*, but data.poses asks for \(9"):
        views(archive_path, ("(9, 0, 1.8)(0, 0, 0)",))


def test_cameras_without_a_lidar_of_their_own_share_the_only_one(
    archive_path: Path, scene_path: Path
):
    cameras = tuple(name for name in paths.SENSOR_TYPES if "LIDAR" not in name)
    add_pose(scene_path, LEFT, cameras)
    for scene in views(archive_path):
        assert scene.setup.lidar == Mount(*FRONT)
        assert scene.has_own_voxels


def test_several_poses_without_a_setup_are_refused(archive_path: Path, scene_path: Path):
    add_pose(scene_path, LEFT)
    (scene_path / paths.SETUP_FILE).unlink()
    with pytest.raises(SceneError, match="to which of several poses the matrices of ACTION belong"):
        views(archive_path)
