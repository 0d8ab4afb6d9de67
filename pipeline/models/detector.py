"""The detector: camera and LiDAR features at every point, one head, point and frame logits.

Fusion `concat` is a linear layer over both branches' concatenated features, written as the sum of
one linear layer per branch. A form that leaves a modality out does not own that branch, so it
cannot read it.
"""

import dataclasses
from functools import reduce

import torch
from torch import nn

from pipeline.data.batches import Batch
from pipeline.model_config import ModelConfig
from pipeline.models.fusion import ImageSampler
from pipeline.models.heads import PointHead, frame_scores, prior_logit
from pipeline.models.image import STAGE_CHANNELS, FeatureMap, ImageEncoder
from pipeline.models.pixels import PixelHead, map_size
from pipeline.models.points import PointEncoder
from pipeline.models.scores import Scores, scores_of_nothing
from pipeline.models.simple import SimpleAnomalyDetector


class CameraBranch(nn.Module):
    """Image maps, and their features at every point, which enters through its projection only."""

    def __init__(self, config: ModelConfig, *, fetch_weights: bool) -> None:
        super().__init__()
        self.encoder = ImageEncoder(config, fetch_weights=fetch_weights)
        in_channels = (STAGE_CHANNELS[0], config.image_channels)
        self.sampler = ImageSampler(in_channels, config.point_channels)

    def forward(self, batch: Batch) -> tuple[tuple[FeatureMap, ...], torch.Tensor]:
        maps = self.encoder(batch.image)
        return maps, self.sampler(maps, batch)


class Detector(nn.Module):
    """Scores every point and, with a pixel head, every cell of the image; frames by the highest."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        prior: float,
        pixel_prior: float,
        window: int,
        fetch_weights: bool,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleDict()
        if config.fusion != "lidar_only":
            self.branches["camera"] = CameraBranch(config, fetch_weights=fetch_weights)
        if config.fusion != "camera_only":
            self.branches["lidar"] = PointEncoder(config, has_time=window > 1)
        self.head = PointHead(config.point_channels, dropout=config.dropout, prior=prior)
        self.pixel_head = None
        if config.pixel_head:
            self.pixel_head = PixelHead(
                config.image_channels, dropout=config.dropout, prior=pixel_prior
            )
        self.frame_top_k = config.frame_top_k
        self.empty_frame_logit = prior_logit(prior)

    def forward(self, batch: Batch) -> Scores:
        """Logits of all points and frames; a batch of no frames gives empty, connected ones."""
        if len(batch.points) == 0:
            return self._without_points(batch)
        maps, features = None, []
        if "camera" in self.branches:
            maps, seen = self.branches["camera"](batch)
            features.append(seen)
        if "lidar" in self.branches:
            features.append(self.branches["lidar"](batch))
        point_score = self.head(reduce(torch.add, features))
        # Points of past clouds are scored too, but only what is there now makes the frame's score.
        frame_score = frame_scores(
            *batch.of_current(point_score),
            top_k=self.frame_top_k,
            of_empty_frame=self.empty_frame_logit,
        )
        scores = Scores(point_score=point_score, frame_score=frame_score)
        return scores if maps is None else self._with_pixels(scores, maps)

    def _with_pixels(self, scores: Scores, maps: tuple[FeatureMap, ...]) -> Scores:
        if self.pixel_head is None:
            return scores
        pixel_score = self.pixel_head(maps[-1])
        evidence = self.pixel_head.frame_evidence(pixel_score, top_k=self.frame_top_k)
        return dataclasses.replace(
            scores, frame_score=scores.frame_score + evidence, pixel_score=pixel_score
        )

    def _without_points(self, batch: Batch) -> Scores:
        nothing = scores_of_nothing(self.parameters())
        frames = torch.full_like(batch.frame_label, self.empty_frame_logit, dtype=torch.float32)
        scores = Scores(point_score=nothing, frame_score=frames)
        if self.pixel_head is None:
            return scores
        if batch.num_frames == 0:
            size = map_size(batch.image.shape[2], batch.image.shape[3])
            return dataclasses.replace(scores, pixel_score=nothing.reshape(0, *size))
        encoder = self.branches["camera"].get_submodule("encoder")
        return self._with_pixels(scores, encoder(batch.image))


def build_detector(
    config: ModelConfig,
    *,
    prior: float,
    pixel_prior: float | None = None,
    window: int = 1,
    fetch_weights: bool = True,
) -> nn.Module:
    """The model that `config` names, on the CPU, freshly initialised from torch's generator.

    `prior` is the share of anomalous points in the train split, `pixel_prior` that of anomalous
    cells for a pixel head (None: as `prior`), `window` is `data.window`.
    `fetch_weights=False` leaves pretrained image weights out, for a model that a checkpoint is
    about to fill. Raises ValueError when the weights of `model.image_weights` cannot be had or
    `prior` is not between 0 and 1.
    """
    if config.name == "simple":
        return SimpleAnomalyDetector(raw_pixels=config.image_input == "raw")
    return Detector(
        config,
        prior=prior,
        pixel_prior=prior if pixel_prior is None else pixel_prior,
        window=window,
        fetch_weights=fetch_weights,
    )
