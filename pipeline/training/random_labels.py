"""Control: labels that say nothing, in the shares of the real ones.

They are drawn per frame, not dealt within it: permuting a frame's own labels would still tell which
frames hold an anomaly. The same frame gets the same labels at every epoch, so they can be learned
by heart and nothing else.
"""

import dataclasses

import torch
from jaxtyping import UInt8
from torch import Tensor

from pipeline.data.batch import Batch
from pipeline.data.manifest import Manifest

_IGNORE = 255


class RandomLabels:
    """Replaces the labels of train batches; ignored points and frames stay ignored."""

    def __init__(self, manifest: Manifest, *, seed: int) -> None:
        counts = manifest.labels["train"]
        self._point_share = counts.points_pos / (counts.points_pos + counts.points_neg)
        self._frame_share = counts.frames_pos / (counts.frames_pos + counts.frames_neg)
        self._seed = seed

    def __call__(self, batch: Batch) -> Batch:
        """The batch with drawn labels, on its device."""
        generators = [
            torch.Generator().manual_seed(hash((self._seed, row)) & 0x7FFF_FFFF)
            for row in batch.row.tolist()
        ]
        frames = [torch.rand(1, generator=each) < self._frame_share for each in generators]
        points = [
            torch.rand(count, generator=each) < self._point_share
            for each, count in zip(generators, batch.counts().tolist(), strict=True)
        ]
        return dataclasses.replace(
            batch,
            frame_label=_drawn(frames, batch.frame_label),
            point_label=_drawn(points, batch.point_label),
        )


def _drawn(parts: list[Tensor], label: UInt8[Tensor, "N"]) -> UInt8[Tensor, "N"]:
    drawn = torch.cat([torch.zeros(0, dtype=torch.bool), *parts]).to(label)
    return torch.where(label == _IGNORE, label, drawn)
