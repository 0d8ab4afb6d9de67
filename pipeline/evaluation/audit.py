"""What can be known of a prepared split without a detector: shortcuts, and the baseline to beat."""

from dataclasses import dataclass

import pandas as pd
from threadpoolctl import threadpool_limits

from pipeline.config import EvaluationConfig
from pipeline.data.block_reader import BlockReader
from pipeline.evaluation.baseline import baseline_scores, fit_baseline
from pipeline.evaluation.features import PointSample, sample_points
from pipeline.evaluation.levels import Tally
from pipeline.evaluation.probes import feature_probes, shortcut_probes
from pipeline.evaluation.scoring import batches_of, empty_tally
from pipeline.progress import Progress, Watch

NUM_SAMPLED = 200_000
"""Points drawn per split from those that are neither anomalous nor of ordinary small objects."""
NUM_THREADS = 1
"""Of the boosted tree: on two busy cores two threads took 3 to 8 times as long as one."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Two tables of probes, and the baseline's counts on the test split."""

    features: pd.DataFrame
    shortcuts: pd.DataFrame
    baseline: Tally


def audit(
    train: BlockReader, test: BlockReader, *, config: EvaluationConfig, watch: Watch
) -> Audit:
    """Fit probes and baseline on the train split, read them on the test split."""
    sample = sample_split(train, config=config, progress=watch("features of train"))
    other = sample_split(test, config=config, progress=watch("features of test"))
    return Audit(
        features=feature_probes(sample, other),
        shortcuts=shortcut_probes(train.index, test.index),
        baseline=tally_baseline(sample, test, config=config, progress=watch("boosted tree")),
    )


def sample_split(
    reader: BlockReader, *, config: EvaluationConfig, progress: Progress
) -> PointSample:
    """Features of all anomalous and ordinary small points, and of a share of the others."""
    return sample_points(
        batches_of(reader, batch_size=config.batch_size, progress=progress),
        reader.index,
        near_classes=config.near_classes,
        keep=min(1.0, NUM_SAMPLED / max(int(reader.num_points.sum()), 1)),
        seed=config.interval_seed,
    )


def tally_baseline(
    sample: PointSample, test: BlockReader, *, config: EvaluationConfig, progress: Progress
) -> Tally:
    """The baseline, fitted on a train sample, counted on every frame of the test split."""
    tally = empty_tally(test, near_classes=config.near_classes, voxel_score=config.voxel_score)
    with threadpool_limits(NUM_THREADS):
        model = fit_baseline(sample, seed=config.interval_seed)
        for batch in batches_of(test, batch_size=config.batch_size, progress=progress):
            tally.update(baseline_scores(model, batch), batch, test.index)
    return tally
