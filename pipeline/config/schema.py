"""What a run is: one frozen dataclass per section, each with its own rules.

Defaults live here and in the modules beside this one, and nowhere else; `load` is the door through
which a YAML file, the command line or a trial changes them.
"""

import itertools
import math
from dataclasses import dataclass, field
from typing import Literal

from pipeline.config.data import (
    AugmentConfig,
    DataConfig,
    InspectConfig,
    OutlierConfig,
    PrepareConfig,
    SyntheticConfig,
)
from pipeline.config.experiments import AblateConfig, ProfileConfig, TuneConfig
from pipeline.config.model import LossConfig, ModelConfig
from pipeline.config.run import HealthCheckConfig, ScalingConfig, TrackingConfig
from pipeline.config.validators import at_least, one_of, registered
from pipeline.metrics.metric import names_of

AskedPrecision = Literal["auto", "fp32", "bf16", "fp16"]
VoxelScore = Literal["max", "centre_point", "mean", "median"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training."""

    seed: int = 0
    """Seed of initialisation, order, augmentation and dropout."""
    num_epochs: int = 10
    """Passes over the train split."""
    max_steps: int = 0
    """Stop after this many optimizer steps; 0 = no limit. The schedule is laid over these steps."""
    batch_size: int = 4
    """Frames per optimizer step, over all workers."""
    frames_per_gpu: int = 0
    """Frames that a worker puts through the network at once, where its part of a step does not fit
    into memory: the parts' gradients add up to that of the whole step. 0 = all at once."""
    points_per_batch: int = 0
    """Points per optimizer step, over all workers and as stored: a step takes frames as long as
    they fit, at least one, so that the cost of a step is bounded where clouds differ in size; then
    `batch_size` has no effect. 0 = off, `batch_size` counts."""
    optimizer: Literal["adamw", "adam"] = "adamw"
    """Optimizer."""
    lr: float = 2e-3
    """Peak learning rate."""
    weight_decay: float = 1e-4
    """Weight decay; 0 = off."""
    lr_schedule: Literal["cosine", "none"] = "cosine"
    """Learning rate after the warm-up."""
    lr_restart_epochs: list[int] = field(default_factory=list)
    """Epochs after which the cosine has come down and starts again at the peak. What a validation
    there says holds for a whole training of that length, which pruning trials asks for."""
    warmup_steps: int = 50
    """Steps over which the learning rate rises from 0; 0 = off."""
    grad_clip: float = 5.0
    """Largest gradient norm; 0 = off."""
    ema_decay: float = 0.0
    """Share of itself that the weights' moving average keeps at each step (it reaches back about
    1 / (1 - ema_decay) steps); it is then what is validated and evaluated. 0 = off."""
    precision: AskedPrecision = "auto"
    """Number format of convolutions and matrix products; losses and scores stay fp32. auto = what
    the device computes natively: bf16, on a GPU without it fp16, on a CPU without AVX512_BF16 and
    AMX fp32. A resumed run goes on in what it began in."""
    augment: bool = True
    """Left-right flip and photometric changes, of image, cloud and calibration together, and what
    the augment section adds."""
    monitor: str = one_of("point_ap", lambda: names_of("chooses_checkpoint"))
    """Validation metric that picks the checkpoint. With `semantic_miou` model choice and thresholds
    see normal points only. A model that scores frames only is chosen by frame_ap."""
    validate_every_n_epochs: int = 1
    """Validation cadence; the last epoch is always validated."""
    patience: int = 0
    """Validations without a better one after which training ends early; 0 = off. The schedule stays
    laid over all epochs, so the learning rate need not have come down by then."""
    checkpoint_every_n_steps: int = 0
    """Extra checkpoints inside an epoch; 0 = only at the end of each epoch."""
    log_every_n_steps: int = 10
    """Cadence of live metrics and of the progress line."""
    resume: str = ""
    """Run folder to resume from (its last complete checkpoint); empty = a new run."""
    profile_steps: int = 0
    """Steps, after the third, of which rank 0 writes a torch profiler trace into the run folder
    (an artifact of the run); 0 = off."""
    num_threads: int = 1
    """torch threads per worker on CPU."""
    compile: bool = False
    """torch.compile of the camera's and the bird's-eye convolutions, on CUDA only: minutes at the
    start for faster steps."""
    sparse_backend: Literal["torch", "spconv"] = "torch"
    """What computes the sparse convolutions of cylinder3d in training: plain torch, or spconv's
    CUDA kernels where that package is installed. Checkpoints are the same."""
    shuffle_labels: bool = False
    """Control: labels of training points and frames drawn at random, in the same shares and the
    same at every epoch; what is learned from them must end at chance on the test split."""

    def __post_init__(self) -> None:
        registered("train", self)
        for key in ("num_epochs", "batch_size", "validate_every_n_epochs", "log_every_n_steps"):
            at_least("train", self, key, 1)
        for key in ("seed", "max_steps", "warmup_steps", "grad_clip", "weight_decay"):
            at_least("train", self, key, 0)
        for key in ("checkpoint_every_n_steps", "patience", "frames_per_gpu"):
            at_least("train", self, key, 0)
        for key in ("points_per_batch", "profile_steps"):
            at_least("train", self, key, 0)
        at_least("train", self, "num_threads", 1)
        _check_restarts(self)
        if self.lr_restart_epochs and self.points_per_batch:
            raise ValueError(
                f"train.points_per_batch={self.points_per_batch} makes epochs of unequal length, "
                f"and train.lr_restart_epochs={self.lr_restart_epochs} counts equal ones; leave "
                "one of them out"
            )
        if not 0 < self.lr < math.inf:
            raise ValueError(f"train.lr is {self.lr}; it must be a finite number > 0")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(
                f"train.ema_decay is {self.ema_decay}; it must be at least 0 and below 1"
            )


def _check_restarts(train: TrainConfig) -> None:
    epochs = train.lr_restart_epochs
    if epochs and train.lr_schedule != "cosine":
        raise ValueError(
            f"train.lr_restart_epochs={epochs} starts a cosine again, but train.lr_schedule is "
            f"{train.lr_schedule}; set it to cosine or leave train.lr_restart_epochs out"
        )
    marks = [0, *epochs, train.num_epochs]
    if epochs and any(early >= late for early, late in itertools.pairwise(marks)):
        raise ValueError(
            f"train.lr_restart_epochs={epochs}; it must be rising epochs above 0 and below "
            f"train.num_epochs={train.num_epochs}"
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Metrics, slices and intervals."""

    checkpoint: str = ""
    """Run folder or checkpoint folder to evaluate; empty = the run that was just trained."""
    batch_size: int = 4
    """Frames per forward pass."""
    precision: AskedPrecision = "fp32"
    """As train.precision. In fp32 a checkpoint's results are the same on every machine."""
    ray_from_frames: int = 2000
    """Frames of a split from which `scaling.num_workers` Ray workers count it on CPUs, where there
    are several; below, threads of the job are done before workers have started."""
    num_bootstraps: int = 1000
    """Resamplings of the scenes behind each 95 % interval."""
    bootstrap_seed: int = 0
    """Seed of the resampling."""
    lookalike_classes: list[int] = field(default_factory=list)
    """Class ids of ordinary small objects that anomalies are compared with; [] = those that the
    data set names, of AnoVox 20 and 21 (static, dynamic)."""
    voxel_score: VoxelScore = "max"
    """A voxel's score from those of its points; `centre_point`, AnoVox's default, is that of the
    point nearest to the voxel's lower corner."""

    def __post_init__(self) -> None:
        at_least("evaluation", self, "batch_size", 1)
        at_least("evaluation", self, "ray_from_frames", 0)
        at_least("evaluation", self, "num_bootstraps", 100)
        at_least("evaluation", self, "bootstrap_seed", 0)


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole run. One dotted key is YAML path, command-line override and MLflow param."""

    storage_path: str = "runs"
    """Folder of run folders (checkpoints, figures, tables), or s3://, gs:// or file:// address."""
    storage_cache: str = ""
    """Folder on every node where runs of a remote `storage_path` are worked on; empty = local."""
    storage_mirror: str = ""
    """Made at load from a remote `storage_path`, which becomes the local copy; not set by hand."""
    data: DataConfig = field(default_factory=DataConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    inspect: InspectConfig = field(default_factory=InspectConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    outliers: OutlierConfig = field(default_factory=OutlierConfig)
    health_checks: HealthCheckConfig = field(default_factory=HealthCheckConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    ablate: AblateConfig = field(default_factory=AblateConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if (self.loss.name == "prior_self_supervised") != (self.model.name == "simple"):
            raise ValueError(
                f"loss.name={self.loss.name} does not go with model.name={self.model.name}; "
                "the prior system's loss and network are a pair: set both or neither"
            )
        if self.train.batch_size < self.scaling.num_workers:
            raise ValueError(
                f"train.batch_size={self.train.batch_size} is smaller than "
                f"scaling.num_workers={self.scaling.num_workers}; give every worker a frame"
            )
        self._check_augmentation()
        self._check_semantics()
        self._check_outliers()
        self._check_pixels()
        self._check_window()
        self._check_reader()
        self._check_sparse_backend()
        self._check_steps()

    @property
    def uses_camera(self) -> bool:
        """Whether the model looks at the image."""
        return self.model.name == "simple" or self.model.fusion != "lidar_only"

    def _check_semantics(self) -> None:
        if self.loss.name == "cross_entropy" and self.model.score == "supervised":
            raise ValueError(
                "loss.name=cross_entropy trains the semantic head alone, so the supervised score "
                "would stay as it was drawn; set model.semantic_head=true and model.score to "
                "max_logit, energy or entropy"
            )
        if self.train.monitor.startswith("semantic_") and not self.model.semantic_head:
            raise ValueError(
                f"train.monitor={self.train.monitor} needs the semantic head; set "
                "model.semantic_head=true or choose by point_ap"
            )

    def _check_pixels(self) -> None:
        """Synthetic outliers are marked on points only, and `cross_entropy` trains points only."""
        if not self.model.pixel_head:
            return
        if self.loss.name == "cross_entropy" or self.outliers.changes_frames:
            raise ValueError(
                "model.pixel_head=true learns from pixel labels, which neither loss.name="
                "cross_entropy nor synthetic outliers in the image have; set model.pixel_head=false"
            )

    def _check_outliers(self) -> None:
        if not self.outliers.any:
            return
        if self.model.name == "simple" or not self.train.augment:
            other = "model.name=simple" if self.model.name == "simple" else "train.augment=false"
            raise ValueError(
                f"the outliers section has no effect with {other}; set its probabilities to 0, or "
                "use model.name=detector and train.augment=true"
            )
        if self.outliers.feature_mixing and self.model.fusion == "late":
            raise ValueError(
                "outliers.feature_mixing exchanges channels of a point's features, which model."
                "fusion=late keeps apart; use another fusion or set it to 0"
            )
        if self.outliers.changes_frames and self.data.num_sweeps > 1:
            raise ValueError(
                f"data.num_sweeps={self.data.num_sweeps} shows past clouds, in which rays pass "
                "through where an outlier stands now; set data.num_sweeps=1, or "
                "outliers.raised_road and outliers.perlin to 0"
            )

    def _check_augmentation(self) -> None:
        augment = self.augment
        turned = [key for key in ("rotation_rad", "scale") if getattr(augment, key)]
        if turned and self.uses_camera:
            raise ValueError(
                f"augment.{turned[0]}={getattr(augment, turned[0])} changes the cloud but not the "
                "image; use it with model.fusion=lidar_only or set it to 0"
            )
        if augment != AugmentConfig() and not self.train.augment:
            raise ValueError(
                "the augment section has no effect with train.augment=false; set one or the other"
            )

    def _check_window(self) -> None:
        if self.data.num_sweeps == 1:
            return
        if self.model.name == "simple" or self.model.fusion == "camera_only":
            name = self.model.fusion if self.model.name == "detector" else self.model.name
            raise ValueError(
                f"data.num_sweeps={self.data.num_sweeps} gives past clouds, which the model {name} "
                "cannot tell from the current one; set data.num_sweeps=1 or use "
                "model.name=detector with a fusion that has a LiDAR branch"
            )

    def _check_steps(self) -> None:
        """A step in parts needs to know what its loss is divided by before the first part."""
        if self.train.compile and not self.scaling.use_gpu:
            raise ValueError(
                "train.compile=true is for CUDA, on a CPU it gains nothing; set "
                "scaling.use_gpu=true or train.compile=false"
            )
        if not self.train.frames_per_gpu:
            return
        unknown = {
            f"loss.name={self.loss.name}": self.loss.name in ("dice", "prior_self_supervised"),
            f"loss.dice_weight={self.loss.dice_weight}": self.loss.dice_weight > 0,
            "outliers.feature_mixing": self.outliers.feature_mixing > 0,
        }
        for what, is_set in unknown.items():
            if is_set:
                raise ValueError(
                    f"train.frames_per_gpu={self.train.frames_per_gpu} divides a step, and the "
                    f"gradient of {what} is not the sum of its parts' gradients; set it to 0"
                )

    def _check_sparse_backend(self) -> None:
        if self.train.sparse_backend == "torch":
            return
        has_lidar = self.model.name == "detector" and self.model.fusion != "camera_only"
        if not has_lidar or self.model.lidar_backbone != "cylinder3d" or not self.scaling.use_gpu:
            raise ValueError(
                "train.sparse_backend=spconv trains sparse convolutions on CUDA; set "
                "model.lidar_backbone=cylinder3d with a fusion that has a LiDAR branch and "
                "scaling.use_gpu=true, or train.sparse_backend=torch"
            )

    def _check_reader(self) -> None:
        if "://" in self.data.blocks and not self.data.cache:
            raise ValueError(
                f"data.blocks={self.data.blocks} is remote storage, and shards are memory-mapped "
                "from a local disk (data.reader=stream maps those of val and test); set data.cache "
                "to a folder on every node"
            )
        if self.data.reader == "stream" and self.train.points_per_batch:
            raise ValueError(
                f"train.points_per_batch={self.train.points_per_batch} plans steps before they are "
                "read, and data.reader=stream brings frames in an order of its own; set it to 0 or "
                "data.reader=blocks"
            )
        if self.data.reader == "stream" and self.train.checkpoint_every_n_steps:
            raise ValueError(
                "data.reader=stream goes on at the start of an epoch only, so train."
                f"checkpoint_every_n_steps={self.train.checkpoint_every_n_steps} cannot help; set "
                "it to 0 or data.reader=blocks"
            )
