"""Learning rate as a pure function of the step: nothing to save, nothing to restore."""

import math

from pipeline.config.schema import TrainConfig


def learning_rate(config: TrainConfig, *, step: int, num_steps: int, per_epoch: int) -> float:
    """Linear warm-up to `config.lr`, then cosine to 0 at `num_steps` (or constant).

    The cosine also ends, and starts again at the peak, after each epoch of
    `config.lr_restart_epochs` (SGDR, Loshchilov and Hutter, ICLR 2017).
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.lr_schedule == "none":
        return config.lr
    restarts = [epoch * per_epoch for epoch in config.lr_restart_epochs]
    begin = max([config.warmup_steps, *(at for at in restarts if at <= step)])
    end = min([num_steps, *(at for at in restarts if step < at)])
    share = min(1.0, (step - begin) / max(1, end - begin))
    return config.lr * 0.5 * (1 + math.cos(math.pi * share))
