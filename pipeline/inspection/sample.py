"""One frame of a scene, read without trust: whatever can be read is kept, the rest is said.

The reader's `read_frame` refuses a frame at the first contradiction; a report has to see them all.
So the arrays come one by one from the checked loaders, and a class id that is none becomes
`UNSEEN_CLASS` instead of an error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.anovox import geometry
from pipeline.datasets.anovox.frame import Frame, decode_depth, read_frame
from pipeline.datasets.anovox.io import load_image, load_table
from pipeline.datasets.anovox.scene import Scene
from pipeline.datasets.protocol.frames import FrameError
from pipeline.datasets.protocol.geometry import in_view, project
from pipeline.inspection.setup import lidar_height_m

UNSEEN_CLASS = 255
"""Stands for values that are no whole number from 0 to 255; not in AnoVox's table."""
_T = TypeVar("_T")
_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class CameraView:
    """The points of a cloud that fall into the image; K of them."""

    rows: NDArray[np.int64]
    """Row of each in the cloud (K,)."""
    u: NDArray[np.int64]
    """Pixel column (K,)."""
    v: NDArray[np.int64]
    """Pixel row (K,)."""
    depth_m: NDArray[np.float64]
    """Metres along the optical axis (K,)."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Arrays of one frame by name, and one sentence per file that could not be read.

    Names: image (H, W, 3); depth_m, semantic (H, W); points (P, 4) noisy; exact_xyz (P, 3),
    point_class (P,); voxels (M, 4). An absent array was damaged, or the scene does not have it.
    """

    frame: Frame | None
    """Calibration and records; None if the text files are damaged."""
    height_m: float
    """Of the LiDAR above the ground."""
    width: int
    height: int
    arrays: Mapping[str, NDArray]
    errors: tuple[str, ...]

    def has(self, *names: str) -> bool:
        """Whether these arrays and the calibration are there."""
        return self.frame is not None and all(name in self.arrays for name in names)

    def __getitem__(self, name: str) -> NDArray:
        return self.arrays[name]

    @property
    def calibration(self) -> Frame:
        """The frame; to be asked for only after `has`."""
        assert self.frame is not None
        return self.frame

    def view(self, points: NDArray[np.floating], *, is_mirrored: bool = False) -> CameraView:
        """Points (P, >=3) in the image; `is_mirrored` swaps left and right, the classic error."""
        frame = self.calibration
        matrix = _MIRROR @ frame.camera_from_lidar if is_mirrored else frame.camera_from_lidar
        uv, depth = project(points, frame.intrinsics, matrix)
        rows = np.flatnonzero(in_view(uv, depth, self.width, self.height))
        u, v = uv[rows].astype(np.int64).T
        return CameraView(rows=rows, u=u, v=v, depth_m=depth[rows])

    def voxelised(self) -> NDArray[np.uint16]:
        """The voxel grid (M, 4) that SEMANTIC-LIDAR gives by AnoVox's rule."""
        matrix = self.calibration.voxel_from_lidar
        return geometry.voxelise(self["exact_xyz"], self["point_class"], voxel_from_lidar=matrix)[0]

    def with_own_voxels(self) -> "Sample":
        """With the grid that SEMANTIC-LIDAR gives in place of the file's."""
        if not self.has("exact_xyz", "point_class"):
            return self
        return replace(self, arrays={**self.arrays, "voxels": self.voxelised()})

    def voxel_cells(self, points: NDArray[np.floating]) -> NDArray[np.int64]:
        """Cells (P, 3) of points (P, >=3); some may lie outside the grid."""
        return geometry.voxel_indices(points, voxel_from_lidar=self.calibration.voxel_from_lidar)[0]

    def voxel_centres(self, voxels: NDArray[np.integer]) -> NDArray[np.float64]:
        """Centres (M, 3) in the LiDAR frame of voxels (M, >=3)."""
        return geometry.voxel_centres(voxels, self.calibration.voxel_from_lidar)

    def is_off_ground(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Points (P, >=3) that stand above flat ground; flat ground looks alike everywhere."""
        return points[:, 2] > 0.5 - self.height_m


def read_sample(scene: Scene, frame_id: int) -> Sample:
    """One frame of a scene; a file that cannot be read is an entry of `errors`, never raised."""
    files, setup = scene.files(frame_id), scene.setup
    size = {"width": setup.image_width, "height": setup.image_height}
    errors: list[str] = []
    arrays: dict[str, NDArray] = {}
    frame = _tried(errors, lambda: read_frame(scene, frame_id, modalities=()))
    loaders: dict[str, tuple[Path | None, Callable[[Path], NDArray]]] = {
        "image": (files.image, lambda path: load_image(path, mode="RGB", **size)),
        "instance": (files.instance, lambda path: load_image(path, mode="RGB", **size)),
        "depth_m": (files.depth, lambda path: decode_depth(load_image(path, mode="RGB", **size))),
        "semantic": (files.semantic, lambda path: load_image(path, mode="L", **size)),
        "points": (files.lidar, lambda path: load_table(path, ("<f4", "<f8"))),
        "cloud": (files.semantic_lidar, lambda path: load_table(path, ("<f8", "<f4"))),
        "voxels": (files.voxels, lambda path: load_table(path, ("<u2",))),
    }
    for name, (path, load) in loaders.items():
        if path is not None:  # the scene may lack some folders
            _tried(errors, lambda n=name, p=path, f=load: arrays.update({n: f(p)}))
    arrays.pop("instance", None)
    cloud = arrays.pop("cloud", None)
    if cloud is not None:
        arrays |= {"exact_xyz": cloud[:, :3], "point_class": class_ids(cloud[:, 3])}
    return Sample(
        frame=frame,
        height_m=lidar_height_m(setup),
        **size,
        arrays=arrays,
        errors=tuple(errors),
    )


def class_ids(column: NDArray) -> NDArray[np.uint8]:
    """Class ids (N,) of a file's column, `UNSEEN_CLASS` where the value is none."""
    is_class = (column >= 0) & (column <= 255) & (column == np.floor(column))
    return np.where(is_class, column, UNSEEN_CLASS).astype(np.uint8)


def _tried(errors: list[str], read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except FrameError as error:
        errors.append(str(error))
        return None
