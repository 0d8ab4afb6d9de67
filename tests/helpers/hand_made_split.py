"""A hand-made split: batches with labels, classes, images and metadata, small enough to read."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.data.batch import Batch
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.datasets.anovox.geometry import CAMERA_FROM_LIDAR_SAME_POSE

WIDTH, HEIGHT = 64, 32
HOME, STATIC, ROAD, CAR_AGENT = 29, 20, 1, 114


@dataclass(frozen=True, kw_only=True)
class HandMade:
    """Stands in for a BlockReader of one split: `index`, `num_rows`, `num_points`, `batch`."""

    index: pd.DataFrame
    frames: list[tuple[np.ndarray, np.ndarray]]
    """Points (P, 4) and class ids (P,) of each frame."""
    image: np.ndarray

    @property
    def num_rows(self) -> int:
        return len(self.frames)

    @property
    def num_points(self) -> np.ndarray:
        return np.array([len(points) for points, _ in self.frames])

    def batch(self, rows: list[int], *, augment_seed: None = None) -> Batch:
        points = [self.frames[row][0] for row in rows]
        classes = np.concatenate([np.zeros(0, np.uint8), *(self.frames[row][1] for row in rows)])
        labels = np.select([classes == HOME, classes == CAR_AGENT], [1, 255], 0)
        sizes = torch.tensor([len(each) for each in points], dtype=torch.int64)
        pinhole = torch.tensor([WIDTH / 2, WIDTH / 2, WIDTH / 2, HEIGHT / 2])
        camera = torch.tensor(CAMERA_FROM_LIDAR_SAME_POSE, dtype=torch.float32)
        return Batch(
            image=torch.from_numpy(self.image).expand(len(rows), 3, HEIGHT, WIDTH),
            points=torch.from_numpy(np.concatenate([np.zeros((0, 4), np.float32), *points])),
            point_offset=sizes.cumsum(0),
            point_class=torch.from_numpy(classes),
            point_label=torch.from_numpy(labels.astype(np.uint8)),
            frame_label=torch.tensor(
                self.index["frame_label"].iloc[rows].tolist(), dtype=torch.uint8
            ),
            intrinsics=pinhole.expand(len(rows), 4),
            camera_from_lidar=camera.expand(len(rows), 4, 4),
            row=torch.tensor(rows, dtype=torch.int64),
            classes=ANOVOX_CLASSES,
        )


def hand_made(*, num_scenes: int, frames_per_scene: int, num_points: int, seed: int) -> HandMade:
    """Even scenes are static with a block of anomalous points, odd ones normality."""
    rng = np.random.default_rng(seed)
    frames, lines = [], []
    for scene in range(num_scenes):
        is_static = scene % 2 == 0
        for frame in range(frames_per_scene):
            is_anomalous = is_static and frame > 0
            frames.append(_cloud(rng, num_points, is_anomalous=is_anomalous))
            lines.append(_metadata(scene, frame, is_static=is_static, is_anomalous=is_anomalous))
    image = rng.integers(0, 256, (3, HEIGHT, WIDTH)).astype(np.uint8)
    return HandMade(index=pd.DataFrame(lines), frames=frames, image=image)


def _cloud(rng, num_points: int, *, is_anomalous: bool) -> tuple[np.ndarray, np.ndarray]:
    points = rng.uniform((-30, -30, -2, 0), (60, 30, 2, 1), (num_points, 4)).astype(np.float32)
    classes = rng.choice([ROAD, STATIC, CAR_AGENT], num_points, p=[0.8, 0.15, 0.05])
    if is_anomalous:
        # A tall narrow thing straight ahead, well inside the view.
        points[:30, :3] = rng.uniform((12, -0.5, -1), (13, 0.5, 1), (30, 3))
        classes[:30] = HOME
    return points, classes.astype(np.uint8)


def _metadata(scene: int, frame: int, *, is_static: bool, is_anomalous: bool) -> dict:
    return {
        "archive": "AnoVox_Static_Mono_Town03" if is_static else "AnoVox_Normality_Mono_Town03",
        "scene_id": f"scene-{scene:03d}",
        "frame_id": 1000 + frame,
        "frame_index": frame,
        "kind": "static" if is_static else "normality",
        "town": "Town03",
        "weather": ("CLEAR_NOON", "WET_NOON")[scene // 2 % 2],
        "frame_label": int(is_anomalous),
        "anomaly_category": "home" if is_static else "",
        "anomaly_distance_m": 12.5 if is_anomalous else float("nan"),
    }


@pytest.fixture(scope="session")
def make_split():
    """Factory of hand-made splits."""
    return hand_made
