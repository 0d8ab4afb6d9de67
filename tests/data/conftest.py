"""Rows of random content, and prepared folders made of them without Ray."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.data import PrepareConfig
from pipeline.data.encoding import encode_image, encode_points
from pipeline.data.manifest import INDEX, Manifest, count_labels, write_manifest
from pipeline.data.schema import row_schema
from pipeline.data.shards import read_metadata, write_shard
from pipeline.datasets.anovox.class_table import ANOVOX_FACTS
from pipeline.datasets.anovox.geometry import CAMERA_FROM_LIDAR_SAME_POSE
from pipeline.datasets.protocol.geometry import intrinsics

Row = dict[str, Any]
HEIGHT, WIDTH = 6, 8


def _row(number: int, num_points: int) -> Row:
    rng = np.random.default_rng([number, num_points])
    labels = rng.choice(np.array([0, 1, 255], dtype=np.uint8), num_points)
    return {
        "archive": "AnoVox_Static_Mono_Town03",
        "scene_id": f"scene-{number % 3}",
        "frame_id": 995 + number,
        "pose": "(0, 0, 1.8)(0, 0, 0)",
        "frame_index": number,
        "time_s": number / 10,
        "kind": "static" if number % 2 else "normality",
        "town": "Town03",
        "weather": "unknown",
        "image_height": HEIGHT,
        "image_width": WIDTH,
        "num_points": num_points,
        "num_ignored_points": int((labels == 255).sum()),
        "num_anomaly_points": int((labels == 1).sum()),
        "num_anomaly_pixels": 3,
        "num_anomaly_voxels": 1,
        "frame_label": number % 2,
        "label_rule": "ids",
        "anomaly_type": "static.prop.x_animal" if number % 2 else "",
        "anomaly_category": "animal" if number % 2 else "",
        "anomaly_phase": "",
        "anomaly_size": "",
        "anomaly_distance_m": 12.5 if number % 2 else float("nan"),
        "image": rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8),
        "intrinsics": intrinsics(WIDTH, HEIGHT, 90.0) + number / 7,
        "camera_from_lidar": CAMERA_FROM_LIDAR_SAME_POSE.reshape(16),
        "world_from_lidar": rng.normal(size=16),
        "points": (rng.normal(size=(num_points, 4)) * 4).astype(np.float32),
        "point_class": rng.integers(0, 30, num_points, dtype=np.uint8),
        "point_label": labels,
        "point_voxel": rng.integers(-1, 9, num_points, dtype=np.int32),
        "voxels": rng.integers(0, 999, (num_points // 2, 4), dtype=np.uint16),
        "voxel_from_lidar": np.eye(4).reshape(16),
        "pixel_label": b"png" * number,
        "semantic": b"",
        "depth": b"\x00\xff",
    }


def _stored(row: Row, prepare: PrepareConfig) -> Row:
    """The row with image and points as `prepare` stores them."""
    points = encode_points(row["points"], prepare.points, place="a test")
    return row | {"image": encode_image(row["image"], prepare), "points": points}


def _write_prepared(
    folder: Path,
    shards: Mapping[str, Sequence[Sequence[Row]]],
    prepare: PrepareConfig = PrepareConfig(),  # noqa: B008  frozen
) -> Path:
    written = [
        write_shard(
            folder,
            split,
            f"shard-{number:05d}.arrow",
            [_stored(row, prepare) for row in rows],
            row_schema(prepare),
        )
        for split, parts in shards.items()
        for number, rows in enumerate(parts)
    ]
    frames = read_metadata(folder, written)
    images = [row["image"].shape for parts in shards.values() for rows in parts for row in rows]
    height, width = images[0][:2] if images else (HEIGHT, WIDTH)
    frames.to_parquet(folder / INDEX, index=False)
    manifest = Manifest(
        blocks_hash=folder.name,
        split_hash="0" * 16,
        inputs_hash="0" * 16,
        root="nowhere",
        prepare=dataclasses.asdict(prepare),
        num_found=len(frames),
        num_accepted=len(frames),
        num_quarantined=0,
        num_refused_scenes=0,
        num_refused_archives=0,
        dataset=ANOVOX_FACTS,
        is_synthetic=True,
        image_height=height,
        image_width=width,
        shards=written,
        labels=count_labels(frames),
        scenes=[],
    )
    write_manifest(folder, manifest)
    return folder


@pytest.fixture(scope="session")
def random_row() -> Callable[[int, int], Row]:
    """`random_row(number, num_points)`: a row of reproducible random content."""
    return _row


@pytest.fixture(scope="session")
def write_prepared() -> Callable[..., Path]:
    """`write_prepared(folder, {split: [rows of shard 0, ...]}, PrepareConfig(...))`."""
    return _write_prepared
