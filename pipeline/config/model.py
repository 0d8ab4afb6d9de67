"""What is trained and what is minimised: the config sections of the detector and of its loss.

`schema` holds the others and the whole.
"""

from dataclasses import dataclass, field
from typing import Literal

from pipeline.config.validators import at_least, one_of, positive, registered

FUSIONS = {
    "camera_only": "pipeline.models.fusion.unimodal.CameraOnly",
    "lidar_only": "pipeline.models.fusion.unimodal.LidarOnly",
    "late": "pipeline.models.fusion.late.Late",
    "concat": "pipeline.models.fusion.concat.Concat",
    "gated": "pipeline.models.fusion.gated.Gated",
    "cross_attention": "pipeline.models.fusion.cross_attention.CrossAttention",
}
"""Fusion modules by name; as text, because settings are read without torch."""
LOSS_NAMES = ["focal", "bce", "dice", "cross_entropy", "prior_self_supervised"]
"""The first three, and any added, are losses of points (`POINT_LOSSES`)."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The detector."""

    name: Literal["detector", "simple"] = "detector"
    """`detector` scores every point; `simple` is the prior system's 1,146,497-parameter network."""
    fusion: str = one_of("concat", lambda: FUSIONS)
    """Which modalities score a point, and how they meet: logits mixed with learned weights
    (`late`), one linear layer (`concat`), a learned gate per channel (`gated`), or points that ask
    the image (`cross_attention`)."""
    alignment: Literal["projection", "none", "scrambled"] = "projection"
    """Pixel at which a point reads the image: its own; none, the frame's mean instead; or, as a
    control, that of a wrong calibration drawn per frame."""
    positional_encoding: Literal["none", "sincos", "learned", "hybrid"] = "sincos"
    """How `cross_attention` encodes pixels and 3-D places; `hybrid` adds sines and learned."""
    attention_heads: int = 4
    """Heads of `cross_attention`; divides point_channels."""
    attention_ffn: bool = True
    """Whether a small network follows the attention of `cross_attention`."""
    attention_residual: bool = True
    """Whether attention and the network after it add to their input or, false, replace it."""
    image_input: Literal["normalised", "raw"] = "normalised"
    """ImageNet mean and deviation, or raw 0-255 as the prior system had it."""
    image_weights: str = "none"
    """`none` (random, GroupNorm), `imagenet` (torchvision's, frozen BatchNorm) or a file."""
    freeze_image_backbone: bool = False
    """Whether ResNet18 keeps its first weights; what merges its stages still learns."""
    image_channels: int = 64
    """Channels of the merged image feature map at stride 8."""
    image_stages: int = 3
    """ResNet18 stages used, 2 to 4 (strides 8, 16, 32 are merged as far as they exist)."""
    lidar_backbone: Literal["pillars", "point_mlp", "cylinder3d"] = "pillars"
    """From a cloud to features of its points: a bird's-eye network on upright pillars, points by
    themselves and beside their cloud, or a sparse 3-D network on a cylindrical grid."""
    point_pooling: Literal["max", "mean", "attention"] = "max"
    """How points are gathered per pillar, cell or cloud; `attention` learns their weights."""
    cylinder_grid: list[int] = field(default_factory=lambda: [480, 360, 32])
    """Cells of `cylinder3d` along range from the z axis, angle and height."""
    cylinder_range_m: list[float] = field(default_factory=lambda: [0.0, 100.0, -4.0, 18.0])
    """Range min, max, z min, max of that grid in the LiDAR frame; points beyond are in its outer
    cells."""
    cylinder_channels: int = 16
    """Width of its finest level; the four coarser ones have 2, 4, 8 and 16 times as many."""
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
    pixel_head: bool = False
    """Score every 8 x 8 px of the image too; true needs a fusion with a camera."""
    semantic_head: bool = False
    """Whether points get logits of the normal classes too."""
    score: Literal["supervised", "max_logit", "energy", "entropy"] = "supervised"
    """What a point's score is: the anomaly logit, or from the semantic head -max, -logsumexp or
    the entropy of its softmax."""

    def __post_init__(self) -> None:
        registered("model", self)
        for key in ("image_channels", "point_channels", "cylinder_channels", "frame_top_k"):
            at_least("model", self, key, 1)
        self._check_fusion()
        self._check_attention()
        self._check_cylinder()
        if not 2 <= self.image_stages <= 4:
            raise ValueError(f"model.image_stages is {self.image_stages}; it takes 2, 3 or 4")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout is {self.dropout}; it takes 0 <= dropout < 1")
        if self.pixel_head and (self.name == "simple" or self.fusion == "lidar_only"):
            without = "model.name=simple" if self.name == "simple" else "model.fusion=lidar_only"
            raise ValueError(
                f"model.pixel_head=true scores pixels, for which {without} has no image map; set "
                "model.pixel_head=false or use model.name=detector with a fusion that has a camera"
            )
        self._check_semantics()
        if not self.pillar_size_m > 0:
            raise ValueError(f"model.pillar_size_m is {self.pillar_size_m}; it must be > 0")
        limits = self.pillar_range_m
        if len(limits) != 4 or not (limits[0] < limits[1] and limits[2] < limits[3]):
            raise ValueError(
                f"model.pillar_range_m is {limits}; it takes x_min < x_max, y_min < y_max in "
                "metres, e.g. [-12.8, 38.4, -12.8, 12.8]"
            )

    def _check_cylinder(self) -> None:
        if len(self.cylinder_grid) != 3 or min(self.cylinder_grid) < 1:
            raise ValueError(
                f"model.cylinder_grid is {self.cylinder_grid}; it takes three numbers of cells "
                ">= 1, along range, angle and height, e.g. [480, 360, 32]"
            )
        limits = self.cylinder_range_m
        if len(limits) != 4 or not (0 <= limits[0] < limits[1] and limits[2] < limits[3]):
            raise ValueError(
                f"model.cylinder_range_m is {limits}; it takes 0 <= range min < max, z min < max "
                "in metres, e.g. [0, 100, -4, 18]"
            )

    def _check_fusion(self) -> None:
        """A setting of the camera asks for a form that has one, and one that it can change."""
        for key, off in (
            ("alignment", "projection"),
            ("freeze_image_backbone", False),
            ("image_input", "normalised"),
        ):
            value = getattr(self, key)
            if self.name == "simple" and key == "image_input":
                continue
            if value != off and (self.name == "simple" or self.fusion == "lidar_only"):
                name = self.name if self.name == "simple" else f"fusion={self.fusion}"
                raise ValueError(
                    f"model.{key}={value} has no effect on {name}; leave it out or use a fusion "
                    "with a camera"
                )
        if self.alignment == "none" and self.fusion == "camera_only":
            raise ValueError(
                "model.alignment=none gives all points of a frame the same camera features, so "
                "model.fusion=camera_only could not tell them apart; use another fusion or "
                "model.alignment=scrambled"
            )

    def _check_attention(self) -> None:
        at_least("model", self, "attention_heads", 1)
        if self.name == "detector" and self.fusion == "cross_attention":
            if self.point_channels < 8 or self.point_channels % self.attention_heads:
                raise ValueError(
                    f"model.attention_heads={self.attention_heads} does not fit model."
                    f"point_channels={self.point_channels}; cross_attention takes at least 8 "
                    "channels, a multiple of its heads"
                )
            return
        for key in (
            "positional_encoding",
            "attention_heads",
            "attention_ffn",
            "attention_residual",
        ):
            if getattr(self, key) != type(self).__dataclass_fields__[key].default:
                raise ValueError(
                    f"model.{key}={getattr(self, key)} has no effect without attention; leave it "
                    "out or use model.fusion=cross_attention"
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

    name: str = one_of("focal", lambda: LOSS_NAMES)
    """`bce` weighs positives by neg/pos of the train split; `cross_entropy` trains the semantic
    head alone and uses no anomaly's label; `prior_self_supervised` is a control."""
    focal_alpha: float = 0.75
    """Weight of positives against 1 - alpha of negatives; above 0.5 favours positives."""
    focal_gamma: float = 2.0
    """How strongly easy points are turned down; 0 = off."""
    frame_weight: float = 0.1
    """Weight of the frame-level term (BCE on the frame logit), not in cross_entropy; 0 = off."""
    pixel_weight: float = 0.5
    """Weight of the pixel term, of the same kind as that of points; read with model.pixel_head."""
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
        registered("loss", self)
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
        positive("loss", self, "pixel_weight")
        if self.dice_weight and self.name not in ("focal", "bce"):
            raise ValueError(
                f"loss.dice_weight={self.dice_weight} adds a term to loss.name=focal or bce, not "
                f"to {self.name}; set it to 0"
            )
