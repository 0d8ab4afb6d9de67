"""Which validation metric selects the checkpoint, and which labels that selection has seen.

A one-class result is only valid if checkpoint selection also ignored anomalies; this module records
which.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.config.schema import Config
from pipeline.metrics.metric import SEMANTIC, is_better, level_of


def checkpoint_metric(config: Config) -> str:
    """Name of the metric: `val/point_ap`, or `val/frame_ap` for a model that scores frames only."""
    monitor = config.train.monitor
    scores_it = config.model.name != "simple" or level_of(monitor) == "frame"
    return f"val/{monitor if scores_it else 'frame_ap'}"


def sees_anomalies(config: Config) -> bool:
    """Whether model choice may look at anomaly labels; those of classes are of normal points."""
    return level_of(checkpoint_metric(config).removeprefix("val/")) != SEMANTIC


def choice_sees(config: Config) -> str:
    """What model choice and thresholds know of the validation split, for the tags of a run."""
    if sees_anomalies(config):
        return "anomaly labels of the validation split"
    return "normal points only"


def is_new_best(key: str, metrics: Mapping[str, float], best: Mapping[str, Any]) -> bool:
    """Whether a validation has the metric, and a better one than the best so far, if any."""
    return key in metrics and (not best or is_better(key, metrics[key], best["value"]))
