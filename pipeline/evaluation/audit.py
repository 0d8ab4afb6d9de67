"""Shortcut probes and feature baseline for a prepared split."""

import functools
from dataclasses import dataclass

import pandas as pd
from threadpoolctl import threadpool_limits

from pipeline.config.schema import EvaluationConfig
from pipeline.data.block_reader import BlockReader
from pipeline.evaluation.boosted_tree import Baseline, fit_baseline
from pipeline.evaluation.inference import lookalikes, make_scores
from pipeline.evaluation.parallel_inference import OpenSplit, count_split
from pipeline.evaluation.point_features import PointSample, Sampler
from pipeline.evaluation.probes import feature_probes, shortcut_probes
from pipeline.metrics.tally import SplitCounts
from pipeline.runtime.progress import Progress, Watch

NUM_SAMPLED = 200_000
"""Points drawn per split from those that are neither anomalous nor of ordinary small objects."""
NUM_THREADS = 1
"""Of the fit: on two busy cores two threads took 3 to 8 times as long as one."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Two tables of probes, and the baseline's counts on the test split."""

    features: pd.DataFrame
    shortcuts: pd.DataFrame
    baseline: SplitCounts


def audit(train: OpenSplit, test: OpenSplit, *, watch: Watch) -> Audit:
    """Fit probes and baseline on the train split, read them on the test split."""
    sample = sample_split(train, progress=watch("features of train"))
    other = sample_split(test, progress=watch("features of test"))
    plain = fit_plain(sample, seed=train.config.evaluation.bootstrap_seed)
    return Audit(
        features=feature_probes(sample, other),
        shortcuts=shortcut_probes(train.reader.index, test.reader.index),
        baseline=tally_baseline(plain, test, progress=watch("boosted tree")),
    )


def sample_split(split: OpenSplit, *, progress: Progress) -> PointSample:
    """Features of all anomalous and ordinary small points, and of a share of the others."""
    make = functools.partial(_samplers, config=split.config.evaluation)
    return count_split(make, split, progress=progress).sample()


def _samplers(reader: BlockReader, num: int, *, config: EvaluationConfig) -> list[Sampler]:
    """Nothing drawn yet, for `num` threads."""
    return [
        Sampler(
            reader.index,
            lookalike_classes=lookalikes(config, reader.manifest),
            keep=min(1.0, NUM_SAMPLED / max(int(reader.num_points.sum()), 1)),
            seed=config.bootstrap_seed,
        )
        for _ in range(num)
    ]


def fit_plain(sample: PointSample, *, seed: int) -> Baseline:
    """The baseline, fitted on a train sample."""
    with threadpool_limits(NUM_THREADS):
        return fit_baseline(sample, seed=seed)


def tally_baseline(plain: Baseline, test: OpenSplit, *, progress: Progress) -> SplitCounts:
    """The fitted baseline counted on every frame of the test split."""
    make = functools.partial(make_scores, config=test.config.evaluation, plain=plain)
    with threadpool_limits(NUM_THREADS):
        tally = count_split(make, test, progress=progress).baseline
    assert tally is not None
    return tally
