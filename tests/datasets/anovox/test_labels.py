from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets.anovox.frame import Frame, read_frame
from pipeline.datasets.anovox.label_rules import BY_IDS
from pipeline.datasets.anovox.labels import TRUTH_MODALITIES, Truth, truth
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.scene import read_scenes
from pipeline.datasets.protocol.frames import FrameError

Write = Callable[..., Path]


@pytest.fixture
def frame_of(tmp_path: Path, write_archive: Write) -> Callable[..., Frame]:
    """The one frame of an archive with these numbers of anomalous points and pixels."""

    def make(**options: object) -> Frame:
        archive = find_archives(write_archive(tmp_path, frame_ids=[7], **options))[0]
        return read_frame(
            read_scenes(archive.scenes[0], archive)[0], 7, modalities=TRUTH_MODALITIES
        )

    return make


def label(frame: Frame, *, min_points: int = 5, min_pixels: int = 10) -> Truth:
    return truth(frame, BY_IDS, min_points=min_points, min_pixels=min_pixels)


def without_anomalous_voxels(frame: Frame) -> Frame:
    """As where the object's few points lose their voxels to others."""
    voxels = frame.voxels.copy()
    voxels[:, 3] = 1
    return replace(frame, arrays={**frame.arrays, "voxels": voxels})


@pytest.mark.parametrize(
    ("num_points", "num_pixels", "expected"),
    [
        (0, 0, 0),
        (1, 0, 255),
        (4, 0, 255),
        (5, 0, 1),
        (6, 0, 1),
        (0, 1, 255),
        (0, 9, 255),
        (0, 10, 1),
        (4, 9, 255),
        (5, 9, 1),
        (4, 10, 1),
    ],
)
def test_a_frame_is_anomalous_from_the_minimum_on_and_ignored_below_it(
    frame_of: Callable[..., Frame], num_points: int, num_pixels: int, expected: int
):
    frame = frame_of(num_anomaly_points=num_points, num_anomaly_pixels=num_pixels)
    found = label(without_anomalous_voxels(frame))
    assert found.frame_label == expected
    assert (found.num_anomaly_points, found.num_anomaly_pixels) == (num_points, num_pixels)


def test_one_anomalous_voxel_is_enough(frame_of: Callable[..., Frame]):
    frame = frame_of(num_anomaly_points=2, num_anomaly_pixels=0)
    found = label(frame)
    assert (found.num_anomaly_points, found.num_anomaly_voxels) == (2, 1)
    assert found.frame_label == 1


def test_points_pixels_and_voxels_are_labelled_by_their_ids(frame_of: Callable[..., Frame]):
    frame = frame_of(num_anomaly_points=6, num_anomaly_pixels=16)
    found = label(frame)
    assert np.array_equal(found.point_label, (frame.point_class == 30).astype(np.uint8))
    assert np.array_equal(found.pixel_label, (frame.semantic == 30).astype(np.uint8))
    assert np.array_equal(found.voxel_label, (frame.voxels[:, 3] == 30).astype(np.uint8))
    assert found.num_anomaly_points == 6
    assert found.num_anomaly_pixels == 16
    assert found.label_rule == "ids"


def test_the_ego_vehicle_and_agents_are_ignored(frame_of: Callable[..., Frame]):
    frame = frame_of(num_anomaly_points=0, num_anomaly_pixels=0)
    point_class = frame.point_class.copy()
    point_class[:3] = [214, 114, 0]
    found = label(replace(frame, arrays={**frame.arrays, "point_class": point_class}))
    assert found.point_label[:4].tolist() == [255, 255, 0, 0]
    assert found.frame_label == 0


def test_an_unseen_object_is_described_but_the_frame_is_normal(frame_of: Callable[..., Frame]):
    found = label(frame_of(num_anomaly_points=0, num_anomaly_pixels=0))
    assert found.frame_label == 0
    assert found.anomaly_category == "animal"
    assert found.anomaly_type == "static.prop.o_dog_animal"
    assert found.anomaly_size == "small"


def test_the_distance_is_the_median_range_of_the_points_on_the_object(
    frame_of: Callable[..., Frame],
):
    frame = frame_of(num_anomaly_points=5)
    middle = np.linalg.norm([10.0, 0.1, -1.2])
    assert label(frame).anomaly_distance_m == pytest.approx(middle, abs=1e-5)


def test_without_points_the_distance_is_that_of_its_location(frame_of: Callable[..., Frame]):
    found = label(frame_of(num_anomaly_points=0))
    assert found.anomaly_distance_m == pytest.approx(np.linalg.norm([10.0, 0.0, -1.2]))


def test_without_points_and_location_the_distance_is_nan(frame_of: Callable[..., Frame]):
    frame = frame_of(num_anomaly_points=0)
    assert frame.anomaly is not None
    nowhere = replace(frame, anomaly=replace(frame.anomaly, location=None))
    assert np.isnan(label(nowhere).anomaly_distance_m)


def test_normality_frames_are_normal_and_describe_no_object(frame_of: Callable[..., Frame]):
    found = label(frame_of(name="AnoVox_Normality_Mono_Town07"))
    assert found.frame_label == 0
    assert (found.anomaly_category, found.anomaly_type, found.anomaly_size) == ("", "", "")
    assert np.isnan(found.anomaly_distance_m)
    assert not found.point_label.any()
    assert not found.pixel_label.any()


@pytest.mark.parametrize("array", ["point_class", "semantic", "voxels"])
def test_an_anomalous_id_in_a_normality_frame_is_refused(
    frame_of: Callable[..., Frame], array: str
):
    frame = frame_of(name="AnoVox_Normality_Mono_Town07")
    changed = frame.arrays[array].copy()
    changed.ravel()[3] = 29
    with pytest.raises(
        FrameError, match=r"frame 7 .* in AnoVox_Normality_Mono_Town07 shows home, .* nothing; .*"
    ):
        label(replace(frame, arrays={**frame.arrays, array: changed}))


def test_an_id_of_another_object_than_the_one_placed_is_refused(frame_of: Callable[..., Frame]):
    frame = frame_of(num_anomaly_points=6)
    semantic = frame.semantic.copy()
    semantic[0, 0] = 32
    with pytest.raises(FrameError, match="shows special, but its archive places animal"):
        label(replace(frame, arrays={**frame.arrays, "semantic": semantic}))


def test_the_generic_anomaly_id_is_legal_for_any_object(frame_of: Callable[..., Frame]):
    frame = frame_of(num_anomaly_points=0, num_anomaly_pixels=0)
    point_class = frame.point_class.copy()
    point_class[:5] = 100
    found = label(replace(frame, arrays={**frame.arrays, "point_class": point_class}))
    assert (found.frame_label, found.num_anomaly_points) == (1, 5)
