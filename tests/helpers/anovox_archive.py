"""A miniature AnoVox archive written by hand, for reading and for damaging.

Not the synthetic writer: the reader's tests must not lean on the code that mirrors it.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.datasets.anovox import geometry, paths
from pipeline.datasets.anovox.annotations import format_key_value
from pipeline.datasets.anovox.frame import encode_depth

WIDTH, HEIGHT = 24, 16
LOCATION, ROTATION = (0, 0, 1.8), (0, 0, 0)
HASHES = {"camera": 1932154471836802243, "lidar": 6343367489698313030}
SCENE_ID = "739b5ee1-53b4-4a10-9a3c-0a8ce50e8d11"
ROAD_IDS, ANIMAL = (1, 24), 30


def folder_name(sensor_type: str, location: Sequence[float] = LOCATION) -> str:
    group = "lidar" if "LIDAR" in sensor_type else "camera"
    return paths.sensor_folder_name(sensor_type, location, ROTATION, HASHES[group])


def setup_entries() -> dict[str, dict]:
    camera = {"image_height": HEIGHT, "image_width": WIDTH, "camera_fov": 90.0}
    lidar = {"range": 100.0, "upper_fov": 15.0, "lower_fov": -25.0, "channels": 64}
    return {
        folder_name(sensor_type): {
            "sensor_type": sensor_type,
            "file_ending": ".npy" if "LIDAR" in sensor_type else ".png",
            "location": list(LOCATION),
            "rotation": list(ROTATION),
            "args": lidar if "LIDAR" in sensor_type else camera,
            "save_data": True,
        }
        for sensor_type in paths.SENSOR_TYPES
    }


def clouds(num_anomaly_points: int) -> tuple[np.ndarray, np.ndarray]:
    """LIDAR (N, 4) float32 and SEMANTIC-LIDAR (N, 4) float64, both in Fortran order."""
    rng = np.random.default_rng(7)
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(3.0, 21.0), np.arange(-4.0, 5.0)))
    road = np.stack([x + 0.1, y + 0.1, np.full(x.size, -1.8), np.full(x.size, 1.0)])
    steps = np.arange(num_anomaly_points)
    animal = np.stack([10 + 0 * steps, 0.05 * steps, -1.2 + 0.0 * steps, ANIMAL + 0 * steps])
    semantic = np.concatenate([road, animal], axis=1)
    semantic[:3] = semantic[:3].astype(np.float32)
    noisy = semantic.copy()
    noisy[:3] += rng.normal(0, 0.05, noisy[:3].shape)
    noisy[3] = np.exp(-0.004 * np.linalg.norm(semantic[:3], axis=0))
    return noisy.astype(np.float32).T, semantic.T


def action_values(frame_id: int, scene_id: str) -> dict[str, object]:
    matrix = geometry.carla_transform((100.0 + 0.5 * frame_id, -40.0, 1.8), 0, 1, 30)
    values: dict[str, object] = {"frame_id": frame_id, "scenario_id": scene_id, "speed": 31.5}
    for sensor in ("camera", "lidar"):
        values[f"{sensor} transformation matrix"] = matrix.tolist()
        values[f"{sensor} inverse transformation matrix"] = np.linalg.inv(matrix).tolist()
    return values


def anomaly_values(frame_id: int, scene_id: str) -> dict[str, object]:
    matrix = geometry.carla_transform((100.0 + 0.5 * frame_id, -40.0, 1.8), 0, 1, 30)
    x, y, z, _ = matrix @ [10.0, 0.0, -1.2, 1.0]
    return {
        "frame_id": frame_id,
        "scenario_id": scene_id,
        "anomaly_id": 311,
        "anomaly_type_id": "static.prop.o_dog_animal",
        "anomaly_is_alive": True,
        "semantic_tags": [ANIMAL],
        "location": (float(x), float(y), float(z)),
        "size": "small",
    }


def write_images(scene: Path, frame_id: int, num_anomaly_pixels: int) -> None:
    rng = np.random.default_rng(frame_id)
    semantic = np.full((HEIGHT, WIDTH), 1, np.uint8)
    semantic.ravel()[:num_anomaly_pixels] = ANIMAL
    images = {
        "RGB-CAM": rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8),
        "DEPTH_CAM": encode_depth(np.full((HEIGHT, WIDTH), 12.5)),
        "SEMANTIC-CAM": semantic,
        "INSTANCE-CAM": np.zeros((HEIGHT, WIDTH, 3), np.uint8),
    }
    for sensor_type, pixels in images.items():
        name = folder_name(sensor_type)
        file = scene / name / paths.sensor_file_name(name, frame_id, ".png")
        Image.fromarray(pixels).save(file)


def write_frame(
    scene: Path, frame_id: int, kind: str, num_anomaly_points: int, num_anomaly_pixels: int
) -> None:
    write_images(scene, frame_id, num_anomaly_pixels)
    lidar, semantic_lidar = clouds(num_anomaly_points)
    for sensor_type, table in (("LIDAR", lidar), ("SEMANTIC-LIDAR", semantic_lidar)):
        name = folder_name(sensor_type)
        np.save(scene / name / paths.sensor_file_name(name, frame_id, ".npy"), table)
    voxels, _ = geometry.voxelise(
        semantic_lidar,
        semantic_lidar[:, 3].astype(np.uint8),
        voxel_from_lidar=geometry.voxel_from_lidar(LOCATION, ROTATION),
    )
    np.save(scene / "VOXEL_GRID" / f"VOXEL_GRID_{frame_id}.npy", voxels)
    scene_id = scene.name.removeprefix("Scenario_")
    action = format_key_value(action_values(frame_id, scene_id))
    (scene / "ACTION" / f"ACTION_{frame_id}.csv").write_text(action)
    if kind != "normality":
        anomaly = format_key_value(anomaly_values(frame_id, scene_id))
        (scene / "ANOMALY" / f"ANOMALY_{frame_id}.csv").write_text(anomaly)
    Image.new("L", (192, 192)).save(scene / "ROUTE_MAP" / f"ROUTE_MAP_{frame_id}.png")


def write_archive(
    root: Path,
    *,
    name: str = "AnoVox_Static_Mono_Town03",
    scene_ids: Sequence[str] = (SCENE_ID,),
    frame_ids: Sequence[int] = (998, 999, 1000, 1001),
    num_anomaly_points: int = 6,
    num_anomaly_pixels: int = 16,
) -> Path:
    kind = "normality" if "Normality" in name else "static"
    if kind == "normality":
        num_anomaly_points = num_anomaly_pixels = 0
    for scene_id in scene_ids:
        scene = root / name / f"Scenario_{scene_id}"
        others = ["VOXEL_GRID", "ACTION", "ROUTE_MAP"] + ["ANOMALY"] * (kind == "static")
        for folder in [*map(folder_name, paths.SENSOR_TYPES), *others]:
            (scene / folder).mkdir(parents=True)
        (scene / "sensor_setup.json").write_text(json.dumps(setup_entries()))
        for frame_id in frame_ids:
            write_frame(scene, frame_id, kind, num_anomaly_points, num_anomaly_pixels)
    return root / name
