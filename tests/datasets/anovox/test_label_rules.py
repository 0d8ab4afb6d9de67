"""Truth of dynamic scenes, on recordings of the synthetic writer whose windows are known."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.annotations import parse_key_value
from pipeline.datasets.anovox.class_ids import AGENT_OFFSET
from pipeline.datasets.anovox.frame import read_frame
from pipeline.datasets.anovox.label_rules import BY_IDS, SceneRule, find_rule
from pipeline.datasets.anovox.labels import Truth, truth
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.lead_vehicle import BRAKING, STANDING
from pipeline.datasets.anovox.scene import Scene, read_scenes
from pipeline.datasets.protocol.frames import FrameError, SceneError
from pipeline.synthetic.lead_vehicle import sudden_window
from pipeline.synthetic.writer import write_archives

NUM_FRAMES = 40
WORLD = SyntheticConfig(
    num_scenes=1,
    num_frames=NUM_FRAMES,
    kinds=["dynamic"],
    towns=["Town03"],
    image_width=192,
    image_height=128,
    num_channels=32,
    points_per_second=150_000,
    seed=4,
    num_processes=1,
)
Recording = Callable[..., Scene]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """The dynamic scene of a world with these changes, written once per set of changes."""
    written: dict[tuple, Path] = {}

    def scene(**changes: str) -> Scene:
        key = tuple(changes.items())
        if key not in written:
            written[key] = tmp_path_factory.mktemp("dynamic")
            write_archives(dataclasses.replace(WORLD, **changes), written[key])
        archive = find_archives(written[key])[0]
        return read_scenes(archive.scenes[0], archive)[0]

    return scene


def truths(scene: Scene, rule: SceneRule) -> list[Truth]:
    frames = (read_frame(scene, frame_id) for frame_id in scene.frame_ids)
    return [truth(frame, rule, min_points=5, min_pixels=10) for frame in frames]


def indices(scene: Scene, rule: SceneRule) -> tuple[int, int]:
    assert rule.window is not None
    return rule.window.first - scene.first_frame_id, rule.window.last - scene.first_frame_id


@pytest.mark.parametrize("variant", ["A", "B"])
def test_a_scene_that_shows_id_100_is_labelled_by_ids_in_exactly_its_window(
    recording: Recording, variant: str
):
    scene = recording(dynamic_labels="ids", anomaly_variant=variant)
    rule = find_rule(scene, allow_guess=False)
    first, last = sudden_window(NUM_FRAMES)
    assert rule.label_rule == "ids"
    assert indices(scene, rule) == (first, last)
    labels = [label.frame_label for label in truths(scene, rule)]
    assert labels == [int(first <= k <= last) for k in range(NUM_FRAMES)]


def test_native_ids_give_the_same_points_pixels_and_voxels_by_motion_and_place(
    recording: Recording,
):
    """A frame later, as the brake acts a frame after its command."""
    relabelled = recording(dynamic_labels="ids")
    by_ids = truths(relabelled, find_rule(relabelled, allow_guess=False))
    scene = recording(dynamic_labels="native")
    rule = find_rule(scene, allow_guess=False)
    first, last = sudden_window(NUM_FRAMES)
    assert rule.label_rule == "kinematics"
    assert indices(scene, rule) == (first + 1, last)
    for k, (mine, theirs) in enumerate(zip(truths(scene, rule), by_ids, strict=True)):
        if k == first:
            continue
        assert mine.frame_label == theirs.frame_label, k
        assert np.array_equal(mine.point_label == 1, theirs.point_label == 1), k
        assert np.array_equal(mine.pixel_label == 1, theirs.pixel_label == 1), k
        assert mine.num_anomaly_voxels == theirs.num_anomaly_voxels, k


def test_the_vehicle_is_normal_outside_its_window_whatever_id_it_bears(recording: Recording):
    scene = recording(dynamic_labels="ids")
    frame = read_frame(scene, scene.frame_ids[0])
    rule = find_rule(scene, allow_guess=False)
    label = truth(frame, rule, min_points=5, min_pixels=10)
    bears_agent_id = frame.point_class == AGENT_OFFSET + 14
    assert bears_agent_id.sum() > 20
    assert (label.point_label[bears_agent_id] == 0).all()
    assert (label.pixel_label[frame.semantic == AGENT_OFFSET + 14] == 0).all()
    other = truth(frame, BY_IDS, min_points=5, min_pixels=10)
    assert (other.point_label[bears_agent_id] == 255).all()


def test_braking_and_standing_are_told_apart(recording: Recording):
    scene = recording(dynamic_labels="native")
    rule = find_rule(scene, allow_guess=False)
    phases = [label.anomaly_phase for label in truths(scene, rule)]
    first, last = indices(scene, rule)
    assert set(phases[:first] + phases[last + 1 :]) == {""}
    assert phases[first] == BRAKING
    assert set(phases[first : last + 1]) <= {BRAKING, STANDING}
    assert all(label.anomaly_category == "braking" for label in truths(scene, rule))


def test_a_window_frame_in_which_no_sensor_sees_the_vehicle_is_ignored(recording: Recording):
    scene = recording(dynamic_labels="native")
    rule = find_rule(scene, allow_guess=False)
    assert rule.window is not None
    frame = read_frame(scene, rule.window.first)
    assert frame.anomaly is not None
    far = dataclasses.replace(frame.anomaly, location=(9e4, 9e4, 0.0))
    unseen = dataclasses.replace(frame, anomaly=far)
    label = truth(unseen, rule, min_points=5, min_pixels=10)
    assert (label.frame_label, label.num_anomaly_points) == (255, 0)


def test_without_ids_and_place_a_scene_is_refused_unless_a_guess_is_asked_for(
    recording: Recording,
):
    scene = recording(dynamic_labels="native", anomaly_variant="B")
    with pytest.raises(SceneError, match="ANOMALY gives no location, so nothing says when and"):
        find_rule(scene, allow_guess=False)
    rule = find_rule(scene, allow_guess=True)
    assert rule.label_rule == "window_guess"
    labels = truths(scene, rule)
    assert {label.frame_label for label in labels} == {255}
    assert sum(label.num_anomaly_points for label in labels) == 0


def test_an_id_100_where_motion_decided_is_a_contradiction(recording: Recording):
    scene = recording(dynamic_labels="native")
    rule = find_rule(scene, allow_guess=False)
    assert rule.window is not None
    frame = read_frame(scene, rule.window.first)
    point_class = np.where(frame.point_class == 14, 100, frame.point_class).astype(np.uint8)
    mixed = dataclasses.replace(frame, arrays={**frame.arrays, "point_class": point_class})
    with pytest.raises(FrameError, match="places a vehicle, labelled by its motion"):
        truth(mixed, rule, min_points=5, min_pixels=10)


def test_a_scene_in_which_nobody_brakes_has_no_anomaly(recording: Recording, tmp_path: Path):
    """As where the recording was cut off before the braking."""
    scene = recording(dynamic_labels="native")
    slow = dataclasses.replace(scene, frame_ids=scene.frame_ids[:10])
    rule = find_rule(slow, allow_guess=False)
    assert (rule.label_rule, rule.window) == ("kinematics", None)
    assert {label.frame_label for label in truths(slow, rule)} == {0}


def test_a_dynamic_scene_without_one_readable_anomaly_file_is_refused(recording: Recording):
    scene = recording(dynamic_labels="ids", anomaly_variant="A")
    none = dataclasses.replace(scene, scene_id="another")
    with pytest.raises(SceneError, match="no ANOMALY file in it is readable"):
        find_rule(none, allow_guess=True)


def test_anomaly_is_alive_says_nothing(recording: Recording):
    """It is true in every frame of the file, also where nothing is anomalous."""
    scene = recording(dynamic_labels="ids")
    texts = [scene.file("anomaly", frame_id).read_text() for frame_id in scene.frame_ids]
    assert all(parse_key_value(text)["anomaly_is_alive"] is True for text in texts)
    rule = find_rule(scene, allow_guess=False)
    assert {label.frame_label for label in truths(scene, rule)} == {0, 1}
