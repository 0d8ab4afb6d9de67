"""Whether trials can be ranked by `tune.metric` at all."""

from pipeline.config.schema import Config


def check_metric(config: Config) -> None:
    """ValueError when a training of this config does not yield the metric."""
    model, metric = config.model, config.tune.metric
    has = {
        "point_ap": model.name != "simple",
        "frame_ap": True,
        "pixel_ap": model.pixel_head,
        "semantic_miou": model.semantic_head,
    }
    if not has[metric]:
        raise ValueError(
            f"tune.metric={metric} is no metric of this model; set it to one of "
            f"{', '.join(name for name, known in has.items() if known)}, or give the model that "
            "head"
        )
