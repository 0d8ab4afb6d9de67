"""Where data come from and what becomes of them: the config sections of scenes, shards and batches.

`schema` holds the others and the whole.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

from pipeline.config.validators import at_least, choices, not_empty, positive

_KINDS = ("normality", "static", "dynamic")
MIN_DYNAMIC_FRAMES = 20
SensorSet = Literal["Mono", "Stereo", "StereoOneLidar", "Multi", "Surround"]


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
        choices("synthetic.kinds", self.kinds, legal=_KINDS)
        not_empty("synthetic.towns", self.towns)
        at_least("synthetic", self, "seed", 0)
        for key in ("num_scenes", "num_frames", "num_processes", "num_channels"):
            at_least("synthetic", self, key, 1)
        at_least("synthetic", self, "image_width", 32)
        at_least("synthetic", self, "image_height", 32)
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

    dataset: str = "anovox"
    """The data set under `data.root`: anovox, or package.module:Class of one of your own."""
    root: str = "data/anovox"
    """Folder that holds the data set; of AnoVox, its archives (extracted)."""
    archives: list[str] = field(default_factory=list)
    """AnoVox .tar.gz files that `jobs.prepare` unpacks under `data.root` first; [] = none."""
    md5: list[str] = field(default_factory=list)
    """Expected md5 of each of `data.archives`, in their order; [] = not checked."""
    zenodo_record: str = ""
    """Number of a Zenodo record whose .tar.gz files are downloaded and unpacked; empty = none."""
    zenodo_url: str = "https://zenodo.org/api/records"
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
    num_sweeps: int = 1
    """Clouds per frame: the current one and the `num_sweeps` - 1 before it, moved into its LiDAR
    frame, with relative time as a fifth column; 1 = off."""
    shuffle_shards: int = 8
    """Shards whose rows are shuffled together; more is more random, fewer reads more locally."""
    prefetch_batches: int = 2
    """Batches that a thread of each worker assembles (and copies to the GPU) ahead of the model;
    0 = off, the model waits for each. Batches and their order stay the same."""
    ego_box_m: list[float] = field(default_factory=lambda: [2.6, 1.1])
    """Half length and half width of the box of ego returns that batches leave out; [0, 0] = off."""

    def __post_init__(self) -> None:
        at_least("data", self, "shuffle_shards", 1)
        at_least("data", self, "prefetch_batches", 0)
        at_least("data", self, "max_retries", 0)
        at_least("data", self, "max_members", 1)
        at_least("data", self, "max_ratio", 1)
        at_least("data", self, "retry_wait_s", 0)
        for key in ("stall_s", "max_unpacked_gb"):
            positive("data", self, key)
        self._check_archives()
        at_least("data", self, "num_sweeps", 1)
        if self.num_sweeps > 1 and self.reader == "stream":
            raise ValueError(
                f"data.num_sweeps={self.num_sweeps} needs earlier frames, which lie in other "
                "shards than the one that data.reader=stream brings; set data.reader=blocks"
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
        if self.zenodo_record and not re.fullmatch(r"[0-9]{1,12}", self.zenodo_record):
            raise ValueError(
                f"data.zenodo_record is {self.zenodo_record!r}; it takes the number in the "
                "record's address, e.g. 10888190 for zenodo.org/records/10888190"
            )
        if not self.zenodo_url.startswith(("https://", "http://")):
            raise ValueError(
                f"data.zenodo_url is {self.zenodo_url!r}; it takes an http(s) address, "
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
        at_least("inspect", self, "scenes", 0)
        at_least("inspect", self, "frames_per_scene", 1)


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
    train_kinds: list[str] = field(default_factory=list)
    """Kinds that train scenes come from (e.g. [normality]); scenes of the others are dealt to val
    and test only. [] = all kinds."""
    seed: int = 0
    """Seed of the shuffle that deals frames to shards."""

    def __post_init__(self) -> None:
        for key in ("frames_per_shard", "min_anomaly_points", "min_anomaly_pixels"):
            at_least("prepare", self, key, 1)
        for key in ("seed", "split_seed"):
            at_least("prepare", self, key, 0)
        if self.train_kinds:
            choices("prepare.train_kinds", self.train_kinds, legal=_KINDS)
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
class AugmentConfig:
    """Changes of the cloud under `train.augment`, beside the flip and the photometric ones."""

    rotation_rad: float = 0.0
    """Largest rotation about z, either way, for models without a camera; 0 = off."""
    scale: float = 0.0
    """Largest relative change of the cloud's size, for models without a camera; 0 = off."""
    point_dropout: float = 0.0
    """Largest share of points left out, each frame its own share from 0 up; 0 = off."""

    def __post_init__(self) -> None:
        at_least("augment", self, "rotation_rad", 0)
        for key in ("scale", "point_dropout"):
            if not 0 <= getattr(self, key) < 1:
                raise ValueError(f"augment.{key} is {getattr(self, key)}; it takes 0 <= {key} < 1")


@dataclass(frozen=True, kw_only=True)
class OutlierConfig:
    """Synthetic outliers in training batches, for detectors that see no real anomaly.

    Each is a probability per frame and epoch. Outliers enter the loss alone, under a label of their
    own; val and test never hold any.
    """

    raised_road: float = 0.0
    """A patch of road points is lifted to a random height and shape, the image stays as it is
    (arXiv 2511.06720); 0 = off."""
    perlin: float = 0.0
    """A blob with a surface of Perlin noise stands on the road, in cloud and image (after arXiv
    2604.09232); 0 = off."""
    feature_mixing: float = 0.0
    """Channels are exchanged between features of points of different class (after arXiv
    2505.16985); 0 = off."""

    def __post_init__(self) -> None:
        for key in ("raised_road", "perlin", "feature_mixing"):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(
                    f"outliers.{key} is {getattr(self, key)}; it is a probability, 0 to 1"
                )

    @property
    def any(self) -> bool:
        """Whether any kind is on."""
        return self.changes_frames or self.feature_mixing > 0

    @property
    def changes_frames(self) -> bool:
        """Whether clouds or images are changed."""
        return self.raised_road > 0 or self.perlin > 0
