"""Synthetic outliers in training frames: pure functions of (seed, epoch, frame), as augmentation.

They stand in for the anomalies that training on normal scenes alone never sees. Their points have
`OUTLIER_LABEL`, which losses read as "push this score up" and which every metric leaves out; val
and test are never changed.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from pipeline.config.data import OutlierConfig
from pipeline.data.frames import StoredFrame
from pipeline.data.transforms.blobs import Blob, first_hits, rough_surface
from pipeline.data.transforms.perlin import Perlin
from pipeline.datasets.protocol.classes import NORMAL_LABEL, is_one_of
from pipeline.datasets.protocol.geometry import in_view, project, unproject

OUTLIER_LABEL = 2
"""Of their points, and of normal frames that hold some; for the loss only."""
MIN_POINTS = 5
"""With fewer points an outlier is not made: so few could be noise."""
NEAREST_M, FARTHEST_M = 4.0, 30.0
"""Ranges at which outliers stand on the road."""
IN_VIEW_SHARE = 0.75
"""Share of outliers for which a place in the image is sought."""
_ATTENUATION_PER_M = 0.004
"""Intensity is exp(-0.004 range) in CARLA, whatever is hit."""
RANGE_NOISE_M = 0.1
"""Deviation of AnoVox's noise along a ray; a smoother surface would give the outlier away."""
MAX_HIDDEN = 0.05
"""Share of a blob's rays that may end before it; with more, something stands in front."""


def with_outliers(
    frame: StoredFrame,
    intrinsics: Float[np.ndarray, "4"],
    camera_from_lidar: Float[np.ndarray, "4 4"],
    *,
    road_ids: Sequence[int],
    config: OutlierConfig,
    seed: tuple[int, int],
    key: Sequence[str | int],
) -> StoredFrame:
    """The frame with the outliers drawn for it; itself where none is drawn or none fits.

    `road_ids` are the classes that outliers stand on. `seed` is (seed, epoch), `key` (archive,
    scene_id, frame_id, pose). Number and order of points
    stay as they are.
    """
    text = "\n".join(["outliers", *(str(part) for part in (*seed, *key))])
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "little"))
    is_raised, is_perlin = rng.random(2) < (config.raised_road, config.perlin)
    if is_raised:
        place = road_place(frame, intrinsics, camera_from_lidar, rng, road_ids)
        frame = frame if place is None else raised_road(frame, place, rng, road_ids)
    if is_perlin:
        place = road_place(frame, intrinsics, camera_from_lidar, rng, road_ids)
        if place is not None:
            blob = draw_blob(place, rng)
            frame = perlin_object(frame, blob, intrinsics, camera_from_lidar, rng)
    return frame


def has_outliers(frame: StoredFrame) -> bool:
    """Whether any point of the frame belongs to a synthetic outlier."""
    return bool((frame.point_label == OUTLIER_LABEL).any())


def raised_road(
    frame: StoredFrame,
    centre: Float[np.ndarray, "3"],
    rng: np.random.Generator,
    road_ids: Sequence[int],
) -> StoredFrame:
    """A patch of road lifted into a dome, a block or a ramp (arXiv 2511.06720); image unchanged."""
    half, angle = rng.uniform(0.2, 1.2, 2), rng.uniform(0, np.pi)
    height, form = rng.uniform(0.2, 1.5), int(rng.integers(3))
    cos, sin = np.cos(angle), np.sin(angle)
    offset = frame.points[:, :2].astype(np.float64) - centre[:2]
    u, v = (offset @ np.array([[cos, -sin], [sin, cos]]) / half).T
    apart = np.hypot(u, v)
    profile = (np.sqrt(np.maximum(1 - apart**2, 0)), np.ones(len(u)), (u + 1) / 2)[form]
    rows = np.flatnonzero((apart < 1) & _is_road(frame, road_ids))
    if len(rows) < MIN_POINTS:
        return frame
    places = frame.points[rows, :3].astype(np.float64)
    places[:, 2] += height * profile[rows]
    return _moved(frame, rows, places)


def perlin_object(
    frame: StoredFrame,
    blob: Blob,
    intrinsics: Float[np.ndarray, "4"],
    camera_from_lidar: Float[np.ndarray, "4 4"],
    rng: np.random.Generator,
) -> StoredFrame:
    """A blob on the road, in cloud and image (after arXiv 2604.09232).

    LiDAR rays that meet it end on its surface instead of behind it, so none passes through it and
    every new point lies on a ray of the sensor. Pixels whose rays meet it take its colours.
    """
    rows, distance, ray = _shortened(frame, blob)
    if len(rows) < MIN_POINTS:
        return frame
    distance = distance + rng.normal(0, RANGE_NOISE_M, len(rows))
    painted = _painted(frame.image[0], blob, intrinsics, camera_from_lidar)
    return _moved(frame, rows, distance[:, None] * ray)._replace(image=painted[None])


def draw_blob(place: Float[np.ndarray, "3"], rng: np.random.Generator) -> Blob:
    """A blob of random size, shape and colours that stands on `place`."""
    radii = np.array([*rng.uniform(0.2, 0.8, 2), rng.uniform(0.2, 0.7)])
    return Blob(
        centre=place + 0.8 * radii * [0, 0, 1],
        radii=radii,
        ground_z=float(place[2]) + 0.05,
        surface=rough_surface(Perlin(rng)),
        texture=Perlin(rng),
        colours=rng.uniform(10, 245, (2, 3)),
    )


def _shortened(
    frame: StoredFrame, blob: Blob
) -> tuple[Int64[np.ndarray, "N"], Float[np.ndarray, "N"], Float[np.ndarray, "N 3"]]:
    """Points whose rays meet the blob, the range at which they do, and their directions.

    None when more than `MAX_HIDDEN` of the rays end well before the blob: it would be hidden, and
    the image would show it all the same.
    """
    xyz = frame.points[:, :3].astype(np.float64)
    range_m = np.linalg.norm(xyz, axis=1)
    ray = xyz / np.maximum(range_m, 1e-6)[:, None]
    distance = first_hits(blob, np.zeros(3), ray)
    meets = np.isfinite(distance)
    hidden = meets & (range_m < distance - 3 * RANGE_NOISE_M)
    if hidden.sum() > MAX_HIDDEN * meets.sum():
        return np.empty(0, np.int64), np.empty(0), np.empty((0, 3))
    rows = np.flatnonzero(meets & ~hidden)
    return rows, distance[rows], ray[rows]


def _painted(
    image: UInt8[np.ndarray, "H W 3"],
    blob: Blob,
    intrinsics: Float[np.ndarray, "4"],
    camera_from_lidar: Float[np.ndarray, "4 4"],
) -> UInt8[np.ndarray, "H W 3"]:
    """The image with the blob's colours at the pixels whose rays meet it."""
    u, v = _pixels_around(image, blob, intrinsics, camera_from_lidar)
    if len(u) == 0:
        return image
    lidar_from_camera = np.linalg.inv(camera_from_lidar.astype(np.float64))
    eye = lidar_from_camera[:3, 3]
    # A pixel's column j covers j <= u < j + 1: its ray goes through the middle.
    ray = unproject(u + 0.5, v + 0.5, np.ones(len(u)), intrinsics, lidar_from_camera) - eye
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    distance = first_hits(blob, eye, ray)
    hit = np.isfinite(distance)
    colours = blob.colour(eye + distance[hit, None] * ray[hit])
    painted = image.copy()
    painted[v[hit], u[hit]] = np.rint(colours).clip(0, 255).astype(np.uint8)
    return painted


def _pixels_around(
    image: UInt8[np.ndarray, "H W 3"],
    blob: Blob,
    intrinsics: Float[np.ndarray, "4"],
    camera_from_lidar: Float[np.ndarray, "4 4"],
) -> tuple[Int64[np.ndarray, "N"], Int64[np.ndarray, "N"]]:
    """Columns and rows of the pixels in a box around the blob; none where it is not before it."""
    corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
    uv, depth = project(blob.centre + blob.reach * corners, intrinsics, camera_from_lidar)
    if depth.min() < 0.5:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    size = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(uv.min(axis=0)), 0, size).astype(np.int64)
    high = np.clip(np.ceil(uv.max(axis=0)), 0, size).astype(np.int64)
    v, u = np.mgrid[low[1] : high[1], low[0] : high[0]]
    return u.ravel(), v.ravel()


def road_place(
    frame: StoredFrame,
    intrinsics: Float[np.ndarray, "4"],
    camera_from_lidar: Float[np.ndarray, "4 4"],
    rng: np.random.Generator,
    road_ids: Sequence[int],
) -> Float[np.ndarray, "3"] | None:
    """A random road point, mostly one that the camera sees; None where there is none.

    Points are drawn in proportion to their range, for the road near the car holds most points but
    little of the road.
    """
    range_m = np.linalg.norm(frame.points[:, :3], axis=1)
    rows = np.flatnonzero(
        _is_road(frame, road_ids) & (range_m > NEAREST_M) & (range_m < FARTHEST_M)
    )
    if len(rows) == 0:
        return None
    uv, depth = project(frame.points[rows], intrinsics, camera_from_lidar)
    seen = rows[in_view(uv, depth, frame.image.shape[2], frame.image.shape[1])]
    if rng.random() < IN_VIEW_SHARE and len(seen):
        rows = seen
    weight = range_m[rows].astype(np.float64)
    return frame.points[rng.choice(rows, p=weight / weight.sum()), :3].astype(np.float64)


def _is_road(frame: StoredFrame, road_ids: Sequence[int]) -> Bool[np.ndarray, "P"]:
    return is_one_of(road_ids)[frame.point_class] & (frame.point_label == NORMAL_LABEL)


def _moved(
    frame: StoredFrame, rows: Int64[np.ndarray, "N"], places: Float[np.ndarray, "N 3"]
) -> StoredFrame:
    """Points `rows` at their new places, labelled as outliers; copies, as frames are views."""
    points, label = frame.points.copy(), frame.point_label.copy()
    points[rows, :3] = places
    points[rows, 3] = np.exp(-_ATTENUATION_PER_M * np.linalg.norm(places, axis=1))
    label[rows] = OUTLIER_LABEL
    return frame._replace(points=points, point_label=label)
