"""SimpleAnomalyDetector, the prior system's network, kept to the parameter as a negative control.

It scores whole frames and was trained without labels on a loss whose optimum is the constant 0;
`loss.name=prior_self_supervised` repeats that, and the collapse guard must stop it.
"""

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from pipeline.data.batch import Batch
from pipeline.models.image import MEAN, STD
from pipeline.models.scores import Scores, scores_of_nothing

MAX_POINTS = 10_000
"""Points per frame that are looked at, drawn at random."""


class SimpleAnomalyDetector(nn.Module):
    """1,146,497 parameters: two convolutions, a maximum over a point MLP, three linear layers."""

    def __init__(self, *, raw_pixels: bool = True) -> None:
        super().__init__()
        self.raw_pixels = raw_pixels
        self.image = nn.Sequential(
            nn.Conv2d(3, 32, 7, stride=2, padding=3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(8),
            nn.Flatten(),
        )
        self.points = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU())
        self.head = nn.Sequential(
            nn.Linear(64 * 8 * 8 + 128, 256),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, 1),
        )

    def forward(self, batch: Batch) -> Scores:
        """Frame logits; the prior system applied the sigmoid that its loss now applies."""
        if batch.num_frames == 0:
            return Scores(point_score=None, frame_score=scores_of_nothing(self.parameters()))
        clouds = batch.points.split(batch.sizes())
        cloud_features = torch.stack([self._cloud_features(cloud) for cloud in clouds])
        features = torch.cat([self.image(self._pixels(batch.image)), cloud_features], dim=1)
        return Scores(point_score=None, frame_score=self.head(features).squeeze(1).float())

    def _pixels(self, image: UInt8[Tensor, "B 3 H W"]) -> Float32[Tensor, "B 3 H W"]:
        if self.raw_pixels:
            return image.float()
        mean, std = (image.new_tensor(v, dtype=torch.float32).view(3, 1, 1) for v in (MEAN, STD))
        return (image.float() / 255 - mean) / std

    def _cloud_features(self, cloud: Float32[Tensor, "P 4"]) -> Float32[Tensor, "128"]:
        """Maximum over the points; zeros (what ReLU leaves of nothing) for an empty cloud."""
        if len(cloud) > MAX_POINTS:
            cloud = cloud[self._draw(len(cloud)).to(cloud.device)]
        nothing = cloud.new_zeros(1, 128)
        return torch.cat([self.points(cloud), nothing]).amax(dim=0)

    def _draw(self, num_points: int) -> Tensor:
        """Fresh points at every training step; the same ones whenever a frame is evaluated."""
        generator = None if self.training else torch.Generator().manual_seed(0)
        return torch.randperm(num_points, generator=generator)[:MAX_POINTS]
