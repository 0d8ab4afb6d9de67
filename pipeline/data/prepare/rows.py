"""One frame becomes one row: image made small, calibration with it, labels beside the points.

Images are stored at the size that training uses, by default as raw pixels, because decoding PNG is
what limits a loader that does it for every frame of every epoch. Ground truth that training does
not read stays as the PNG files that were recorded.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.config.data import PrepareConfig
from pipeline.data.encoding import encode_image, encode_points
from pipeline.datasets.protocol.classes import ANOMALOUS_LABEL, IGNORE_LABEL
from pipeline.datasets.protocol.dataset import FrameVoxels, LabelledFrame, SceneView
from pipeline.datasets.protocol.geometry import crop_intrinsics, scale_intrinsics


def make_row(frame: LabelledFrame, scene: SceneView, config: PrepareConfig) -> dict[str, Any]:
    """The frame of `scene` as a row of `schema.row_schema(config)`.

    Raises FrameError when a point lies beyond what `prepare.points` can hold.
    """
    image, intrinsics = stored_image(frame.image, frame.intrinsics, config)
    pixel_label = frame.pixel_label
    return {
        **_metadata(frame, scene),
        "image_height": image.shape[0],
        "image_width": image.shape[1],
        "image": encode_image(image, config),
        "intrinsics": intrinsics,
        "camera_from_lidar": frame.camera_from_lidar.reshape(16),
        "world_from_lidar": frame.world_from_lidar.reshape(16),
        "points": encode_points(frame.points, config.points, place=" ".join(map(str, frame.key))),
        "point_class": frame.point_class,
        "point_label": frame.point_label,
        **_voxels(frame.voxels or _no_voxels(len(frame.points))),
        "pixel_label": b"" if pixel_label is None else encode_png(pixel_label),
        "semantic": frame.semantic,
        "depth": frame.depth,
    }


def _voxels(voxels: FrameVoxels) -> dict[str, Any]:
    return {
        "point_voxel": voxels.of_point,
        "voxels": voxels.cells,
        "voxel_from_lidar": voxels.voxel_from_lidar.reshape(16),
    }


def _no_voxels(num_points: int) -> FrameVoxels:
    return FrameVoxels(
        cells=np.empty((0, 4), np.uint16),
        of_point=np.full(num_points, -1, np.int32),
        voxel_from_lidar=np.eye(4),
        num_anomalous=0,
    )


def _metadata(frame: LabelledFrame, scene: SceneView) -> dict[str, Any]:
    return {
        "archive": frame.key.archive,
        "scene_id": frame.key.scene_id,
        "frame_id": frame.key.frame_id,
        "pose": frame.key.pose,
        "frame_index": frame.frame_index,
        "time_s": frame.time_s,
        "kind": scene.kind,
        "town": scene.town,
        "weather": scene.weather,
        "num_points": len(frame.points),
        "num_ignored_points": int(np.count_nonzero(frame.point_label == IGNORE_LABEL)),
        "num_anomaly_points": int(np.count_nonzero(frame.point_label == ANOMALOUS_LABEL)),
        "num_anomaly_pixels": 0
        if frame.pixel_label is None
        else int(np.count_nonzero(frame.pixel_label == ANOMALOUS_LABEL)),
        "num_anomaly_voxels": frame.voxels.num_anomalous if frame.voxels else 0,
        "frame_label": frame.frame_label,
        "label_rule": frame.label_rule,
        "anomaly_type": frame.anomaly_type,
        "anomaly_category": frame.anomaly_category,
        "anomaly_phase": frame.anomaly_phase,
        "anomaly_size": frame.anomaly_size,
        "anomaly_distance_m": frame.anomaly_distance_m,
    }


def stored_image(
    image: NDArray[np.uint8], intrinsics: NDArray[np.float64], config: PrepareConfig
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Image (H, W, 3) reduced to `prepare.image_width` and cropped, and intrinsics (4,) for it.

    Each stored pixel is the mean of the area it covers (box filter), so u' = s * u holds without a
    half-pixel shift; rows above the crop are taken off cy. At the original width and without a
    crop the image is the original, bit for bit.
    """
    height, width = image.shape[:2]
    new_height, top, bottom = stored_rows(height, width, config)
    if config.image_width < width:
        image = _reduced(image, config.image_width, new_height)
    scaled = scale_intrinsics(intrinsics, config.image_width / width, new_height / height)
    return image[top:bottom], crop_intrinsics(scaled, top)


def _reduced(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """By Pillow's box filter, or where an image is halved by its like: a fifth of the time."""
    if image.shape[:2] == (2 * height, 2 * width) and height <= width:
        # Whoever only plans shards does without the compiler.
        from pipeline.data.prepare.halving import halved

        return halved(image)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def stored_rows(height: int, width: int, config: PrepareConfig) -> tuple[int, int, int]:
    """Height of the reduced image and the first and last + 1 of its rows that are stored.

    Raises ValueError when the image would have to be enlarged or nothing is left of it.
    """
    if config.image_width > width:
        raise ValueError(
            f"prepare.image_width is {config.image_width} but the images are {width} px wide; "
            f"set it to {width} or less"
        )
    new_height = round(height * config.image_width / width)
    top, bottom = (round(fraction * new_height) for fraction in config.image_crop)
    if top == bottom:
        raise ValueError(
            f"prepare.image_crop {config.image_crop} leaves no row of {new_height}; widen it"
        )
    return new_height, top, bottom


def encode_png(label: NDArray[np.uint8]) -> bytes:
    """A one-channel image (H, W) as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(label).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
