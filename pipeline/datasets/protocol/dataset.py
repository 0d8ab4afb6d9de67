"""What a data set must be able to do so that `jobs.prepare` can turn it into shards.

A data set is a class without state, named in `registry`. Nothing that reads prepared shards calls
it: what they need to know of it is `DatasetFacts`, which the manifest carries.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.protocol.facts import DatasetFacts
from pipeline.datasets.protocol.frames import FrameKey


@runtime_checkable
class SceneView(Protocol):
    """One recording seen from one camera pose, known by its names; small enough to be shipped."""

    @property
    def archive(self) -> str:
        """Name of the folder or file that it comes in; with `scene_id` it names the scene."""
        ...

    @property
    def scene_id(self) -> str: ...

    @property
    def path(self) -> Path: ...

    @property
    def kind(self) -> str:
        """`normality` (no anomaly), `static` (foreign objects) or `dynamic` (odd behaviour)."""
        ...

    @property
    def town(self) -> str:
        """Place of the recording, over which splits spread the scenes; may be empty."""
        ...

    @property
    def weather(self) -> str: ...

    @property
    def pose(self) -> str:
        """Of the camera; any text that tells the poses of a scene apart."""
        ...

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    @property
    def frame_ids(self) -> tuple[int, ...]:
        """Ascending; frames that all of their files are there for."""
        ...

    @property
    def partial_frames(self) -> Mapping[int, tuple[str, ...]]:
        """Frame ids that some folders lack, and which: the scene's quarantined frames."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What the scene lacks and what stands in for it, a sentence each."""
        ...


@runtime_checkable
class LabelRule(Protocol):
    """How the frames of one scene are labelled."""

    @property
    def label_rule(self) -> str:
        """`ids`, where class ids say it all, or the name of another rule."""
        ...

    @property
    def window_ids(self) -> list[int | None]:
        """First, turning and last frame id of the anomaly; [] where it has no such window."""
        ...


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A scene that cannot be read, or with an empty `scene` the whole archive."""

    scene: str
    reason: str
    """One sentence that begins with the path."""


@dataclass(frozen=True, kw_only=True)
class ScannedArchive:
    """What one archive holds, by its names."""

    name: str
    scenes: tuple[Any, ...]
    """Readable scenes (`SceneView`), one per camera pose."""
    left_out: tuple[LeftOut, ...]
    sentence: str
    """What was found, and why the rest of it cannot be used."""


@dataclass(frozen=True, kw_only=True)
class FrameVoxels:
    """The occupied cells of a frame's voxel grid."""

    cells: NDArray[np.uint16]
    """vx, vy, vz, class id (M, 4)."""
    of_point: NDArray[np.int32]
    """Row of `cells` that holds the point (P,), -1 if none does."""
    voxel_from_lidar: NDArray[np.float64]
    """4x4 to the axes of the grid."""
    num_anomalous: int


@dataclass(frozen=True, kw_only=True)
class LabelledFrame:
    """One instant of one pose with its truth; labels are 0 normal, 1 anomalous, 255 ignored."""

    key: FrameKey
    frame_index: int
    """Ticks since the scene's first; never a model input."""
    time_s: float
    image: NDArray[np.uint8]
    """RGB (H, W, 3)."""
    intrinsics: NDArray[np.float64]
    """fx, fy, cx, cy (4,) in pixels of `image`."""
    camera_from_lidar: NDArray[np.float64]
    """4x4 from LiDAR axes (x forward, y left, z up) to camera axes (X right, Y down, Z forward)."""
    world_from_lidar: NDArray[np.float64]
    """4x4 from LiDAR axes to a right-handed world, z up."""
    points: NDArray[np.float32]
    """x, y, z in m and intensity 0 to 1 (P, 4)."""
    point_class: NDArray[np.uint8]
    """Ids of the class table (P,)."""
    point_label: NDArray[np.uint8]
    """(P,)"""
    frame_label: int
    label_rule: str
    """Of the scene's rule."""
    pixel_label: NDArray[np.uint8] | None = None
    """(H, W)"""
    voxels: FrameVoxels | None = None
    semantic: bytes = b""
    """PNG of the image's class ids; empty where there is none."""
    depth: bytes = b""
    """PNG of the image's depth as the data set codes it; empty where there is none."""
    anomaly_type: str = ""
    anomaly_category: str = ""
    anomaly_phase: str = ""
    anomaly_size: str = ""
    anomaly_distance_m: float = float("nan")


@runtime_checkable
class Dataset(Protocol):
    """A data set on disk. Scenes that are handed in are those that `scan` found."""

    facts: DatasetFacts
    file_sources: Sequence[str]
    """How names of its files and folders begin: reasons of quarantine are counted by them."""

    def scan(self, root: Path, poses: Collection[str]) -> Iterable[ScannedArchive]:
        """Every archive under `root`, of these camera poses only if any are named; no arrays.

        Raises ValueError when there is none, or when a scene is there twice.
        """
        ...

    def input_facts(self, scene: Any) -> Sequence[Sequence[Any]]:
        """What changes when the scene's files do, as lists for JSON: the input's hash."""
        ...

    def category(self, scene: Any) -> str:
        """Category of the scene's anomaly, for `prepare.hold_out_categories`; empty without."""
        ...

    def known_rule(self, scene: Any) -> LabelRule | None:
        """How the scene is labelled; None where its files must be read for it (`find_rule`)."""
        ...

    def find_rule(self, scene: Any, *, allow_guess: bool) -> LabelRule:
        """By the scene's files; SceneError where no rule can label it."""
        ...

    def read(
        self, scene: Any, frame_id: int, rule: Any, *, min_points: int, min_pixels: int
    ) -> LabelledFrame:
        """A frame with its truth by the scene's rule; FrameError where it cannot be trusted.

        With fewer anomalous points and pixels than these minima a frame is ignored, not anomalous.
        """
        ...
