"""Outliers made of features: some channels of a point replaced by another point's.

Feature Mixing (arXiv 2505.16985) swaps channels between the modalities of one point. Here the
modalities meet as a sum of one linear layer each, which such a swap leaves as it is; so channels
are exchanged between two points of one frame and of different class. What comes out lies close to
features of both and belongs to neither class. It works with every fusion, one modality included.
"""

import torch
from jaxtyping import Float32
from torch import Tensor

from pipeline.data.batch import Batch
from pipeline.datasets.protocol.classes import NORMAL_LABEL

MIXED_PER_FRAME = 256
"""Points drawn in each mixed frame, each with a partner; pairs of one class are left out."""
EXCHANGED = 0.5
"""Probability with which a channel comes from the partner."""


def mixed_features(
    features: Float32[Tensor, "P C"], batch: Batch, *, share: float
) -> Float32[Tensor, "M C"] | None:
    """Outlier features of frames drawn with probability `share`; None where it is 0.

    Both points of a pair are labelled normal. Draws from torch's generator, as dropout does.
    """
    if not share:
        return None
    parts, start = [torch.zeros(0, 2, dtype=torch.int64)], 0
    for count, is_drawn in zip(
        batch.sizes(), (torch.rand(batch.num_frames) < share).tolist(), strict=True
    ):
        if is_drawn and count:
            parts.append(start + torch.randint(count, (MIXED_PER_FRAME, 2)))
        start += count
    own, other = torch.cat(parts).to(features.device).unbind(1)
    of_point, label = batch.point_class, batch.point_label
    fits = of_point[own] != of_point[other]
    fits &= (label[own] == NORMAL_LABEL) & (label[other] == NORMAL_LABEL)
    own, other = own[fits], other[fits]
    exchanged = (torch.rand(len(own), features.shape[1]) < EXCHANGED).to(features.device)
    return torch.where(exchanged, features.index_select(0, other), features.index_select(0, own))
