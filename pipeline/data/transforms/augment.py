"""Augmentation of image, cloud and calibration together: pure functions of (seed, epoch, frame).

A frame's changes do not depend on its batch, its rank or what was read before it, so a resumed run
and a run with another number of workers see the same pictures.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8

from pipeline.config.data import AugmentConfig
from pipeline.data import grey_levels
from pipeline.data.transforms.raw_numbers import random_raw

MAX_BRIGHTNESS = 24.0
"""Largest shift of the grey level, of 255."""
MAX_CONTRAST = 0.25
"""Largest relative change of the distance from middle grey."""
POSE_SIGNS = np.outer([-1, 1, 1, 1], [1, -1, 1, 1]).astype(np.float32)
"""Of `camera_from_lidar` where both sensors are mirrored: camera x and LiDAR y."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to one frame."""

    flip: bool
    """Left and right change places."""
    brightness: float
    """Added to every grey level."""
    contrast: float
    """Factor on the distance from middle grey; 1 = off."""
    rotation_rad: float
    """The cloud turns about z, from x towards y; 0 = off."""
    scale: float
    """Factor on all coordinates of points; 1 = off."""
    point_dropout: float
    """Share of points left out; 0 = off."""
    dropout_seed: int
    """Decides which points those are."""

    @property
    def only_mirrors(self) -> bool:
        """Whether the cloud is at most mirrored: neither turned, scaled nor thinned."""
        return self.rotation_rad == 0 and self.scale == 1 and self.point_dropout == 0


def draw(*, seed: int, epoch: int, key: Sequence[str | int], config: AugmentConfig) -> Augmentation:
    """The augmentation of one frame in one epoch; `key` is (archive, scene_id, frame_id, pose)."""
    return draw_all(seed=seed, epoch=epoch, keys=[key], config=config)[0]


def draw_all(
    *, seed: int, epoch: int, keys: Sequence[Sequence[str | int]], config: AugmentConfig
) -> list[Augmentation]:
    """The augmentation of each of these frames, as `draw` gives it."""
    start = f"{seed}\n{epoch}\n"
    texts = (start + "\n".join(map(str, key)) for key in keys)
    digests = b"".join(blake2b(text.encode(), digest_size=16).digest() for text in texts)
    # What `default_rng(digest)` draws by `integers(2)`, five times `uniform` and `integers(2**63)`.
    raw = random_raw(np.frombuffer(digests, "<u4").reshape(-1, 4), 7)
    low, width = _ranges(config)
    drawn = low + width * ((raw[:, 1:6] >> np.uint64(11)) * 2.0**-53)
    return [
        Augmentation(
            flip=bool(first >> 31 & 1),
            brightness=brightness,
            contrast=contrast,
            rotation_rad=rotation_rad,
            scale=scale,
            point_dropout=point_dropout,
            dropout_seed=last >> 1,
        )
        for first, last, (brightness, contrast, rotation_rad, scale, point_dropout) in zip(
            raw[:, 0].tolist(), raw[:, 6].tolist(), drawn.tolist(), strict=True
        )
    ]


@functools.lru_cache
def _ranges(
    config: AugmentConfig,
) -> tuple[Float64[np.ndarray, "5"], Float64[np.ndarray, "5"]]:
    """Lower ends and widths: brightness, contrast, rotation_rad, scale, point_dropout."""
    turn, scale = config.rotation_rad, config.scale
    low = np.array([-MAX_BRIGHTNESS, 1 - MAX_CONTRAST, -turn, 1 - scale, 0.0])
    high = np.array([MAX_BRIGHTNESS, 1 + MAX_CONTRAST, turn, 1 + scale, config.point_dropout])
    return low, high - low


def change_image(
    image: UInt8[np.ndarray, "H W 3"], change: Augmentation
) -> UInt8[np.ndarray, "H W 3"]:
    """Mirrored (column j becomes W - 1 - j) and with grey levels moved, rounded and clipped."""
    changed = np.empty(image.shape, np.uint8)
    write_image(image, change, changed)
    return changed


def write_image(
    image: UInt8[np.ndarray, "H W 3"], change: Augmentation, out: UInt8[np.ndarray, "H W 3"]
) -> None:
    """`change_image` into memory that is there."""
    grey_levels.change_greys(
        image, contrast=change.contrast, brightness=change.brightness, flip=change.flip, out=out
    )


def grey_table_of(change: Augmentation) -> UInt8[np.ndarray, "256"]:
    """What becomes of each grey level."""
    return grey_levels.grey_table(contrast=change.contrast, brightness=change.brightness)


def change_points(
    points: Float[np.ndarray, "P C"], change: Augmentation
) -> Float[np.ndarray, "P C"]:
    """Mirrored (y becomes -y), then turned about z and scaled; columns after z stay."""
    if change.flip:
        points = points * np.array([1, -1, *[1] * (points.shape[1] - 2)], dtype=points.dtype)
    if change.rotation_rad == 0 and change.scale == 1:
        return points
    xyz = points[:, :3].astype(np.float64) @ _turned(change)[:3, :3].T
    return np.concatenate([xyz.astype(points.dtype), points[:, 3:]], axis=1)


def kept_points(num_points: int, change: Augmentation) -> Bool[np.ndarray, "P"]:
    """Which points of a cloud stay; each is left out with the same probability."""
    rng = np.random.default_rng(change.dropout_seed)
    return rng.random(num_points) >= change.point_dropout


def _turned(change: Augmentation) -> Float[np.ndarray, "4 4"]:
    """Rotation about z and scale as a 4x4: from old LiDAR coordinates to new ones."""
    cos, sin = np.cos(change.rotation_rad), np.sin(change.rotation_rad)
    matrix = np.diag([change.scale] * 3 + [1.0])
    matrix[:2, :2] = change.scale * np.array([[cos, -sin], [sin, cos]])
    return matrix


def change_calibration(
    intrinsics: Float[np.ndarray, "4"],
    camera_from_lidar: Float[np.ndarray, "4 4"],
    change: Augmentation,
    *,
    width_px: int,
) -> tuple[Float[np.ndarray, "4"], Float[np.ndarray, "4 4"]]:
    """Calibration under which a changed point falls on its pixel: u' = W - u where mirrored.

    Rotation and scale of the cloud are undone on the way to the camera. A pixel's column j covers
    j <= u < j + 1, so its centre j + 0.5 goes to W - 1 - j + 0.5, the centre of the mirrored
    column: no half-pixel error.
    """
    if change.flip:
        fx, fy, cx, cy = intrinsics
        intrinsics = np.array([fx, fy, width_px - cx, cy])
        camera_from_lidar = np.diag([-1.0, 1.0, 1.0, 1.0]) @ camera_from_lidar
    return intrinsics, change_pose(camera_from_lidar, change)


def change_calibrations(
    intrinsics: Float32[np.ndarray, "B 4"],
    camera_from_lidar: Float32[np.ndarray, "B 4 4"],
    changes: Sequence[Augmentation],
    *,
    width_px: int,
) -> None:
    """`change_calibration` of each frame, in place."""
    for i, change in enumerate(changes):
        if not change.only_mirrors:
            intrinsics[i], camera_from_lidar[i] = change_calibration(
                intrinsics[i], camera_from_lidar[i], change, width_px=width_px
            )
        elif change.flip:
            # Signs alone change. A matrix product, slower by four times, has no -0: hence the sum.
            intrinsics[i, 2] = width_px - intrinsics[i, 2]
            pose = camera_from_lidar[i]
            np.multiply(pose, POSE_SIGNS, out=pose)
            np.add(pose, 0, out=pose)


def change_pose(
    x_from_lidar: Float[np.ndarray, "4 4"], change: Augmentation
) -> Float[np.ndarray, "4 4"]:
    """Transform that takes a changed point where `x_from_lidar` took it before the change."""
    if change.flip:
        x_from_lidar = x_from_lidar @ np.diag([1.0, -1.0, 1.0, 1.0])
    if change.rotation_rad or change.scale != 1:
        x_from_lidar = x_from_lidar @ np.linalg.inv(_turned(change))
    return x_from_lidar
