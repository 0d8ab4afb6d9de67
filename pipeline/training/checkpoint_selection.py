"""Which validation metric selects the checkpoint, and which labels that selection has seen.

A one-class result is only valid if checkpoint selection also ignored anomalies; this module records
which.
"""

from pipeline.config.schema import Config

NORMAL_ONLY = "val/semantic_miou"


def checkpoint_metric(config: Config) -> str:
    """Name of the metric: `val/point_ap`, or `val/frame_ap` for a model that scores frames only."""
    return f"val/{'frame_ap' if config.model.name == 'simple' else config.train.monitor}"


def choice_sees(config: Config) -> str:
    """What model choice and thresholds know of the validation split, for the tags of a run."""
    if checkpoint_metric(config) == NORMAL_ONLY:
        return "normal points only"
    return "anomaly labels of the validation split"
