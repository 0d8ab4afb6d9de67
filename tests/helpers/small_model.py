"""A detector with every part, quick enough to be built and run in each test."""

from pipeline.config.model import ModelConfig

SMALL = ModelConfig(
    image_channels=16,
    point_channels=16,
    image_stages=2,
    pillar_size_m=1.0,
    cylinder_grid=[24, 32, 8],
    cylinder_channels=4,
)
