"""Ways in which a whole scene can be wrong although every file of it is well formed.

Each function changes the files of one scene in place, in all of its frames.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.datasets.anovox import geometry
from pipeline.datasets.anovox.scene import Scene
from pipeline.datasets.protocol.geometry import intrinsics, unproject

AWAY = 20
"""Frames between a frame and the one whose files it gets; scenes need 2 x AWAY + 1 frames."""
# CARLA 0.9.13: 0 unlabeled, 1 building, 2 fence, 3 other, 4 pedestrian, 5 pole, 6 road line,
# 7 road, 8 sidewalk, 9 vegetation, 10 vehicle, 11 wall, 12 traffic sign, 13 sky, 14 ground,
# 15 bridge, 16 rail track, 17 guard rail, 18 traffic light, 19 static, 20 dynamic, 21 water,
# 22 terrain
OLD_ID = {
    **{3: 1, 5: 2, 22: 3, 12: 4, 13: 4, 6: 5, 24: 6, 1: 7, 2: 8, 9: 9, 4: 11, 8: 12, 11: 13},
    **{25: 14, 26: 15, 27: 16, 28: 17, 7: 18, 20: 19, 21: 20, 23: 21, 10: 22},
    **dict.fromkeys((14, 15, 16, 17, 18, 19), 10),
}
Change = Callable[[np.ndarray], np.ndarray]


def mirror_clouds(scene: Scene) -> None:
    """Both clouds with y to the right, as CARLA delivers them."""
    for field in ("lidar", "semantic_lidar"):
        change(scene, field, lambda cloud: cloud * np.array([1, -1, 1, 1], cloud.dtype))


def mirror_images(scene: Scene) -> None:
    """All four images with left and right swapped."""
    for field in ("image", "depth", "semantic", "instance"):
        change(scene, field, lambda pixels: pixels[:, ::-1])


def shuffle_rows(scene: Scene) -> None:
    """SEMANTIC-LIDAR in another order than LIDAR."""
    random = np.random.default_rng(0)
    change(scene, "semantic_lidar", lambda cloud: random.permutation(cloud))


def shifted(shift_m: Sequence[float]) -> NDArray[np.float64]:
    """4x4 to the voxel grid of a sensor whose cloud is moved by this much."""
    matrix = np.eye(4)
    matrix[:3, 3] = shift_m
    return matrix


def shift_voxels(scene: Scene, shift_m: Sequence[float]) -> None:
    """VOXEL_GRID made from the cloud with this shift."""
    for frame_id in scene.frame_ids:
        files = scene.files(frame_id)
        cloud = np.load(files.semantic_lidar)
        classes = cloud[:, 3].astype(np.uint8)
        voxels, _ = geometry.voxelise(cloud, classes, voxel_from_lidar=shifted(shift_m))
        np.save(scene.file("voxels", frame_id), voxels)


def take_files_of_another_frame(scene: Scene, *fields: str) -> None:
    """Each frame gets these files of a frame `AWAY` or more before or after it."""
    for field in fields:
        content = [path.read_bytes() for path in paths(scene, field)]
        assert len(content) > 2 * AWAY
        for place, path in enumerate(paths(scene, field)):
            other = place + AWAY if place + AWAY < len(content) else place - AWAY
            path.write_bytes(content[other])


def take_classes_of_another_frame(scene: Scene) -> None:
    """SEMANTIC-LIDAR keeps its points, but their classes are another frame's, row by row."""
    clouds = [np.load(path) for path in paths(scene, "semantic_lidar")]
    for place, path in enumerate(paths(scene, "semantic_lidar")):
        other = place + AWAY if place + AWAY < len(clouds) else place - AWAY
        cloud = clouds[place].copy()
        cloud[:, 3] = np.resize(clouds[other][:, 3], len(cloud))
        np.save(path, cloud)


def turn_depth(scene: Scene) -> None:
    """DEPTH_CAM as of a camera turned aside by about 15 degrees."""
    change(scene, "depth", lambda pixels: np.roll(pixels, pixels.shape[1] // 7, axis=1))


def use_old_class_table(scene: Scene) -> None:
    """All labels with the ids of CARLA 0.9.13."""
    table = np.arange(256, dtype=np.uint8)
    table[list(OLD_ID)] = list(OLD_ID.values())

    def relabel(rows: np.ndarray) -> np.ndarray:
        rows = rows.copy()
        rows[:, 3] = table[rows[:, 3].astype(np.uint8)]
        return rows

    change(scene, "semantic", lambda pixels: table[pixels])
    change(scene, "semantic_lidar", relabel)
    change(scene, "voxels", relabel)


def merge_depth_into_voxels(scene: Scene) -> None:
    """VOXEL_GRID from LiDAR and depth points together, as the generator intended."""
    for frame_id in scene.frame_ids:
        files, setup = scene.files(frame_id), scene.setup
        n = np.asarray(Image.open(files.depth)).astype(np.int64) @ [1, 256, 65536]
        depth = n / (2**24 - 1) * 1000
        v, u = np.nonzero(depth < 60)
        k = intrinsics(setup.image_width, setup.image_height, setup.camera_fov_deg)
        back = np.linalg.inv(geometry.CAMERA_FROM_LIDAR_SAME_POSE)
        lifted = unproject(u + 0.5, v + 0.5, depth[v, u], k, back)
        cloud = np.load(files.semantic_lidar)
        semantic = np.asarray(Image.open(files.semantic))
        points = np.concatenate([cloud[:, :3], lifted])
        classes = np.concatenate([cloud[:, 3].astype(np.uint8), semantic[v, u]])
        voxels, _ = geometry.voxelise(points, classes, voxel_from_lidar=shifted((0, 0, -1.8)))
        np.save(scene.file("voxels", frame_id), voxels)


def change(scene: Scene, field: str, function: Change) -> None:
    """Apply a function to the array in every file of one kind."""
    for path in paths(scene, field):
        if path.suffix == ".png":
            pixels = function(np.asarray(Image.open(path)))
            Image.fromarray(np.ascontiguousarray(pixels)).save(path, compress_level=1)
        else:
            table = np.load(path)
            np.save(path, function(table).astype(table.dtype))


def paths(scene: Scene, field: str) -> list[Path]:
    """Files of one kind (a field of FrameFiles), frame by frame."""
    return [getattr(scene.files(frame_id), field) for frame_id in scene.frame_ids]
