"""Which validation metric picks the checkpoint, and what that lets model choice see.

Whoever trains without anomalies must say whether the checkpoint was picked without them too.
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
