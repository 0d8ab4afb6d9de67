"""Learning rate as a pure function of the step: nothing to save, nothing to restore."""

import math

from pipeline.config import TrainConfig


def learning_rate(config: TrainConfig, *, step: int, num_steps: int) -> float:
    """Linear warm-up to `config.lr`, then cosine to 0 at `num_steps` (or constant)."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "none":
        return config.lr
    span = max(1, num_steps - config.warmup_steps)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - config.warmup_steps) / span)))
