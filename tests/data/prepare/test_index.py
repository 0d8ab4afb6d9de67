"""Every frame on disk is found once: accepted, or quarantined with its reason."""

import shutil
from pathlib import Path

import pytest

from pipeline.data.prepare.index import scan


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the tiny world that may be damaged."""
    return Path(shutil.copytree(tiny_root, tmp_path / "copy"))


def a_scene(root: Path, kind: str = "Static") -> Path:
    return sorted(root.glob(f"AnoVox_{kind}_Mono_Town03/Scenario_*-*"))[0]


def a_file(scene: Path, folder: str, number: int = 0) -> Path:
    return sorted(scene.glob(f"{folder}*/*"))[number]


def test_all_frames_of_both_archives_are_found(tiny_root: Path):
    index = scan(tiny_root)
    assert len(index.scenes) == 16
    assert index.num_found == 48
    assert not index.quarantined
    assert [facts.key for facts in index.facts] == sorted(
        k.rpartition("/")[0] for k in index.scenes
    )


def test_facts_name_the_category_of_the_placed_object(tiny_root: Path):
    categories = {facts.kind: set() for facts in scan(tiny_root).facts}
    for facts in scan(tiny_root).facts:
        categories[facts.kind].add(facts.category)
    assert categories["normality"] == {""}
    assert categories["static"] <= {"home", "animal", "nature", "special"}
    assert "" not in categories["static"]


def test_a_frame_that_lacks_a_file_is_quarantined_with_the_folder(root: Path):
    a_file(a_scene(root), "VOXEL_GRID").unlink()
    index = scan(root)
    (bad,) = index.quarantined
    assert index.num_found == 48
    assert "is missing in VOXEL_GRID" in bad.reason
    assert sum(len(scene.frame_ids) for scene in index.scenes.values()) == 47


def test_a_scene_with_a_broken_calibration_is_quarantined_as_a_whole(root: Path):
    scene = a_scene(root)
    (scene / "sensor_setup.json").write_text("{}")
    index = scan(root)
    (bad,) = index.quarantined
    assert (bad.scene_id, bad.frame_id) == (scene.name, None)
    assert "sensor_setup.json: it has no entry for the folder" in bad.reason
    assert len(index.scenes) == 15


def test_the_legacy_layout_is_quarantined_as_a_whole(root: Path):
    for scene in (root / "AnoVox_Static_Mono_Town03").iterdir():
        if scene.name.startswith("Scenario_"):
            (scene / "RGB_IMG").mkdir(exist_ok=True)
    index = scan(root)
    (bad,) = index.quarantined
    assert (bad.archive, bad.scene_id) == ("AnoVox_Static_Mono_Town03", "")
    assert len(index.scenes) == 8


def test_a_sentence_per_archive_counts_folders_usable_scenes_and_frames_and_says_why(root: Path):
    scene = a_scene(root)
    for path in scene.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    (scene / "sensor_setup.json").unlink()
    index = scan(root)
    told = next(told for told in index.sentences if told.startswith(scene.parent.name))
    assert told == (
        f"{scene.parent.name}: 8 folders, 7 usable, 21 frames; {scene.name}: no folder "
        "RGB-CAM(...) and no sensor_setup.json, so it was never recorded or only partly "
        "extracted; re-extract the archive"
    )


def test_a_scene_that_no_rule_can_label_leaves_the_index_with_its_reason(root: Path):
    index = scan(root)
    facts = index.facts[0]
    rest = index.without({facts.key: "no rule"})
    assert len(rest.scenes) == len(index.scenes) - 1
    assert facts not in rest.facts
    (bad,) = rest.quarantined
    assert (bad.scene_id, bad.frame_id, bad.reason) == (facts.scene_id, None, "no rule")


def test_a_root_with_nothing_readable_is_refused_with_the_first_reason(root: Path):
    shutil.rmtree(root / "AnoVox_Normality_Mono_Town03")
    (root / "AnoVox_Static_Mono_Town03").rename(root / "AnoVox_Static_Mono_Elsewhere")
    with pytest.raises(ValueError, match=r"has no readable scene; first reason: .*is not named"):
        scan(root)


def test_an_unreadable_anomaly_text_does_not_hide_the_category(root: Path):
    scene = a_scene(root)
    before = {facts.scene_id: facts.category for facts in scan(root).facts}
    a_file(scene, "ANOMALY").write_text("nonsense")
    assert {facts.scene_id: facts.category for facts in scan(root).facts} == before


def test_the_hash_does_not_depend_on_where_the_root_lies(tiny_root: Path, root: Path):
    assert scan(root).inputs_hash == scan(tiny_root).inputs_hash


def test_the_hash_notices_a_missing_frame_a_changed_size_and_another_calibration(root: Path):
    hashes = [scan(root).inputs_hash]
    a_file(a_scene(root), "RGB-CAM").unlink()
    hashes.append(scan(root).inputs_hash)
    text = a_file(a_scene(root, "Normality"), "ACTION")
    text.write_text(text.read_text() + "more ; 1\n")
    hashes.append(scan(root).inputs_hash)
    setup = a_scene(root) / "sensor_setup.json"
    setup.write_text(setup.read_text().replace('"camera_fov": 90.0', '"camera_fov": 80.0'))
    hashes.append(scan(root).inputs_hash)
    assert len(set(hashes)) == 4
