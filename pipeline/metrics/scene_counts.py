"""Counts per scene in coarser bins: what resampling whole scenes needs.

Frames of one scene are near-duplicates, so an interval comes from resampling scenes, each of which
needs counts of its own. 4096 bins on an asinh scale (finest near 0, where scores crowd) keep AP
within about 1e-3 of the exact one when scores spread over a logit or more, and a scene's counts at
64 KB.
"""

import numpy as np
from jaxtyping import Int64, Shaped

from pipeline.metrics.counts import BINS_PER_LOGIT, MAX_LOGIT, NUM_BINS

NUM_SCENE_BINS = 2**12
LINEAR_LOGIT = 4.0
"""Bins are about equally wide up to this logit, and grow in proportion beyond it."""


def _scene_bin_of_bin() -> np.ndarray:
    """Lookup from fine bin to scene bin; ascending, so the order of scores is kept."""
    centres = (np.arange(NUM_BINS) + 0.5) / BINS_PER_LOGIT - MAX_LOGIT
    stretched = np.arcsinh(centres / LINEAR_LOGIT) / np.arcsinh(MAX_LOGIT / LINEAR_LOGIT)
    return ((stretched + 1) / 2 * NUM_SCENE_BINS).astype(np.int64)


SCENE_BIN = _scene_bin_of_bin()


class SceneCounts:
    """Counts of normal (row 0) and anomalous (row 1) items per scene and scene bin."""

    def __init__(self, counts: dict[str, np.ndarray] | None = None) -> None:
        self._counts: dict[str, np.ndarray] = {} if counts is None else counts

    def add_bins(
        self, scene: str, bins: Int64[np.ndarray, "N"], labels: Shaped[np.ndarray, "N"]
    ) -> None:
        """Count items of a scene by their fine bins (`metrics.bins_of`); label 255 is left out."""
        coarse = SCENE_BIN[bins]
        for label in (0, 1):
            self.add_label(scene, label, coarse[labels == label])

    def add_label(self, scene: str, label: int, scene_bins: Int64[np.ndarray, "N"]) -> None:
        """Count items of one scene and label by their scene bins (`SCENE_BIN`)."""
        if scene not in self._counts:
            self._counts[scene] = np.zeros((2, NUM_SCENE_BINS), np.int64)
        np.add.at(self._counts[scene][label], scene_bins, 1)

    def __add__(self, other: "SceneCounts") -> "SceneCounts":
        merged = {scene: counts.copy() for scene, counts in self._counts.items()}
        for scene, counts in other._counts.items():
            merged[scene] = merged.get(scene, 0) + counts
        return SceneCounts(merged)

    def to_array(self, scenes: list[str]) -> Int64[np.ndarray, "S 2 bins"]:
        """Counts of the given scenes, zero where a scene has no item."""
        array = np.zeros((len(scenes), 2, NUM_SCENE_BINS), np.int64)
        for place, scene in enumerate(scenes):
            if scene in self._counts:
                array[place] = self._counts[scene]
        return array

    def constant(self, at: int) -> "SceneCounts":
        """The same items, all in the scene bin of fine bin `at`."""
        merged = {}
        for scene, counts in self._counts.items():
            merged[scene] = np.zeros_like(counts)
            merged[scene][:, SCENE_BIN[at]] = counts.sum(axis=1)
        return SceneCounts(merged)

    @classmethod
    def from_array(cls, scenes: list[str], array: Int64[np.ndarray, "S 2 bins"]) -> "SceneCounts":
        """Inverse of `to_array`; scenes without an item are left out."""
        return cls({s: counts for s, counts in zip(scenes, array, strict=True) if counts.any()})
