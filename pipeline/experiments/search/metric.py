"""Whether trials can be ranked by `tune.metric` at all, and which way."""

from pipeline.config.schema import Config
from pipeline.metrics.metric import definition_of, level_of, names_of


def check_metric(config: Config) -> None:
    """ValueError when a training of this config does not yield the metric."""
    model, metric = config.model, config.tune.metric
    has = {
        "point": model.name != "simple",
        "frame": True,
        "pixel": model.pixel_head,
        "semantic": model.semantic_head,
    }
    known = [name for name in names_of("ranks_search") if has.get(level_of(name))]
    if metric not in known:
        raise ValueError(
            f"tune.metric={metric} is no metric of this model; set it to one of "
            f"{', '.join(known)}, or give the model that head"
        )


def lower_is_better(config: Config) -> bool:
    """Whether trials are ranked by the lowest value first."""
    return not definition_of(config.tune.metric).higher_is_better
