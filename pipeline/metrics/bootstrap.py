"""95 % intervals by resampling whole scenes: frames of one scene are near-duplicates.

Every resample of a split is a row of multiplicities, the same for every slice, metric and model, so
the difference of two models is paired: what both find hard cancels. Coarse counts per scene are
weighted and added, so no score is read twice. Plain percentiles are too narrow with few scenes
(they ignore n / (n - 1) and Student's t), so the expanded ones of Hesterberg (2015, section 4.2 of
"What Teachers Should Know About the Bootstrap") are taken. Those of FPR95, which hangs on the worst
few scenes, stay too narrow below some hundred scenes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import csr_array

from pipeline.metrics.metric import DEFINITIONS, LEVELS, level_of, metrics_of
from pipeline.metrics.tally import SplitCounts

MIN_SCENES = 8
"""Scenes that must hold an anomalous item, and a normal one, for an interval to be given."""
CHUNK = 50
"""Resamples worked on at once: their counts stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A metric, or a difference of two, with its 95 % interval, or nan and the reason for none."""

    value: float
    """Exact value on the split as it is."""
    low: float
    high: float
    num_scenes: int
    """Scenes that hold an anomalous item of the slice."""
    reason: str = ""


def intervals(tally: SplitCounts, *, num_resamples: int, seed: int) -> dict[str, Interval]:
    """Intervals of every metric of every slice, by name (`point_ap`)."""
    return mean_intervals([tally], num_resamples=num_resamples, seed=seed)


def differences(
    tally: SplitCounts, other: SplitCounts, *, num_resamples: int, seed: int
) -> dict[str, Interval]:
    """Intervals of every metric of `tally` minus that of `other`, paired by scene.

    Raises ValueError unless both saw the same scenes of the same split.
    """
    return mean_intervals([tally], minus=[other], num_resamples=num_resamples, seed=seed)


def mean_intervals(
    tallies: Sequence[SplitCounts],
    *,
    minus: Sequence[SplitCounts] = (),
    num_resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """Intervals of the mean over several trainings, less the mean over `minus`, paired by scene.

    They tell what other scenes would change, with these trainings as they are; how far trainings
    differ is told by their own spread. Raises ValueError unless all saw the same scenes of the same
    split.
    """
    everyone = [*tallies, *minus]
    for other in everyone[1:]:
        _demand_same_scenes(everyone[0], other)
    weights = resamples(len(everyone[0].scenes), num_resamples=num_resamples, seed=seed)
    shares = [1 / len(tallies)] * len(tallies) + [-1 / max(len(minus), 1)] * len(minus)
    found = {}
    for name in everyone[0].slices:
        if not all(name in other.slices for other in everyone):
            continue
        counts = [each.scene_counts(name) for each in everyone]
        draws = [resampled_metrics(each, weights) for each in counts]
        for metric in [one.name for one in metrics_of(level_of(name))]:
            values = [each.counts(name).metric(metric).value for each in everyone]
            drawn = sum(share * draw[metric] for share, draw in zip(shares, draws, strict=True))
            value = sum(share * each for share, each in zip(shares, values, strict=True))
            found[f"{name}_{metric}"] = _interval(value, np.asarray(drawn), counts)
    return found


def _demand_same_scenes(tally: SplitCounts, other: SplitCounts) -> None:
    tally.demand_same_split(other)
    if tally.scenes != other.scenes:
        raise ValueError(
            f"the tallies hold {len(tally.scenes)} and {len(other.scenes)} scenes, not all the "
            "same; evaluate both models on the whole split"
        )


def resamples(num_scenes: int, *, num_resamples: int, seed: int) -> Int64[np.ndarray, "R S"]:
    """How often each scene occurs in each resample; every row sums to the number of scenes."""
    shares = np.full(num_scenes, 1 / num_scenes)
    return np.random.default_rng(seed).multinomial(num_scenes, shares, size=num_resamples)


def resampled_metrics(
    counts: Int64[np.ndarray, "S 2 bins"], weights: Int64[np.ndarray, "R S"]
) -> dict[str, Float64[np.ndarray, "R"]]:
    """Every metric of every resample; nan where a resample holds one class only."""
    ranking = [one for one in DEFINITIONS.values() if set(one.levels) & set(LEVELS)]
    chunks = [
        [metric.values(neg, pos) for metric in ranking] for neg, pos in _weighted(counts, weights)
    ]
    return {m.name: np.concatenate([c[i] for c in chunks]) for i, m in enumerate(ranking)}


def _weighted(counts: np.ndarray, weights: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Counts (chunk, bins) of normal and anomalous items, highest score first."""
    occupied = np.flatnonzero(counts.any(axis=(0, 1)))[::-1]
    # A scene fills few of the bins that all scenes fill together.
    neg, pos = (csr_array(counts[:, label, occupied].astype(np.float64)) for label in (0, 1))
    for start in range(0, len(weights), CHUNK):
        chunk = weights[start : start + CHUNK].astype(np.float64)
        # Sums along the bins come next, and the product lies the other way round.
        yield np.ascontiguousarray(chunk @ neg), np.ascontiguousarray(chunk @ pos)


def _interval(value: float, draws: np.ndarray, counts: list[np.ndarray]) -> Interval:
    holding = np.min([each.any(axis=2).sum(axis=0) for each in counts], axis=0)
    reason = _too_few(int(holding[0]), int(holding[1]))
    low = high = math.nan
    if not reason:
        tail = _expanded_tail(int(holding.min()))
        low, high = np.nanquantile(draws, (tail, 1 - tail)).tolist()
    return Interval(value=value, low=low, high=high, num_scenes=int(holding[1]), reason=reason)


def _expanded_tail(num_scenes: int) -> float:
    """Share to cut off at each end: 0.025 with many scenes, 0.0057 with 8.

    Student's t from the normal quantile by Abramowitz and Stegun 26.7.5 (error < 0.002 from 7
    degrees of freedom on).
    """
    normal, degrees = NormalDist(), num_scenes - 1
    z = normal.inv_cdf(0.975)
    t = z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    return normal.cdf(-t * math.sqrt(num_scenes / degrees))


def _too_few(num_negative: int, num_positive: int) -> str:
    for num, what in ((num_positive, "anomalous"), (num_negative, "normal")):
        if num < MIN_SCENES:
            return (
                f"too few scenes: {num} hold an item that is {what}, an interval needs {MIN_SCENES}"
            )
    return ""
