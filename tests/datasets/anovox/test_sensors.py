import json
from collections.abc import Callable

import pytest

from pipeline.datasets.anovox.sensors import Mount, parse_setup, saved_folders

CAMERA = {
    "location": [0, 0, 1.8],
    "rotation": [0, 0, 0],
    "args": {"image_height": 512, "image_width": 768, "camera_fov": 90.0},
    "save_data": True,
}
LIDAR = {
    "location": [0, 0, 1.8],
    "rotation": [0, 0, 0],
    "args": {"range": 100.0, "upper_fov": 15.0, "lower_fov": -25.0, "channels": 64},
    "save_data": True,
}


def entries() -> dict:
    shared = {"rgb": CAMERA, "depth": CAMERA, "lidar": LIDAR, "semantic": LIDAR}
    return json.loads(json.dumps(shared))


def parse(setup: object):
    return parse_setup(json.dumps(setup), ["rgb", "depth"], ["lidar", "semantic"])


def test_the_setup_of_anovox_is_read_with_its_units():
    setup = parse(entries())
    assert (setup.image_width, setup.image_height, setup.camera_fov_deg) == (768, 512, 90.0)
    assert (setup.lidar_range_m, setup.lidar_channels) == (100.0, 64)
    assert (setup.lidar_upper_fov_deg, setup.lidar_lower_fov_deg) == (15.0, -25.0)
    assert setup.camera == setup.lidar == Mount((0.0, 0.0, 1.8), (0.0, 0.0, 0.0))


def set_args(folder: str, key: str, value: object) -> Callable[[dict], None]:
    return lambda setup: setup[folder]["args"].__setitem__(key, value)


DAMAGES = {
    "an entry is missing": (lambda s: s.pop("depth"), "no entry for the folder depth"),
    "an entry is no object": (lambda s: s.update(rgb=[]), "no entry for the folder rgb"),
    "args are missing": (lambda s: s["rgb"].pop("args"), "entry of rgb has no args"),
    "the width is missing": (lambda s: s["rgb"]["args"].pop("image_width"), "image_width of rgb"),
    "the width is text": (set_args("rgb", "image_width", "768"), "'768' instead of a finite"),
    "the width is true": (set_args("rgb", "image_width", True), "True instead of a finite"),
    "cameras differ": (set_args("depth", "image_width", 384), "differs between sensors"),
    "lidars differ": (set_args("lidar", "range", 50.0), "differs between sensors"),
    "the range is nan": (set_args("lidar", "range", float("nan")), "nan instead of a finite"),
    "the range has 400 digits": (set_args("lidar", "range", 10**400), "instead of a finite"),
    "the mount is a pair": (lambda s: s["lidar"].update(location=[0, 0]), "location is"),
    "mounts differ": (lambda s: s["lidar"].update(location=[0, 0, 2]), "mount differs"),
    "rotation is missing": (lambda s: s["lidar"].pop("rotation"), "rotation is None"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_setup_is_refused_with_the_finding(case: str):
    damage, finding = DAMAGES[case]
    setup = entries()
    damage(setup)
    with pytest.raises(ValueError, match=finding):
        parse(setup)


@pytest.mark.parametrize(
    ("folders", "key", "value"),
    [
        (("rgb", "depth"), "image_width", 0),
        (("rgb", "depth"), "image_width", 768.5),
        (("rgb", "depth"), "image_height", 100_000),
        (("rgb", "depth"), "camera_fov", 180),
        (("lidar", "semantic"), "range", 0),
        (("lidar", "semantic"), "channels", -1),
        (("lidar", "semantic"), "lower_fov", 16),
    ],
)
def test_values_no_sensor_can_have_are_refused_by_name(folders, key, value):
    setup = entries()
    for folder in folders:
        setup[folder]["args"][key] = value
    with pytest.raises(ValueError, match=key):
        parse(setup)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000])
def test_a_setup_that_is_no_json_object_is_refused(text: str):
    with pytest.raises(ValueError, match="it is not"):
        parse_setup(text, ["rgb"], ["lidar"])


def test_sensors_that_were_not_saved_have_no_folder():
    setup = entries()
    setup["depth"]["save_data"] = False
    assert saved_folders(json.dumps(setup)) == {"rgb", "lidar", "semantic"}
