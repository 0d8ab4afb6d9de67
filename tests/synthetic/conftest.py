"""Small worlds that the tests of the synthetic writer share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.data import SyntheticConfig
from pipeline.synthetic.plan import plan_scenes
from pipeline.synthetic.sensor_sim import Observer
from pipeline.synthetic.sensors import build_sensors
from pipeline.synthetic.world import SceneWorld, build_scene
from pipeline.synthetic.writer import write_archives
from tests.helpers.seen import Seen, see

SMALL = SyntheticConfig(
    seed=3,
    num_scenes=4,
    num_frames=3,
    image_width=192,
    image_height=128,
    num_channels=16,
    points_per_second=80_000,
    num_processes=1,
)


@pytest.fixture(scope="session")
def small_config() -> SyntheticConfig:
    return SMALL


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archives of `SMALL`; tests must not change them."""
    root = tmp_path_factory.mktemp("anovox") / "root"
    write_archives(SMALL, root)
    return root


@pytest.fixture(scope="session")
def full_size() -> Callable[[int], tuple[SceneWorld, Seen]]:
    """World and middle frame of one scene at AnoVox's own sensor sizes."""
    config = SyntheticConfig(seed=1, num_scenes=12, num_frames=6)
    sensors, plans = build_sensors(config), plan_scenes(config)

    def observe(number: int) -> tuple[SceneWorld, Seen]:
        world = build_scene(config, plans[number])
        return world, see(Observer(world, sensors), 3)

    return observe
