"""One frame's files as one record of checked arrays.

A caller names the modalities it needs and pays for no others. What the files say twice (sizes,
ids, calibration, the rows of both clouds) is compared, and a contradiction is a FrameError. The
depth and text codecs serve the synthetic writer too, so that writer and reader cannot drift apart.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.anovox import geometry
from pipeline.datasets.anovox.annotations import Anomaly, lidar_matrix, read_anomaly, read_record
from pipeline.datasets.anovox.class_ids import unknown_ids
from pipeline.datasets.anovox.io import damaged, load_columns, load_image, load_lines, load_table
from pipeline.datasets.anovox.png import unfiltered
from pipeline.datasets.anovox.scene import FrameFiles, Scene
from pipeline.datasets.anovox.sensors import SensorSetup
from pipeline.datasets.protocol.frames import FrameKey
from pipeline.datasets.protocol.geometry import intrinsics

TICK_S = 0.1
MODALITIES = ("image", "depth", "semantic", "lidar", "semantic_lidar", "voxels")

FAR_M = 1000.0
_DEPTH_STEPS = 2**24 - 1

RANGE_TOLERANCE = 1.05
ROW_SAMPLE = 8
MAX_ROW_OFFSET_M = 0.5


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One instant of one pose; arrays of modalities that were not asked for raise ValueError."""

    key: FrameKey
    frame_index: int
    """Ticks since the scene's first recorded tick; never a model input."""
    time_s: float
    intrinsics: NDArray[np.float64]
    """fx, fy, cx, cy (4,) in pixels of the image as it lies on disk."""
    camera_from_lidar: NDArray[np.float64]
    """4x4 from the LiDAR frame to camera axes (X right, Y down, Z forward)."""
    world_from_lidar: NDArray[np.float64]
    """4x4 from the LiDAR frame to a right-handed world (CARLA's with y negated)."""
    voxel_from_lidar: NDArray[np.float64]
    """4x4 from the LiDAR frame to the axes of the voxel grid, before its offset."""
    anomaly: Anomaly | None
    """None in normality archives, and only there."""
    action: Mapping[str, Any]
    """The ACTION file as it is; ego speed in km/h."""
    arrays: Mapping[str, NDArray]
    """Behind the properties below."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """RGB (H, W, 3)."""
        return self._array("image")

    @property
    def depth_m(self) -> NDArray[np.float32]:
        """Metres along the optical axis (H, W); 1000 is sky. Decoded again at each call."""
        return decode_depth(unfiltered(self._array("depth"), mode="RGB"))

    @property
    def semantic(self) -> NDArray[np.uint8]:
        """Class id per pixel (H, W)."""
        return self._array("semantic")

    @property
    def points(self) -> NDArray[np.float32]:
        """Noisy cloud (P, 4) in metres: x forward, y left, z up, intensity."""
        return self._array("points")

    @property
    def point_class(self) -> NDArray[np.uint8]:
        """Class id per point (P,)."""
        return self._array("point_class")

    @property
    def exact_xyz(self) -> NDArray[np.float32]:
        """The same points without noise (P, 3)."""
        return self._array("exact_xyz")

    @property
    def voxels(self) -> NDArray[np.uint16]:
        """vx, vy, vz, class id of occupied cells (M, 4), ascending by geometry.voxel_keys."""
        return self._array("voxels")

    def _array(self, name: str) -> NDArray:
        if name not in self.arrays:
            raise ValueError(
                f"frame {self.key} was read without {name}; name its modality ({MODALITIES}) "
                "in read_frame(modalities=...)"
            )
        return self.arrays[name]


def read_frame(scene: Scene, frame_id: int, *, modalities: Collection[str] = MODALITIES) -> Frame:
    """One frame of a scene; only the files of `modalities` and the small text files are read.

    Raises FrameError, naming the file, if anything in them is damaged or contradicts the rest.
    """
    unknown = set(modalities) - set(MODALITIES)
    if unknown:
        raise ValueError(f"modalities {sorted(unknown)} are unknown; known are {MODALITIES}")
    setup, files = scene.setup, scene.files(frame_id)
    action = read_record(files.action, scene_id=scene.scene_id, frame_id=frame_id)
    frame_index = frame_id - scene.first_frame_id
    return Frame(
        key=FrameKey(scene.archive, scene.scene_id, frame_id, scene.pose),
        frame_index=frame_index,
        time_s=frame_index * TICK_S,
        intrinsics=intrinsics(setup.image_width, setup.image_height, setup.camera_fov_deg),
        camera_from_lidar=_camera_from_lidar(setup),
        world_from_lidar=geometry.world_from_lidar(lidar_matrix(files.action, action, setup)),
        voxel_from_lidar=geometry.voxel_from_lidar(*setup.lidar),
        anomaly=read_anomaly(
            files.anomaly, scene_id=scene.scene_id, frame_id=frame_id, kind=scene.kind
        )
        if files.anomaly
        else None,
        action=action,
        arrays=_read_arrays(scene, files, modalities),
    )


def _camera_from_lidar(setup: SensorSetup) -> NDArray[np.float64]:
    if setup.camera == setup.lidar:
        return geometry.CAMERA_FROM_LIDAR_SAME_POSE.copy()
    lidar, camera = (
        geometry.carla_transform(mount.location, *mount.rotation)
        for mount in (setup.lidar, setup.camera)
    )
    return geometry.camera_from_lidar(lidar, camera)


def decode_depth(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Metres along the optical axis (...) of DEPTH_CAM colours (..., 3); sky is 1000."""
    r, g, b = (rgb[..., channel].astype(np.int32) for channel in range(3))
    return ((r + 256 * g + 65536 * b) * (FAR_M / _DEPTH_STEPS)).astype(np.float32)


def encode_depth(depth_m: NDArray[np.floating]) -> NDArray[np.uint8]:
    """DEPTH_CAM image (H, W, 3) of metres along the optical axis (H, W); beyond 1000 m is 1000."""
    steps = np.round(np.clip(depth_m.astype(np.float64), 0.0, FAR_M) / FAR_M * _DEPTH_STEPS)
    n = steps.astype(np.int32)
    return np.stack([n & 255, (n >> 8) & 255, n >> 16], axis=-1).astype(np.uint8)


def _read_arrays(
    scene: Scene, files: FrameFiles, modalities: Collection[str]
) -> dict[str, NDArray]:
    setup = scene.setup
    size = {"width": setup.image_width, "height": setup.image_height}
    arrays: dict[str, NDArray] = {}
    if "image" in modalities:
        arrays["image"] = load_image(files.image, mode="RGB", **size)
    if "depth" in modalities:
        # What follows, up to metres, costs more than this, and few callers want it.
        arrays["depth"] = load_lines(files.depth, mode="RGB", **size)
    if "semantic" in modalities:
        arrays["semantic"] = load_image(files.semantic, mode="L", **size)
        _check_classes(files.semantic, arrays["semantic"])
    if "lidar" in modalities:
        arrays["points"] = _read_points(files.lidar, setup.lidar_range_m)
    computes_voxels = "voxels" in modalities and not scene.has_own_voxels
    if "semantic_lidar" in modalities or computes_voxels:
        arrays["exact_xyz"], arrays["point_class"] = _read_classed_points(
            files.semantic_lidar, setup.lidar_range_m
        )
    if computes_voxels:
        arrays["voxels"], _ = geometry.voxelise(
            arrays["exact_xyz"],
            arrays["point_class"],
            voxel_from_lidar=geometry.voxel_from_lidar(*setup.lidar),
        )
    elif "voxels" in modalities:
        assert files.voxels is not None
        arrays["voxels"] = _read_voxels(files.voxels)
    if "lidar" in modalities and "semantic_lidar" in modalities:
        _check_rows(files, arrays["points"], arrays["exact_xyz"])
    return arrays


def _read_points(path: Path, range_m: float) -> NDArray[np.float32]:
    columns = load_columns(path, ("<f4", "<f8")).astype(np.float32, copy=False)
    _check_range(path, columns, range_m)
    return np.ascontiguousarray(columns.T)


def _read_classed_points(
    path: Path, range_m: float
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    columns = load_columns(path, ("<f8", "<f4"))
    _check_range(path, columns, range_m)
    return columns[:3].T.astype(np.float32, order="C"), _classes(path, columns[3])


def _read_voxels(path: Path) -> NDArray[np.uint16]:
    """Cells inside the grid, each once, in AnoVox's order whatever the file's."""
    voxels = load_table(path, ("<u2",))
    if (voxels[:, :3] >= geometry.GRID_SHAPE).any():
        raise damaged(path, f"it has cells outside the grid of {geometry.GRID_SHAPE}")
    _classes(path, voxels[:, 3])
    keys = geometry.voxel_keys(voxels)
    if (np.diff(keys) <= 0).any():
        order = np.argsort(keys)
        voxels, keys = voxels[order], keys[order]
        if (np.diff(keys) == 0).any():
            raise damaged(path, "it lists a cell twice")
    return voxels


def _check_range(path: Path, columns: NDArray[np.floating], range_m: float) -> None:
    farthest = float(np.abs(columns[:3]).max())
    if farthest > range_m * RANGE_TOLERANCE:
        raise damaged(path, f"a coordinate is {farthest:.6g} m, but the range is {range_m:g} m")


def _classes(path: Path, column: NDArray) -> NDArray[np.uint8]:
    """A column of class ids as uint8, once each is whole and known."""
    if column.min() < 0 or column.max() > 255 or (column != np.floor(column)).any():
        raise damaged(path, "its last column holds values that are no class ids (0 to 255)")
    class_id = column.astype(np.uint8)
    _check_classes(path, class_id)
    return class_id


def _check_classes(path: Path, class_id: NDArray[np.uint8]) -> None:
    unknown = unknown_ids(class_id)
    if unknown:
        raise damaged(path, f"class ids {unknown} are not in AnoVox's table")


def _check_rows(
    files: FrameFiles, points: NDArray[np.float32], exact_xyz: NDArray[np.float32]
) -> None:
    """Both clouds hold the same rays in the same order; a sample of rows shows it."""
    if len(points) != len(exact_xyz):
        raise damaged(
            files.semantic_lidar,
            f"it has {len(exact_xyz)} points, but {files.lidar.name} has {len(points)}",
        )
    offset = points[::ROW_SAMPLE, :3] - exact_xyz[::ROW_SAMPLE]
    median_m = float(np.median(np.linalg.norm(offset, axis=1)))
    if median_m > MAX_ROW_OFFSET_M:
        raise damaged(
            files.semantic_lidar,
            f"its rows lie {median_m:.2f} m (median) from those of {files.lidar.name}, so their "
            f"order differs (noise is 0.07 m, the limit {MAX_ROW_OFFSET_M} m)",
        )
