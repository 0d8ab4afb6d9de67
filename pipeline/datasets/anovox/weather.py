"""The weather of an archive's scenes, where the archive says it (most do not)."""

import json
from pathlib import Path

from pipeline.datasets.anovox.paths import CONFIG_FOLDER, scenario_config_name


def read_weather(archive: Path) -> dict[str, str]:
    """Weather preset per scene id from every scenario configuration; empty if there is none.

    Raises ValueError for a damaged one.
    """
    weather: dict[str, str] = {}
    for file in sorted((archive / CONFIG_FOLDER).glob(scenario_config_name("*"))):
        try:
            tree = json.loads(file.read_text(encoding="utf-8"))
            for scenario in tree["scenario_definition"]["scenarios"]:
                # The generator writes the preset beside ego_route, its README shows it inside.
                preset = scenario.get("weather_preset") or scenario["ego_route"]["weather_preset"]
                weather[scenario["id"]] = str(preset)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{file.name} in {CONFIG_FOLDER} cannot be read ({error!r}); extract it again, or "
                "remove it (the weather is then unknown)"
            ) from None
    return weather
