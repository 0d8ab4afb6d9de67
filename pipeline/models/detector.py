"""The detector: camera and LiDAR features at every point, one head, point and frame logits.

Fusion `concat` is a linear layer over both branches' concatenated features, written as the sum of
one linear layer per branch. A form that leaves a modality out does not own that branch, so it
cannot read it.
"""

from functools import reduce

import torch
from torch import nn

from pipeline.anovox.classes import NUM_CLASSES
from pipeline.data.batches import Batch
from pipeline.model_config import ModelConfig
from pipeline.models.fusion import ImageSampler
from pipeline.models.heads import PointHead, empty_frame_logit, frame_scores
from pipeline.models.image import STAGE_CHANNELS, ImageEncoder
from pipeline.models.mixing import mixed_features
from pipeline.models.points import PointEncoder
from pipeline.models.scores import ScoreName, Scores, anomaly_score, scores_of_nothing
from pipeline.models.simple import SimpleAnomalyDetector


class CameraBranch(nn.Module):
    """Image features at every point; the cloud enters through its projection only."""

    def __init__(self, config: ModelConfig, *, fetch_weights: bool) -> None:
        super().__init__()
        self.encoder = ImageEncoder(config, fetch_weights=fetch_weights)
        in_channels = (STAGE_CHANNELS[0], config.image_channels)
        self.sampler = ImageSampler(in_channels, config.point_channels)

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.sampler(self.encoder(batch.image), batch)


class Detector(nn.Module):
    """Scores every point, and every frame by its highest points."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        prior: float,
        window: int,
        fetch_weights: bool,
        mixing: float,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleDict()
        if config.fusion != "lidar_only":
            self.branches["camera"] = CameraBranch(config, fetch_weights=fetch_weights)
        if config.fusion != "camera_only":
            self.branches["lidar"] = PointEncoder(config, has_time=window > 1)
        self.num_classes = NUM_CLASSES if config.semantic_head else 0
        self.head = PointHead(
            config.point_channels,
            dropout=config.dropout,
            prior=prior,
            num_classes=self.num_classes,
        )
        self.score: ScoreName = config.score
        self.mixing = mixing
        self.frame_top_k = config.frame_top_k
        self.empty_frame_logit = empty_frame_logit(config.score, prior=prior)

    def forward(self, batch: Batch) -> Scores:
        """Logits of all points and frames; a batch of no frames gives empty, connected ones."""
        if len(batch.points) == 0:
            nothing = scores_of_nothing(self.parameters())
            frames = torch.full_like(batch.frame_label, self.empty_frame_logit, dtype=torch.float32)
            return Scores(
                point_score=nothing,
                frame_score=frames,
                semantic=nothing.view(0, 1).expand(0, self.num_classes)
                if self.num_classes
                else None,
            )
        features = reduce(torch.add, [branch(batch) for branch in self.branches.values()])
        mixed = mixed_features(features, batch, share=self.mixing if self.training else 0.0)
        logits = self.head(features)
        point_score = anomaly_score(logits, self.score)
        # Points of past clouds are scored too, but only what is there now makes the frame's score.
        frame_score = frame_scores(
            *batch.of_current(point_score),
            top_k=self.frame_top_k,
            of_empty_frame=self.empty_frame_logit,
        )
        return Scores(
            point_score=point_score,
            frame_score=frame_score,
            semantic=logits[:, 1:] if self.num_classes else None,
            mixed_score=None if mixed is None else anomaly_score(self.head(mixed), self.score),
        )


def build_detector(
    config: ModelConfig,
    *,
    prior: float,
    window: int = 1,
    fetch_weights: bool = True,
    mixing: float = 0.0,
) -> nn.Module:
    """The model that `config` names, on the CPU, freshly initialised from torch's generator.

    `prior` is the share of anomalous points in the train split, `window` is `data.window`.
    `fetch_weights=False` leaves pretrained image weights out, for a model that a checkpoint is
    about to fill. `mixing` is `outliers.feature_mixing`, read in training only. Raises ValueError
    when the weights of `model.image_weights` cannot be had or `prior` is not between 0 and 1.
    """
    if config.name == "simple":
        return SimpleAnomalyDetector(raw_pixels=config.image_input == "raw")
    return Detector(config, prior=prior, window=window, fetch_weights=fetch_weights, mixing=mixing)
