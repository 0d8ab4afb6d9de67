"""The detector: encoders, fusion at the points, heads; point and frame logits.

Past clouds of a window inform the LiDAR encoder and are gone after it: whatever follows, and every
score, belongs to a point of the current cloud.
"""

import dataclasses
from functools import partial
from typing import Literal

import torch
from torch import nn

from pipeline.config.model import ModelConfig
from pipeline.data.batch import Batch
from pipeline.models.feature_mixing import mixed_features
from pipeline.models.fusion.alignment import Alignment, view_of
from pipeline.models.fusion.late import LateHead
from pipeline.models.fusion.registry import make_fusion
from pipeline.models.heads import PointHead, empty_frame_logit, frame_scores
from pipeline.models.image import FeatureMap, ImageEncoder
from pipeline.models.lidar import make_point_encoder
from pipeline.models.pixels import PixelHead, map_size
from pipeline.models.prior_baseline import SimpleAnomalyDetector
from pipeline.models.scores import ScoreName, Scores, anomaly_score, scores_of_nothing
from pipeline.models.sparse.spconv_backend import use_spconv


class Detector(nn.Module):
    """Scores every point of the current clouds, with a pixel head also every cell of the image.

    Frames are scored by what is highest in them.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        prior: float,
        num_classes: int,
        pixel_prior: float,
        num_sweeps: int,
        fetch_weights: bool,
        mixing: float,
    ) -> None:
        super().__init__()
        self.camera, self.lidar = None, None
        if config.fusion != "lidar_only":
            self.camera = ImageEncoder(config, fetch_weights=fetch_weights)
        self.fusion = make_fusion(config)
        if config.fusion != "camera_only":
            self.lidar = make_point_encoder(config, has_time=num_sweeps > 1)
        self.num_classes = num_classes if config.semantic_head else 0
        make_head = partial(
            PointHead,
            config.point_channels,
            dropout=config.dropout,
            prior=prior,
            num_classes=self.num_classes,
        )
        self.head = LateHead(make_head) if config.fusion == "late" else make_head()
        self.pixel_head = None
        if config.pixel_head:
            self.pixel_head = PixelHead(
                config.image_channels, dropout=config.dropout, prior=pixel_prior
            )
        self.alignment: Alignment = config.alignment
        self.score: ScoreName = config.score
        self.mixing = mixing
        self.frame_top_k = config.frame_top_k
        self.empty_frame_logit = empty_frame_logit(config.score, prior=prior)

    def forward(self, batch: Batch) -> Scores:
        """Logits of all current points (P) and frames; none of either gives connected ones."""
        current = batch.without_past()
        if not torch.compiler.is_exporting() and current.points.shape[0] == 0:
            return self._without_points(batch)
        points, maps, view = None, None, None
        if self.lidar is not None:
            points, _ = batch.of_current(self.lidar(batch))
        if self.camera is not None:
            maps = self.camera(current.image)
            view = view_of(current, self.alignment)
        features = self.fusion(points, maps, view)
        mixed = None
        if self.mixing and self.training:
            # Before the head, which may change the features in place.
            mixed = mixed_features(features, current, share=self.mixing)
        logits = self.head(features)
        point_score = anomaly_score(logits, self.score)
        frame_score = frame_scores(
            point_score,
            current.point_offset,
            sizes=current.sizes(),
            top_k=self.frame_top_k,
            of_empty_frame=self.empty_frame_logit,
        )
        scores = Scores(
            point_score=point_score,
            frame_score=frame_score,
            semantic=logits[:, 1:] if self.num_classes else None,
            mixed_score=None if mixed is None else anomaly_score(self.head(mixed), self.score),
        )
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
        semantic = nothing.view(0, 1).expand(0, self.num_classes) if self.num_classes else None
        scores = Scores(point_score=nothing, frame_score=frames, semantic=semantic)
        if self.pixel_head is None or self.camera is None:
            return scores
        if batch.num_frames == 0:
            size = map_size(batch.image.shape[2], batch.image.shape[3])
            return dataclasses.replace(scores, pixel_score=nothing.reshape(0, *size))
        return self._with_pixels(scores, self.camera(batch.image))


def build_detector(
    config: ModelConfig,
    *,
    prior: float,
    num_classes: int = 0,
    pixel_prior: float | None = None,
    num_sweeps: int = 1,
    fetch_weights: bool = True,
    mixing: float = 0.0,
    sparse_backend: Literal["torch", "spconv"] = "torch",
) -> nn.Module:
    """The model that `config` names, on the CPU, freshly initialised from torch's generator.

    `prior` is the share of anomalous points in the train split, `num_classes` the number of the
    data set's semantic classes (for a semantic head), `pixel_prior` the share of anomalous cells
    for a pixel head (None: as `prior`), `num_sweeps` is `data.num_sweeps`.
    `fetch_weights=False` leaves pretrained image weights out, for a model that a checkpoint is
    about to fill. `mixing` is `outliers.feature_mixing`, read in training only; `sparse_backend` is
    `train.sparse_backend`. Raises ValueError when the weights of `model.image_weights` or spconv
    cannot be had, `prior` is not between 0 and 1 or a semantic head has no classes.
    """
    if config.name == "simple":
        return SimpleAnomalyDetector(raw_pixels=config.image_input == "raw")
    if config.semantic_head and not num_classes:
        raise ValueError(
            "model.semantic_head=true needs semantic classes, and the data set names none; set "
            "model.semantic_head=false"
        )
    detector = Detector(
        config,
        prior=prior,
        num_classes=num_classes,
        pixel_prior=prior if pixel_prior is None else pixel_prior,
        num_sweeps=num_sweeps,
        fetch_weights=fetch_weights,
        mixing=mixing,
    )
    if sparse_backend == "spconv":
        use_spconv(detector)
    return detector
