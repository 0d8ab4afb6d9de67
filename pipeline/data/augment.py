"""Augmentation of image, cloud and calibration together: pure functions of (seed, epoch, frame).

A frame's changes do not depend on its batch, its rank or what was read before it, so a resumed run
and a run with another number of workers see the same pictures.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

MAX_BRIGHTNESS = 24.0
"""Largest shift of the grey level, of 255."""
MAX_CONTRAST = 0.25
"""Largest relative change of the distance from middle grey."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to one frame."""

    flip: bool
    """Left and right change places."""
    brightness: float
    """Added to every grey level."""
    contrast: float
    """Factor on the distance from middle grey; 1 = off."""


def draw(*, seed: int, epoch: int, key: Sequence[str | int]) -> Augmentation:
    """The augmentation of one frame in one epoch; `key` is (archive, scene_id, frame_id, pose)."""
    text = "\n".join(str(part) for part in (seed, epoch, *key))
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "little"))
    return Augmentation(
        flip=bool(rng.integers(2)),
        brightness=float(rng.uniform(-MAX_BRIGHTNESS, MAX_BRIGHTNESS)),
        contrast=float(rng.uniform(1 - MAX_CONTRAST, 1 + MAX_CONTRAST)),
    )


def change_image(
    image: UInt8[np.ndarray, "H W 3"], change: Augmentation
) -> UInt8[np.ndarray, "H W 3"]:
    """Mirrored (column j becomes W - 1 - j) and with grey levels moved, rounded and clipped."""
    levels = (np.arange(256) - 127.5) * change.contrast + 127.5 + change.brightness
    table = np.rint(levels).clip(0, 255).astype(np.uint8)
    return table[image[:, ::-1] if change.flip else image]


def change_points(
    points: Float[np.ndarray, "P C"], change: Augmentation
) -> Float[np.ndarray, "P C"]:
    """Mirrored: y (left) becomes -y; the other columns stay."""
    if not change.flip:
        return points
    return points * np.array([1, -1, *[1] * (points.shape[1] - 2)], dtype=points.dtype)


def change_calibration(
    intrinsics: Float[np.ndarray, "4"],
    camera_from_lidar: Float[np.ndarray, "4 4"],
    change: Augmentation,
    *,
    width_px: int,
) -> tuple[Float[np.ndarray, "4"], Float[np.ndarray, "4 4"]]:
    """Calibration under which a mirrored point falls on the mirrored pixel: u' = W - u exactly.

    A pixel's column j covers j <= u < j + 1, so its centre j + 0.5 goes to W - 1 - j + 0.5, the
    centre of the mirrored column: no half-pixel error.
    """
    if not change.flip:
        return intrinsics, camera_from_lidar
    fx, fy, cx, cy = intrinsics
    mirrored = np.diag([-1.0, 1.0, 1.0, 1.0]) @ camera_from_lidar @ np.diag([1.0, -1.0, 1.0, 1.0])
    return np.array([fx, fy, width_px - cx, cy]), mirrored
