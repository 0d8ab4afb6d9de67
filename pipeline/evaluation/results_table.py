"""Rows of one evaluation's table: no metric without its interval and its controls."""

import math
from typing import Any

from pipeline.config.schema import Config
from pipeline.evaluation.baselines import beats
from pipeline.metrics.bootstrap import intervals
from pipeline.metrics.counts import Metric
from pipeline.metrics.metric import level_of, metrics_of
from pipeline.metrics.tally import SplitCounts
from pipeline.training.checkpoints import CheckpointMeta
from pipeline.visualization.tables import Row


def result_rows(
    config: Config,
    meta: CheckpointMeta,
    tally: SplitCounts,
    baseline: SplitCounts,
    probes: dict[str, Metric],
) -> list[Row]:
    """Every metric of every slice with interval, constant predictor, baseline and shortcut probe,
    then AnoVox's own metrics of voxels."""
    found = intervals(
        tally,
        num_resamples=config.evaluation.num_bootstraps,
        seed=config.evaluation.bootstrap_seed,
    )
    readings = baseline.readings()
    about: dict[str, Any] = {
        "model": model_name(meta),
        "split_hash": meta.split_hash,
        "run_id": meta.run_id,
    }
    rows = []
    for name in tally.slices:
        for definition in metrics_of(level_of(name)):
            metric = definition.name
            interval = found[f"{name}_{metric}"]
            other, probe = readings.get(f"{name}_{metric}"), probes.get(f"{name}_{metric}")
            is_beaten = probe is not None and not beats(metric, interval.value, probe)
            rows.append(
                Row(
                    metric=f"test/{name}_{metric}",
                    value=interval.value,
                    low=interval.low,
                    high=interval.high,
                    constant=definition.constant(tally.counts(name).prevalence),
                    baseline=other.value if other else math.nan,
                    probe=probe.value if probe else math.nan,
                    remark=interval.reason or ("no better than the shortcut probe" * is_beaten),
                    **about,
                )
            )
    return rows + _benchmark_rows(tally, baseline, about) + _semantic_rows(tally, about)


def _semantic_rows(tally: SplitCounts, about: dict[str, Any]) -> list[Row]:
    """mIoU and the IoU of each class; the constant answers the commonest class everywhere."""
    constants = tally.semantic.constants()
    return [
        Row(
            metric=f"test/{name}",
            value=value,
            low=math.nan,
            high=math.nan,
            constant=constants.get(name, math.nan),
            baseline=math.nan,
            remark="over all points; no interval",
            **about,
        )
        for name, value in tally.semantic.readings().items()
    ]


def _benchmark_rows(tally: SplitCounts, baseline: SplitCounts, about: dict[str, Any]) -> list[Row]:
    others = baseline.benchmark()
    return [
        Row(
            metric=f"test/{name}",
            value=value,
            low=math.nan,
            high=math.nan,
            constant=math.nan,
            baseline=others.get(name, math.nan),
            remark="as AnoVox's benchmark averages it, without an interval",
            **about,
        )
        for name, value in tally.benchmark().items()
    ]


def model_name(meta: CheckpointMeta) -> str:
    """What the table and the figures call the model."""
    model = meta.config["model"]
    return model["fusion"] if model["name"] == "detector" else model["name"]
