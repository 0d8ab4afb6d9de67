"""What a run is: one frozen dataclass per section, each with its own rules.

Defaults live here and nowhere else; `pipeline.merging` is the door through which a YAML file, the
command line or a trial changes them.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

STORE_SCHEMES = ("sqlite:///", "http://", "https://", "postgresql", "mysql")
KINDS = ("normality", "static", "dynamic")
MIN_DYNAMIC_FRAMES = 20
SensorSet = Literal["Mono", "Stereo", "StereoOneLidar", "Multi", "Surround"]
FUSIONS = ("concat", "camera_only", "lidar_only")


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """The synthetic AnoVox scenes that `jobs.synthesize` writes under `data.root`."""

    seed: int = 0
    """Seed of the whole world; the same seed writes the same arrays."""
    num_scenes: int = 12
    """Scenes in all, dealt evenly over kinds x towns."""
    num_frames: int = 20
    """Consecutive frames per scene at 10 Hz; AnoVox has 200."""
    kinds: list[str] = field(default_factory=lambda: ["normality", "static"])
    """Kinds of archive to write: normality, static, dynamic (a car ahead that brakes fully)."""
    dynamic_labels: Literal["ids", "native"] = "ids"
    """Class of the car ahead: `ids` is 100 in its window and 114 outside, `native` car or truck."""
    anomaly_variant: Literal["A", "B"] = "A"
    """ANOMALY of dynamic scenes: `A` describes the actor, `B` has ACTION's lines for it."""
    towns: list[str] = field(default_factory=lambda: ["Town03", "Town07"])
    """Towns; each town has its own street width, buildings and palette."""
    sensor_set: SensorSet = "Mono"
    """Poses with cameras and LiDARs: 1, 3, 3 (2 cameras, 1 LiDAR), 7 or 10, as AnoVox has them."""
    rich_weather: bool = False
    """Rain streaks in rainy presets and puddles in wet ones; false = light and haze only."""
    irregular: bool = False
    """Some of the irregularities of real archives, listed in `irregular.json`; false = none."""
    image_width: int = 768
    """Camera image width in pixels; AnoVox has 768."""
    image_height: int = 512
    """Camera image height in pixels; AnoVox has 512."""
    num_channels: int = 64
    """LiDAR channels between +15 and -25 degrees; AnoVox has 64."""
    points_per_second: int = 1_000_000
    """LiDAR rays per second over all channels; AnoVox has 1,000,000 (1563 a channel and frame)."""
    num_processes: int = 2
    """Processes that write scenes side by side."""

    def __post_init__(self) -> None:
        _choices("synthetic.kinds", self.kinds, legal=KINDS)
        _not_empty("synthetic.towns", self.towns)
        _at_least("synthetic", self, "seed", 0)
        for key in ("num_scenes", "num_frames", "num_processes", "num_channels"):
            _at_least("synthetic", self, key, 1)
        _at_least("synthetic", self, "image_width", 32)
        _at_least("synthetic", self, "image_height", 32)
        if "dynamic" in self.kinds and self.num_frames < MIN_DYNAMIC_FRAMES:
            raise ValueError(
                f"synthetic.num_frames is {self.num_frames}; dynamic scenes need "
                f"{MIN_DYNAMIC_FRAMES} or more for the car ahead to brake and drive on: raise it, "
                "or take dynamic out of synthetic.kinds"
            )
        if self.irregular and (self.num_scenes < 4 or self.num_frames < 4):
            raise ValueError(
                f"synthetic.irregular=true with {self.num_scenes} scenes of {self.num_frames} "
                "frames; it needs 4 or more of each: raise synthetic.num_scenes and "
                "synthetic.num_frames"
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the data lie and how they are read."""

    root: str = "data/anovox"
    """Folder that holds AnoVox archives (extracted)."""
    archives: list[str] = field(default_factory=list)
    """AnoVox .tar.gz files that `jobs.prepare` unpacks under `data.root` first; [] = none."""
    md5: list[str] = field(default_factory=list)
    """Expected md5 of each of `data.archives`, in their order; [] = not checked."""
    record: str = ""
    """Number of a Zenodo record whose .tar.gz files are downloaded and unpacked; empty = none."""
    record_url: str = "https://zenodo.org/api/records"
    """Where records are listed: Zenodo, or a mirror with the same interface."""
    max_retries: int = 6
    """Connections in a row that bring nothing before a download is given up; 0 = no retry."""
    retry_wait_s: float = 1.0
    """Wait after a dropped connection; doubled each time, up to 60 s."""
    stall_s: float = 60.0
    """Seconds without a byte after which a connection counts as dropped."""
    max_unpacked_gb: float = 500.0
    """Content of one archive in GB (10^9 bytes) beyond which it is refused."""
    max_members: int = 1_000_000
    """Files and folders of one archive beyond which it is refused; a large one has 350,000."""
    max_ratio: float = 20.0
    """Unpacked over packed size beyond which an archive is refused; AnoVox has about 1.5."""
    blocks: str = "data/blocks"
    """Folder of the prepared Arrow shards, written by `jobs.prepare`."""
    poses: list[str] = field(default_factory=list)
    """Camera poses to use, as folder names print them, e.g. ["(0, 0, 1.8)(0, 0, 0)"]; [] = all."""
    on_bad_frame: Literal["quarantine", "fail"] = "quarantine"
    """A damaged frame is recorded and left out, or ends the job."""
    reader: Literal["blocks", "stream"] = "blocks"
    """How training reads: memory-mapped shards in an order of our own, or Ray Data streaming."""
    cache: str = ""
    """Folder on every node to which shards on object storage are copied once; empty = off."""
    window: int = 1
    """Clouds per frame: the current one and the `window` - 1 before it, moved into its LiDAR frame,
    with relative time as a fifth column; 1 = off."""
    window_shards: int = 8
    """Shards whose rows are shuffled together; more is more random, fewer reads more locally."""
    ego_box_m: list[float] = field(default_factory=lambda: [2.6, 1.1])
    """Half length and half width of the box of ego returns that batches leave out; [0, 0] = off."""

    def __post_init__(self) -> None:
        _at_least("data", self, "window_shards", 1)
        _at_least("data", self, "max_retries", 0)
        _at_least("data", self, "max_members", 1)
        _at_least("data", self, "max_ratio", 1)
        _at_least("data", self, "retry_wait_s", 0)
        for key in ("stall_s", "max_unpacked_gb"):
            _positive("data", self, key)
        self._check_archives()
        _at_least("data", self, "window", 1)
        if self.window > 1 and self.reader == "stream":
            raise ValueError(
                f"data.window={self.window} needs earlier frames, which lie in other shards than "
                "the one that data.reader=stream brings; set data.reader=blocks"
            )
        if len(self.ego_box_m) != 2 or min(self.ego_box_m) < 0:
            raise ValueError(
                f"data.ego_box_m is {self.ego_box_m}; it takes two lengths in metres >= 0, "
                "e.g. [2.6, 1.1], or [0, 0] for off"
            )

    def _check_archives(self) -> None:
        for name in self.archives:
            if not name.endswith(".tar.gz"):
                raise ValueError(f"data.archives holds {name!r}; it takes .tar.gz files")
        for text in self.md5:
            if not re.fullmatch(r"[0-9a-f]{32}", text):
                raise ValueError(f"data.md5 holds {text!r}; an md5 is 32 digits of 0-9 and a-f")
        if self.md5 and len(self.md5) != len(self.archives):
            raise ValueError(
                f"data.md5 has {len(self.md5)} entries for {len(self.archives)} of data.archives; "
                "give one for each, in the same order, or none"
            )
        if self.record and not re.fullmatch(r"[0-9]{1,12}", self.record):
            raise ValueError(
                f"data.record is {self.record!r}; it takes the number in the record's address, "
                "e.g. 10888190 for zenodo.org/records/10888190"
            )
        if not self.record_url.startswith(("https://", "http://")):
            raise ValueError(
                f"data.record_url is {self.record_url!r}; it takes an http(s) address, "
                "e.g. https://zenodo.org/api/records"
            )


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """The first-contact checks of `jobs.inspect`."""

    archive: str = ""
    """Folder name of the only archive to inspect; empty = every archive under data.root."""
    scenes: int = 0
    """Scenes whose files are read in each archive, spread over it; 0 = all."""
    frames_per_scene: int = 8
    """Frames whose arrays are read in each scene, spread over it; names and sizes of all are."""

    def __post_init__(self) -> None:
        _at_least("inspect", self, "scenes", 0)
        _at_least("inspect", self, "frames_per_scene", 1)


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """How frames become rows: image size, label thresholds, splits, shards."""

    frames_per_shard: int = 48
    """Rows per Arrow IPC shard, drawn from many scenes."""
    image: Literal["raw", "png", "jpeg"] = "raw"
    """How images are stored: raw pixels (quickest to read), png (lossless) or jpeg (smallest)."""
    jpeg_quality: int = 90
    """Quality of jpeg images, 1 to 100; without effect on the others."""
    image_width: int = 384
    """Width in pixels at which images are stored; must not exceed the original's."""
    image_crop: list[float] = field(default_factory=lambda: [0.0, 1.0])
    """Top and bottom of the stored part of the image as fractions of its height; [0, 1] = all."""
    points: Literal["float32", "int16_cm"] = "float32"
    """How points are stored: float32 metres, or int16 centimetres in half the space (off by up to
    0.5 cm per axis, as far as 327 m)."""
    min_anomaly_points: int = 5
    """Anomalous points (or one voxel) that make a frame anomalous; with fewer it is ignored."""
    min_anomaly_pixels: int = 30
    """The same for pixels at the original image size."""
    window_guess: bool = False
    """Keep dynamic scenes that no rule can label, with a guessed window; their labels are 255."""
    val_fraction: float = 0.15
    """Share of scenes for validation, of each kind and town."""
    test_fraction: float = 0.3
    """Share of scenes for the locked test split, of each kind and town."""
    split_seed: int = 0
    """Seed of the deal of scenes to splits."""
    hold_out_categories: list[str] = field(default_factory=list)
    """Anomaly categories whose scenes all go to test (e.g. [special]); [] = none."""
    seed: int = 0
    """Seed of the shuffle that deals frames to shards."""

    def __post_init__(self) -> None:
        for key in ("frames_per_shard", "min_anomaly_points", "min_anomaly_pixels"):
            _at_least("prepare", self, key, 1)
        for key in ("seed", "split_seed"):
            _at_least("prepare", self, key, 0)
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"prepare.jpeg_quality is {self.jpeg_quality}; it takes 1 to 100")
        if len(self.image_crop) != 2 or not 0 <= self.image_crop[0] < self.image_crop[1] <= 1:
            raise ValueError(
                f"prepare.image_crop is {self.image_crop}; it takes two fractions, "
                "0 <= top < bottom <= 1"
            )
        if not (self.val_fraction > 0 and self.test_fraction > 0):
            raise ValueError("prepare.val_fraction and prepare.test_fraction must be > 0")
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"prepare.val_fraction + prepare.test_fraction is "
                f"{self.val_fraction + self.test_fraction:g}; it must leave room for training (< 1)"
            )


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

    def __post_init__(self) -> None:
        for key in ("image_channels", "point_channels", "frame_top_k"):
            _at_least("model", self, key, 1)
        if not 2 <= self.image_stages <= 4:
            raise ValueError(f"model.image_stages is {self.image_stages}; it takes 2, 3 or 4")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout is {self.dropout}; it takes 0 <= dropout < 1")
        if self.image_input == "raw" and self.name != "simple":
            raise ValueError("model.image_input=raw works with model.name=simple only")
        if not self.pillar_size_m > 0:
            raise ValueError(f"model.pillar_size_m is {self.pillar_size_m}; it must be > 0")
        limits = self.pillar_range_m
        if len(limits) != 4 or not (limits[0] < limits[1] and limits[2] < limits[3]):
            raise ValueError(
                f"model.pillar_range_m is {limits}; it takes x_min < x_max, y_min < y_max in "
                "metres, e.g. [-12.8, 38.4, -12.8, 12.8]"
            )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised."""

    name: Literal["focal", "bce", "seed_self_supervised"] = "focal"
    """`bce` weighs positives by neg/pos of the train split; `seed_self_supervised` is a control."""
    focal_alpha: float = 0.75
    """Weight of positives against 1 - alpha of negatives; above 0.5 favours positives."""
    focal_gamma: float = 2.0
    """How strongly easy points are turned down; 0 = off."""
    frame_weight: float = 0.1
    """Weight of the frame-level term (BCE on the frame logit); 0 = off."""

    def __post_init__(self) -> None:
        if not 0 < self.focal_alpha < 1:
            raise ValueError(f"loss.focal_alpha is {self.focal_alpha}; it takes 0 < alpha < 1")
        for key in ("focal_gamma", "frame_weight"):
            _at_least("loss", self, key, 0)


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
    optimizer: Literal["adamw", "adam"] = "adamw"
    """Optimizer."""
    lr: float = 2e-3
    """Peak learning rate."""
    weight_decay: float = 1e-4
    """Weight decay; 0 = off."""
    schedule: Literal["cosine", "none"] = "cosine"
    """Learning rate after the warm-up."""
    warmup_steps: int = 50
    """Steps over which the learning rate rises from 0; 0 = off."""
    grad_clip: float = 5.0
    """Largest gradient norm; 0 = off."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the convolutions; losses and scores stay fp32."""
    augment: bool = True
    """Left-right flip and photometric changes, of image, cloud and calibration together, and what
    the augment section adds."""
    validate_every_n_epochs: int = 1
    """Validation cadence; the last epoch is always validated."""
    checkpoint_every_n_steps: int = 0
    """Extra checkpoints inside an epoch; 0 = only at the end of each epoch."""
    log_every_n_steps: int = 10
    """Cadence of live metrics and of the progress line."""
    resume: str = ""
    """Run folder to go on from (its last whole checkpoint); empty = start anew."""
    num_threads: int = 1
    """torch threads per worker on CPU."""

    def __post_init__(self) -> None:
        for key in ("num_epochs", "batch_size", "validate_every_n_epochs", "log_every_n_steps"):
            _at_least("train", self, key, 1)
        for key in ("seed", "max_steps", "warmup_steps", "grad_clip", "weight_decay"):
            _at_least("train", self, key, 0)
        _at_least("train", self, "checkpoint_every_n_steps", 0)
        _at_least("train", self, "num_threads", 1)
        if not 0 < self.lr < math.inf:
            raise ValueError(f"train.lr is {self.lr}; it must be a finite number > 0")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Changes of the cloud under `train.augment`, beside the flip and the photometric ones."""

    rotation_rad: float = 0.0
    """Largest rotation about z, either way, for models without a camera; 0 = off."""
    scale: float = 0.0
    """Largest relative change of the cloud's size, for models without a camera; 0 = off."""
    point_dropout: float = 0.0
    """Largest share of points left out, each frame its own share from 0 up; 0 = off."""

    def __post_init__(self) -> None:
        _at_least("augment", self, "rotation_rad", 0)
        for key in ("scale", "point_dropout"):
            if not 0 <= getattr(self, key) < 1:
                raise ValueError(f"augment.{key} is {getattr(self, key)}; it takes 0 <= {key} < 1")


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """When a run is declared worthless."""

    enabled: bool = True
    """Off lets a collapsed run go on; its result is then worth nothing."""
    collapse_steps: int = 2
    """Consecutive steps with all signs of collapse before the run is stopped, at least 2."""
    no_signal_margin: float = 0.02
    """The last epoch's loss must be this share below the best constant predictor's."""

    def __post_init__(self) -> None:
        _at_least("guards", self, "collapse_steps", 2)
        _at_least("guards", self, "no_signal_margin", 0)


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """Workers; mirrors Ray Train's ScalingConfig."""

    num_workers: int = 1
    """DDP workers; 0 trains in the job's own process (no DDP, quick to start)."""
    use_gpu: bool = False
    """One GPU per worker; a missing one is an error, never silent CPU."""
    cpus_per_worker: float = 1.0
    """CPUs that Ray reserves per worker."""
    start_timeout_s: float = 120.0
    """How long to wait for the resources before the run fails."""
    max_failures: int = 1
    """Worker restarts from the last checkpoint before the run fails."""

    def __post_init__(self) -> None:
        for key in ("num_workers", "max_failures"):
            _at_least("scaling", self, key, 0)
        if not (self.cpus_per_worker > 0 and self.start_timeout_s > 0):
            raise ValueError("scaling.cpus_per_worker and scaling.start_timeout_s must be > 0")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Metrics, slices and intervals."""

    checkpoint: str = ""
    """Run folder or checkpoint folder to evaluate; empty = the run that was just trained."""
    batch_size: int = 4
    """Frames per forward pass."""
    num_bootstraps: int = 1000
    """Resamplings of the scenes behind each 95 % interval."""
    interval_seed: int = 0
    """Seed of the resampling."""
    near_classes: list[int] = field(default_factory=lambda: [20, 21])
    """Classes of ordinary small objects (static, dynamic) that anomalies are compared with."""

    def __post_init__(self) -> None:
        _at_least("evaluation", self, "batch_size", 1)
        _at_least("evaluation", self, "num_bootstraps", 100)
        _at_least("evaluation", self, "interval_seed", 0)


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What `jobs.compare` runs: world seeds x fusion types."""

    world_seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    """One synthetic world, with its own split and its own trainings, per seed."""
    fusions: list[str] = field(default_factory=lambda: ["concat", "camera_only", "lidar_only"])
    """Detectors trained on each world."""

    def __post_init__(self) -> None:
        _not_empty("compare.world_seeds", self.world_seeds)
        _choices("compare.fusions", self.fusions, legal=FUSIONS)


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """MLflow."""

    uri: str = "sqlite:///mlflow.db"
    """Tracking store; sqlite for one host, an http(s) server for several."""
    experiment: str = "anovox"
    """Experiment name."""
    run_name: str = ""
    """Run name; empty = made from model and fusion."""
    system_metrics: bool = True
    """CPU, memory, disk and network use of the job's host, every 10 s."""

    def __post_init__(self) -> None:
        if not self.uri.startswith(STORE_SCHEMES):
            raise ValueError(
                f"tracking.uri is {self.uri!r}; it takes a database or a server, "
                "e.g. sqlite:///mlflow.db or http://HOST:5000"
            )


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole run. One dotted key is YAML path, command-line override and MLflow param."""

    storage_path: str = "runs"
    """Folder of run folders: checkpoints, figures, tables."""
    data: DataConfig = field(default_factory=DataConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    inspect: InspectConfig = field(default_factory=InspectConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    guards: GuardConfig = field(default_factory=GuardConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if (self.loss.name == "seed_self_supervised") != (self.model.name == "simple"):
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
        self._check_window()
        self._check_reader()

    @property
    def uses_camera(self) -> bool:
        """Whether the model looks at the image."""
        return self.model.name == "simple" or self.model.fusion != "lidar_only"

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
        if self.data.window == 1:
            return
        if self.model.name == "simple" or self.model.fusion == "camera_only":
            name = self.model.fusion if self.model.name == "detector" else self.model.name
            raise ValueError(
                f"data.window={self.data.window} gives past clouds, which the model {name} cannot "
                "tell from the current one; set data.window=1 or use model.name=detector with a "
                "fusion that has a LiDAR branch"
            )

    def _check_reader(self) -> None:
        if "://" in self.data.blocks and not self.data.cache:
            raise ValueError(
                f"data.blocks={self.data.blocks} is remote storage, and shards are memory-mapped "
                "from a local disk (data.reader=stream maps those of val and test); set data.cache "
                "to a folder on every node"
            )
        if self.data.reader == "stream" and self.train.checkpoint_every_n_steps:
            raise ValueError(
                "data.reader=stream goes on at the start of an epoch only, so train."
                f"checkpoint_every_n_steps={self.train.checkpoint_every_n_steps} cannot help; set "
                "it to 0 or data.reader=blocks"
            )


def _choices(key: str, values: Sequence[str], *, legal: Sequence[str]) -> None:
    _not_empty(key, values)
    for value in values:
        if value not in legal:
            raise ValueError(f"{key} holds {value!r}; legal values are {', '.join(legal)}")


def _not_empty(key: str, values: Sequence[Any]) -> None:
    if not values:
        raise ValueError(f"{key} is empty; give it at least one value")


def _at_least(section: str, config: Any, key: str, least: float | int) -> None:
    value = getattr(config, key)
    if not least <= value < math.inf:
        raise ValueError(f"{section}.{key} is {value}; it must be a finite number >= {least}")


def _positive(section: str, config: Any, key: str) -> None:
    value = getattr(config, key)
    if not 0 < value < math.inf:
        raise ValueError(f"{section}.{key} is {value}; it must be a finite number > 0")
