"""Controls beside a detector's numbers: a constant, and what the recording alone gives away.

In AnoVox normality archives hold no anomaly and a sudden braking comes at a constant place, so a
frame's archive and its number tell much about its label without any sensor. A detector that does
not beat these probes has shown nothing about frames.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from pipeline.evaluation.probes import FACTS, fact_scores, labelled_frames
from pipeline.metrics.counts import Metric
from pipeline.metrics.metric import is_better
from pipeline.metrics.tally import SplitCounts

PROBES = ("archive", "frame_index", "archive + frame_index")
CONSTANT = "constant predictor"
NEVER, ALWAYS = 1e-6, 1 - 1e-6


def probe_tallies(
    tally: SplitCounts, *, train: pd.DataFrame, test: pd.DataFrame
) -> dict[str, SplitCounts]:
    """Counts of each probe on the frames of `tally`, fitted on the train frames; by probe.

    `train` and `test` are the splits' metadata, `test` in global row order. Empty where the train
    split has no labelled frame.
    """
    known = labelled_frames(train)
    if not known:
        return {}
    frames = test.to_dict("records")
    found = {}
    for name in PROBES:
        share = np.clip(fact_scores(FACTS[name], known, frames), NEVER, ALWAYS)
        logits = np.log(share / (1 - share))
        found[name] = tally.rescored(dict(enumerate(logits.tolist())))
    return found


def best_of(tallies: Iterable[SplitCounts]) -> dict[str, Metric]:
    """The best reading of each metric among controls; undefined ones are left out."""
    found: dict[str, Metric] = {}
    for tally in tallies:
        for name, metric in tally.readings().items():
            if not np.isnan(metric.value) and beats(name, metric.value, found.get(name)):
                found[name] = metric
    return found


def beats(name: str, value: float, other: Metric | None) -> bool:
    """Whether `value` of metric `name` (`frame_ap`) is better than another reading of it."""
    return other is None or is_better(name, value, other.value)
