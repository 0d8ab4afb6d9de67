import json
from pathlib import Path

import pytest

from pipeline.datasets.anovox.paths import CONFIG_FOLDER, scenario_config_name
from pipeline.datasets.anovox.weather import read_weather


def write(archive: Path, town: str, text: str) -> None:
    (archive / CONFIG_FOLDER).mkdir(exist_ok=True)
    (archive / CONFIG_FOLDER / scenario_config_name(town)).write_text(text)


def test_the_preset_is_read_from_beside_the_route_or_from_inside_it(tmp_path: Path):
    beside = {"id": "a", "weather_preset": "WET_NOON", "ego_route": {}}
    inside = {"id": "b", "ego_route": {"weather_preset": "CLEAR_SUNSET"}}
    for town, scenario in (("Town03", beside), ("Town10HD", inside)):
        write(tmp_path, town, json.dumps({"scenario_definition": {"scenarios": [scenario]}}))
    assert read_weather(tmp_path) == {"a": "WET_NOON", "b": "CLEAR_SUNSET"}


def test_an_archive_without_configuration_has_no_weather(tmp_path: Path):
    assert read_weather(tmp_path) == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"scenario_definition": {"scenarios": [3]}}'])
def test_a_damaged_configuration_is_refused_with_the_way_out(tmp_path: Path, text: str):
    write(tmp_path, "Town03", text)
    with pytest.raises(ValueError, match=r"scenario_config_map_Town03.json .* or remove it"):
        read_weather(tmp_path)
