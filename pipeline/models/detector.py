"""The detector: encoders, fusion at the points, heads; point and frame logits.

Past clouds of a window inform the LiDAR encoder and are gone after it: whatever follows, and every
score, belongs to a point of the current cloud.
"""

from functools import partial

import torch
from torch import nn

from pipeline.data.batches import Batch
from pipeline.model_config import ModelConfig
from pipeline.models.fusion.alignment import Alignment, view_of
from pipeline.models.fusion.forms import make_fusion
from pipeline.models.fusion.late import LateHead
from pipeline.models.heads import PointHead, frame_scores, prior_logit
from pipeline.models.image import ImageEncoder
from pipeline.models.lidar import make_point_encoder
from pipeline.models.scores import Scores, scores_of_nothing
from pipeline.models.simple import SimpleAnomalyDetector


class Detector(nn.Module):
    """Scores every point of the current clouds, and every frame by its highest points."""

    def __init__(
        self, config: ModelConfig, *, prior: float, window: int, fetch_weights: bool
    ) -> None:
        super().__init__()
        self.camera, self.lidar = None, None
        if config.fusion != "lidar_only":
            self.camera = ImageEncoder(config, fetch_weights=fetch_weights)
        self.fusion = make_fusion(config)
        if config.fusion != "camera_only":
            self.lidar = make_point_encoder(config, has_time=window > 1)
        make_head = partial(PointHead, config.point_channels, dropout=config.dropout, prior=prior)
        self.head = LateHead(make_head) if config.fusion == "late" else make_head()
        self.alignment: Alignment = config.alignment
        self.frame_top_k = config.frame_top_k
        self.empty_frame_logit = prior_logit(prior)

    def forward(self, batch: Batch) -> Scores:
        """Logits of all current points (P) and frames; none of either gives connected ones."""
        current = batch.without_past()
        if len(current.points) == 0:
            return self._of_nothing(batch)
        points, maps, view = None, None, None
        if self.lidar is not None:
            points, _ = batch.of_current(self.lidar(batch))
        if self.camera is not None:
            maps = self.camera(current.image)
            view = view_of(current, self.alignment)
        point_score = self.head(self.fusion(points, maps, view))
        frame_score = frame_scores(
            point_score,
            current.point_offset,
            top_k=self.frame_top_k,
            of_empty_frame=self.empty_frame_logit,
        )
        return Scores(point_score=point_score, frame_score=frame_score)

    def _of_nothing(self, batch: Batch) -> Scores:
        frames = torch.full_like(batch.frame_label, self.empty_frame_logit, dtype=torch.float32)
        return Scores(point_score=scores_of_nothing(self.parameters()), frame_score=frames)


def build_detector(
    config: ModelConfig, *, prior: float, window: int = 1, fetch_weights: bool = True
) -> nn.Module:
    """The model that `config` names, on the CPU, freshly initialised from torch's generator.

    `prior` is the share of anomalous points in the train split, `window` is `data.window`.
    `fetch_weights=False` leaves pretrained image weights out, for a model that a checkpoint is
    about to fill. Raises ValueError when the weights of `model.image_weights` cannot be had or
    `prior` is not between 0 and 1.
    """
    if config.name == "simple":
        return SimpleAnomalyDetector(raw_pixels=config.image_input == "raw")
    return Detector(config, prior=prior, window=window, fetch_weights=fetch_weights)
