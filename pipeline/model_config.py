"""What is trained and what is minimised: the config sections of the detector and of its loss.

`pipeline.config` holds the others and the whole.
"""

from dataclasses import dataclass, field
from typing import Literal

from pipeline.limits import at_least

FUSIONS = ("concat", "camera_only", "lidar_only")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The detector."""

    name: Literal["detector", "simple"] = "detector"
    """`detector` scores every point; `simple` is the prior system's 1,146,497-parameter network."""
    fusion: Literal["camera_only", "lidar_only", "concat"] = "concat"
    """Which modalities reach a point's features, and how they meet."""
    image_input: Literal["normalised", "raw"] = "normalised"
    """ImageNet mean and deviation, or raw 0-255 (the prior system's; with `simple` only)."""
    image_weights: str = "none"
    """`none` (random, GroupNorm), `imagenet` (torchvision's, frozen BatchNorm) or a file."""
    image_channels: int = 64
    """Channels of the merged image feature map at stride 8."""
    image_stages: int = 3
    """ResNet18 stages used, 2 to 4 (strides 8, 16, 32 are merged as far as they exist)."""
    point_channels: int = 64
    """Width of per-point and bird's-eye features."""
    pillar_size_m: float = 0.25
    """Edge of a bird's-eye pillar."""
    pillar_range_m: list[float] = field(default_factory=lambda: [-12.8, 38.4, -12.8, 12.8])
    """x min, x max, y min, y max of the pillar grid in the LiDAR frame (x forward, y left)."""
    dropout: float = 0.1
    """Dropout in the point head; 0 = off."""
    frame_top_k: int = 10
    """The frame logit is the mean of this many highest point logits."""
    semantic_head: bool = False
    """Whether points get logits of the normal classes too."""
    score: Literal["supervised", "max_logit", "energy", "entropy"] = "supervised"
    """What a point's score is: the anomaly logit, or from the semantic head -max, -logsumexp or
    the entropy of its softmax."""

    def __post_init__(self) -> None:
        for key in ("image_channels", "point_channels", "frame_top_k"):
            at_least("model", self, key, 1)
        if not 2 <= self.image_stages <= 4:
            raise ValueError(f"model.image_stages is {self.image_stages}; it takes 2, 3 or 4")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout is {self.dropout}; it takes 0 <= dropout < 1")
        if self.image_input == "raw" and self.name != "simple":
            raise ValueError("model.image_input=raw works with model.name=simple only")
        self._check_semantics()
        if not self.pillar_size_m > 0:
            raise ValueError(f"model.pillar_size_m is {self.pillar_size_m}; it must be > 0")
        limits = self.pillar_range_m
        if len(limits) != 4 or not (limits[0] < limits[1] and limits[2] < limits[3]):
            raise ValueError(
                f"model.pillar_range_m is {limits}; it takes x_min < x_max, y_min < y_max in "
                "metres, e.g. [-12.8, 38.4, -12.8, 12.8]"
            )

    def _check_semantics(self) -> None:
        if self.semantic_head and self.name == "simple":
            raise ValueError(
                "model.semantic_head=true needs a score per point, which model.name=simple has "
                "not; use model.name=detector"
            )
        if self.score != "supervised" and not self.semantic_head:
            raise ValueError(
                f"model.score={self.score} is made from the semantic head; set "
                "model.semantic_head=true or model.score=supervised"
            )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised."""

    name: Literal["focal", "bce", "dice", "cross_entropy", "seed_self_supervised"] = "focal"
    """`bce` weighs positives by neg/pos of the train split; `cross_entropy` trains the semantic
    head alone and uses no anomaly's label; `seed_self_supervised` is a control."""
    focal_alpha: float = 0.75
    """Weight of positives against 1 - alpha of negatives; above 0.5 favours positives."""
    focal_gamma: float = 2.0
    """How strongly easy points are turned down; 0 = off."""
    frame_weight: float = 0.1
    """Weight of the frame-level term (BCE on the frame logit), not in cross_entropy; 0 = off."""
    dice_weight: float = 0.0
    """Weight of a dice term beside `focal` or `bce`; 0 = off."""
    semantic_weight: float = 1.0
    """Weight of the classes' cross-entropy beside a point loss; 0 = off."""
    lovasz_weight: float = 1.0
    """Weight of Lovasz-softmax wherever there is a semantic head; 0 = off."""
    outlier_weight: float = 1.0
    """Weight of the terms that push scores of synthetic outliers up and those of normal points
    down, where the outliers section makes any; 0 = off."""

    def __post_init__(self) -> None:
        if not 0 < self.focal_alpha < 1:
            raise ValueError(f"loss.focal_alpha is {self.focal_alpha}; it takes 0 < alpha < 1")
        for key in (
            "focal_gamma",
            "frame_weight",
            "dice_weight",
            "semantic_weight",
            "lovasz_weight",
            "outlier_weight",
        ):
            at_least("loss", self, key, 0)
        if self.dice_weight and self.name not in ("focal", "bce"):
            raise ValueError(
                f"loss.dice_weight={self.dice_weight} adds a term to loss.name=focal or bce, not "
                f"to {self.name}; set it to 0"
            )
