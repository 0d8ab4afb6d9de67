"""No plain feature may tell anomalies from ordinary small objects: only shape and pattern may.

Features are judged as they are (monotone) and as a 40-bin likelihood ratio fitted on other scenes.
"""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.class_ids import is_anomaly
from pipeline.datasets.anovox.geometry import CAMERA_FROM_LIDAR_SAME_POSE
from pipeline.datasets.protocol.geometry import in_view, intrinsics, project
from pipeline.synthetic.plan import plan_scenes
from pipeline.synthetic.props import DYNAMIC, STATIC
from pipeline.synthetic.sensor_sim import Observer
from pipeline.synthetic.sensors import build_sensors
from pipeline.synthetic.world import build_scene
from tests.helpers.seen import Seen, see

CONFIG = SyntheticConfig(
    seed=21,
    num_scenes=160,
    num_frames=6,
    kinds=["static"],
    image_width=384,
    image_height=256,
    num_channels=32,
    points_per_second=250_000,
)
FEATURES = (
    *("height", "range", "distance from the lane", "side", "neighbours", "column", "row"),
    *("red", "green", "blue", "saturation", "brightness", "frame", "object points", "points"),
)
NUM_BINS = 40


def features(seen: Seen, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Plain features (P, F) of points on small objects, nan out of view; which are anomalous."""
    height, width = seen.semantic.shape
    chosen = is_anomaly(seen.point_class) | np.isin(seen.point_class, (STATIC, DYNAMIC))
    points = seen.points[chosen]
    cells = np.floor(seen.points[:, :3] / 0.5).astype(int) @ [1, 1000, 1_000_000]
    _, cell, count = np.unique(cells, return_inverse=True, return_counts=True)
    uv, depth = project(
        seen.exact_xyz[chosen], intrinsics(width, height, 90), CAMERA_FROM_LIDAR_SAME_POSE
    )
    uv[~in_view(uv, depth, width, height)] = np.nan
    column, row = np.nan_to_num(uv).astype(int).T
    colour = np.where(np.isnan(uv[:, :1]), np.nan, seen.image[row, column])
    x, y, z = points[:, :3].T
    one = np.ones(len(points))
    columns = (
        *(z, np.hypot(x, y), np.abs(y), y, count[cell][chosen], uv[:, 0], uv[:, 1]),
        *(*colour.T, np.ptp(colour, axis=1), colour.mean(1)),
        *(frame * one, chosen.sum() * one, len(chosen) * one),
    )
    return np.stack(columns, axis=1), is_anomaly(seen.point_class)[chosen]


@pytest.fixture(scope="module")
def measured() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (P, F), anomalous (P,), scene number (P,)."""
    sensors = build_sensors(CONFIG)
    parts = []
    for plan in plan_scenes(CONFIG):
        observer = Observer(build_scene(CONFIG, plan), sensors)
        for frame in (1, 4):
            values, anomalous = features(see(observer, frame), frame)
            parts.append((values, anomalous, np.full(len(values), plan.number)))
    values, anomalous, scene = (np.concatenate(part) for part in zip(*parts, strict=True))
    return values, anomalous, scene


def likelihood_ratio(value: np.ndarray, anomalous: np.ndarray, fit: np.ndarray) -> np.ndarray:
    known = ~np.isnan(value)
    edges = np.quantile(value[fit & known], np.linspace(0, 1, NUM_BINS + 1)[1:-1])
    place = np.digitize(value, edges)
    counts = [
        np.bincount(place[fit & known & (anomalous == is_one)], minlength=NUM_BINS) + 1.0
        for is_one in (False, True)
    ]
    return np.log(counts[1] / counts[1].sum() / (counts[0] / counts[0].sum()))[place]


@pytest.mark.slow
def test_no_plain_feature_separates_anomalies_from_ordinary_small_objects(
    measured: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    values, anomalous, scene = measured
    assert 0.05 < anomalous.mean() < 0.3
    fit = scene % 2 == 0
    found = {}
    for name, value in zip(FEATURES, values.T, strict=True):
        known = ~np.isnan(value)
        monotone = roc_auc_score(anomalous[known], value[known])
        test = known & ~fit
        binned = roc_auc_score(anomalous[test], likelihood_ratio(value, anomalous, fit)[test])
        found[name] = (max(monotone, 1 - monotone), binned)
    worst = {name: pair for name, pair in found.items() if max(pair) > 0.7}
    assert not worst, found
