"""The world, the preparation and the training that most tests share."""

from pipeline.config.data import SyntheticConfig

TINY_WORLD = SyntheticConfig(
    num_scenes=16,
    num_frames=3,
    towns=["Town03"],
    image_width=192,
    image_height=128,
    num_channels=16,
    points_per_second=40_000,
)
# With so few scenes most deals leave a split without anomalous frames; this one does not.
TINY_PREPARE = {
    "image_width": 96,
    "frames_per_shard": 8,
    "val_fraction": 0.25,
    "test_fraction": 0.25,
    "split_seed": 11,
}
SMALL_TRAINING = {
    "model": {"image_channels": 8, "point_channels": 8, "image_stages": 2},
    "train": {"warmup_steps": 2, "log_every_n_steps": 1},
    "scaling": {"num_workers": 0},
    # So short a training may well be no better than a constant.
    "health_checks": {"enabled": False},
    "evaluation": {"num_bootstraps": 100},
}
