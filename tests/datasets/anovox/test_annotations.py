import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.datasets.anovox import annotations
from pipeline.datasets.anovox.annotations import (
    format_key_value,
    lidar_matrix,
    parse_anomaly,
    parse_key_value,
    read_anomaly,
    read_record,
)
from pipeline.datasets.anovox.geometry import carla_transform
from pipeline.datasets.anovox.sensors import Mount, SensorSetup
from pipeline.datasets.protocol.frames import FrameError

SCENE_ID = "739b5ee1-53b4-4a10-9a3c-0a8ce50e8d11"
VALUES = {"frame_id": 1000, "scenario_id": SCENE_ID}
PROP = {
    "anomaly_id": 311,
    "anomaly_type_id": "static.prop.o_barbedwire_special",
    "anomaly_is_alive": True,
    "semantic_tags": [32],
    "location": (-12.5, 80.25, 0.5),
    "size": "small",
}


def test_the_lines_of_a_real_file_are_parsed_by_their_first_separator():
    text = (
        "frame_id ; 3323\n"
        f"scenario_id ; {SCENE_ID}\n"
        "vehicle_type_id ; vehicle.lincoln.mkz_2020\n"
        "speed ; 31.25\n"
        "reverse ; False\n"
        "center_of_mass ; (0.1, 0.0, -0.3)\n"
        "steering_curve ; ('0.0,1.0)', '(20.0/0.9')\n"
        "FR_wheel max steer angle ; 70.0\n"
        "color ; 17,37,103\n"
        "note ; a ; b\n"
    )
    values = parse_key_value(text)
    assert values == {
        "frame_id": 3323,
        "scenario_id": SCENE_ID,
        "vehicle_type_id": "vehicle.lincoln.mkz_2020",
        "speed": 31.25,
        "reverse": False,
        "center_of_mass": (0.1, 0.0, -0.3),
        "steering_curve": "('0.0,1.0)', '(20.0/0.9')",
        "FR_wheel max steer angle": 70.0,
        "color": (17, 37, 103),
        "note": "a ; b",
    }
    assert parse_key_value(text.replace("\n", "\r\n")) == values


NUMBERS = st.one_of(
    st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False), st.booleans()
)


@given(
    st.dictionaries(
        st.text("abcdefgh_ ", min_size=1).filter(lambda key: key.strip() == key),
        st.one_of(NUMBERS, st.tuples(NUMBERS, NUMBERS, NUMBERS), st.lists(NUMBERS)),
    )
)
def test_what_is_formatted_parses_back(values: dict):
    assert parse_key_value(format_key_value(values)) == values


@pytest.mark.parametrize("text", ["frame_id 5\n", "frame_id; 5\n", "a ; 1\na ; 2\n", "\0\0\0"])
def test_a_line_that_is_no_pair_and_a_repeated_key_are_refused(text: str):
    with pytest.raises(ValueError, match="is not `key ; value` with a key of its own"):
        parse_key_value(text)


@pytest.mark.parametrize("value", ["(" * 300, "[1, 2", "9" * 5000, "{[]: 1}", "__import__('os')"])
def test_a_value_that_is_no_literal_stays_text(value: str):
    assert parse_key_value(f"key ; {value}\n") == {"key": value}


def test_a_value_with_a_line_break_is_not_written():
    with pytest.raises(ValueError, match="remove the line break"):
        format_key_value({"key": "a\nb"})


def test_a_placed_object_is_read_from_variant_a():
    anomaly = parse_anomaly(PROP)
    assert anomaly.type_id == "static.prop.o_barbedwire_special"
    assert (anomaly.category, anomaly.tags, anomaly.size) == ("special", (32,), "small")
    assert anomaly.location == (-12.5, 80.25, 0.5)


def test_without_tags_the_blueprints_name_says_the_category():
    anomaly = parse_anomaly({**PROP, "semantic_tags": []})
    assert (anomaly.category, anomaly.tags) == ("special", ())


def test_a_vehicle_of_either_variant_has_no_category():
    lead = {**PROP, "anomaly_type_id": "vehicle.audi.tt", "semantic_tags": [14]}
    assert parse_anomaly(lead).category == ""
    variant_b = parse_anomaly({"vehicle_type_id": "vehicle.audi.tt", "speed": 3.0, "brake": 1.0})
    assert (variant_b.category, variant_b.tags, variant_b.location) == ("", (), None)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"anomaly_type_id": ""}, "neither anomaly_type_id nor vehicle_type_id"),
        ({"semantic_tags": "[32"}, "semantic_tags is"),
        ({"semantic_tags": [3.5]}, "semantic_tags is"),
        ({"location": (1, 2)}, "location is"),
        ({"location": "(nan, 0, 0)"}, "location is"),
    ],
)
def test_an_anomaly_that_is_of_neither_variant_is_refused(change: dict, finding: str):
    with pytest.raises(ValueError, match=finding):
        parse_anomaly({**PROP, **change})


def write(path: Path, values: dict) -> Path:
    path.write_text(format_key_value(values))
    return path


def test_a_record_of_another_frame_or_scene_is_refused(tmp_path: Path):
    path = write(tmp_path / "ACTION_1000.csv", VALUES)
    assert read_record(path, scene_id=SCENE_ID, frame_id=1000) == VALUES
    with pytest.raises(FrameError, match=f"{path}: its frame_id is 1000 instead of 1001; re-extr"):
        read_record(path, scene_id=SCENE_ID, frame_id=1001)
    with pytest.raises(FrameError, match="its scenario_id is"):
        read_record(path, scene_id="another", frame_id=1000)


def test_an_anomaly_that_ids_cannot_label_is_refused(tmp_path: Path):
    vehicle = {**VALUES, **PROP, "anomaly_type_id": "vehicle.audi.tt", "semantic_tags": [14]}
    path = write(tmp_path / "ANOMALY_1000.csv", vehicle)
    with pytest.raises(
        FrameError, match=r"vehicle.audi.tt with tags \[14\] is of no anomaly class"
    ):
        read_anomaly(path, scene_id=SCENE_ID, frame_id=1000, kind="static")
    assert read_anomaly(path, scene_id=SCENE_ID, frame_id=1000, kind="dynamic").tags == (14,)


def test_a_prop_in_a_dynamic_scene_is_refused(tmp_path: Path):
    path = write(tmp_path / "ANOMALY_1000.csv", {**VALUES, **PROP})
    with pytest.raises(FrameError, match=r"is a placed object .special., but dynamic archives"):
        read_anomaly(path, scene_id=SCENE_ID, frame_id=1000, kind="dynamic")


def test_motion_is_read_from_either_variant():
    variant_a = parse_anomaly({**PROP, "velocity": (3.0, -4.0, 0.0)})
    assert (variant_a.velocity, variant_a.speed_m_s) == ((3.0, -4.0, 0.0), 5.0)
    variant_b = parse_anomaly({"vehicle_type_id": "vehicle.audi.tt", "speed": 36.0})
    assert (variant_b.velocity, variant_b.speed_m_s) == (None, 10.0)
    assert parse_anomaly(PROP).speed_m_s is None


FRONT = Mount((0.0, 0.0, 1.8), (0.0, 0.0, 0.0))
REAR = Mount((-1.5, -0.9, 1.0), (0.0, 0.0, -170.0))


def setup_of(view: Mount, last: Mount) -> SensorSetup:
    """A pose of a set whose last sensors, those of ACTION's matrices, sit elsewhere."""
    return SensorSetup(
        image_width=24,
        image_height=16,
        camera_fov_deg=90.0,
        lidar_range_m=100.0,
        lidar_channels=64,
        lidar_upper_fov_deg=15.0,
        lidar_lower_fov_deg=-25.0,
        camera=view,
        lidar=view,
        action_mounts=((last, last),),
    )


def test_the_matrix_of_any_pose_follows_from_that_of_the_sets_last_lidar():
    vehicle = carla_transform((310.0, -57.5, 0.0), 0, 0, 30)
    last = vehicle @ carla_transform(REAR.location, *REAR.rotation)
    values = {
        "camera transformation matrix": last.tolist(),
        "lidar transformation matrix": last.tolist(),
        "lidar inverse transformation matrix": np.linalg.inv(last).tolist(),
    }
    found = lidar_matrix(Path("ACTION_5.csv"), values, setup_of(FRONT, REAR))
    assert found == pytest.approx(vehicle @ carla_transform(FRONT.location, *FRONT.rotation))


def matrices() -> dict[str, list]:
    matrix = carla_transform((310.0, -57.5, 2.25), 1, -3, 77)
    return {
        "camera transformation matrix": matrix.tolist(),
        "lidar transformation matrix": matrix.tolist(),
        "lidar inverse transformation matrix": np.linalg.inv(matrix).tolist(),
    }


def test_the_lidar_matrix_is_taken_when_all_that_depends_on_it_agrees():
    found = lidar_matrix(Path("ACTION_5.csv"), matrices(), setup_of(FRONT, FRONT))
    assert found == pytest.approx(carla_transform((310.0, -57.5, 2.25), 1, -3, 77))


def test_single_precision_matrices_far_from_the_origin_still_agree():
    matrix = carla_transform((900.0, -900.0, 30.0), 1, -3, 77).astype(np.float32)
    values = {
        "camera transformation matrix": matrix.tolist(),
        "lidar transformation matrix": matrix.tolist(),
        "lidar inverse transformation matrix": np.linalg.inv(matrix).tolist(),
    }
    assert lidar_matrix(Path("ACTION_5.csv"), values, setup_of(FRONT, FRONT)).shape == (4, 4)


@pytest.mark.parametrize(
    ("key", "value", "finding"),
    [
        ("lidar transformation matrix", "[[1.0, 0.0", r"is .\[\[1.0, 0.0' instead of"),
        ("lidar transformation matrix", np.ones((3, 4)).tolist(), "instead of finite numbers"),
        ("lidar transformation matrix", np.full((4, 4), 2.0).tolist(), "not a rigid motion"),
        ("lidar transformation matrix", np.diag([1, -1, 1, 1]).tolist(), "not a rigid motion"),
        ("lidar inverse transformation matrix", np.eye(4).tolist(), "not the matrix's inverse"),
        ("camera transformation matrix", np.eye(4).tolist(), "do not differ as their mounts do"),
        ("camera transformation matrix", None, "is 'None' instead of finite numbers"),
    ],
)
def test_a_matrix_that_contradicts_the_others_is_refused(key: str, value: object, finding: str):
    with pytest.raises(FrameError, match=finding):
        lidar_matrix(Path("ACTION_5.csv"), {**matrices(), key: value}, setup_of(FRONT, FRONT))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789-+.eE,[] \t", max_size=12))
def test_numbers_are_read_as_pythons_own_grammar_reads_them(text: str):
    try:
        expected = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        expected = text
    found = annotations._literal(text)
    assert type(found) is type(expected)
    assert found == expected
