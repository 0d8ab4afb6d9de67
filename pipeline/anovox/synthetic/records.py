"""The text files of a scene: sensor_setup.json, ACTION, ANOMALY, ROUTE_MAP, the scenario list.

The world is right-handed; everything here leaves in CARLA's left-handed axes (y to the right,
yaw clockwise in degrees), as AnoVox has it.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.anovox.geometry import carla_transform
from pipeline.anovox.names import SENSOR_TYPES, sensor_folder_name
from pipeline.anovox.synthetic import sensors
from pipeline.anovox.synthetic.clutter import AnomalyType, anomaly_type_id, size_name
from pipeline.anovox.synthetic.scenery import BUS, CAR, PEDESTRIAN, TRUCK
from pipeline.anovox.synthetic.sensors import MOUNT_LOCATION, MOUNT_ROTATION
from pipeline.anovox.synthetic.world import SceneWorld
from pipeline.config import SyntheticConfig

VEHICLE = "vehicle.lincoln.mkz_2020"
_VEHICLE_ID, _ANOMALY_ID = 201, 202
_ROUTE_BEHIND_M, _ROUTE_AHEAD_M = 5.0, 110.0
_MAP_PX, _PX_PER_M, _EGO_ROW = 192, 5, 152


def sensor_folders(seed: int) -> dict[str, str]:
    """Folder name by sensor type; cameras share one hash and LiDARs another, fixed by the seed."""
    low, high = 10**17, 9 * 10**18
    camera, lidar = np.random.default_rng([seed, 5]).integers(low, high, 2).tolist()
    return {
        kind: sensor_folder_name(
            kind, MOUNT_LOCATION, MOUNT_ROTATION, lidar if "LIDAR" in kind else camera
        )
        for kind in SENSOR_TYPES
    }


def sensor_setup_text(config: SyntheticConfig) -> str:
    """`sensor_setup.json`: one line, one entry per sensor folder."""
    camera = {
        "image_height": config.image_height,
        "image_width": config.image_width,
        "camera_fov": sensors.CAMERA_FOV_DEG,
    }
    lidar = {
        "range": sensors.LIDAR_RANGE_M,
        "upper_fov": sensors.UPPER_FOV_DEG,
        "lower_fov": sensors.LOWER_FOV_DEG,
        "channels": config.num_channels,
        "rotation_frequency": sensors.ROTATION_FREQUENCY_HZ,
        "points_per_second": config.points_per_second,
        "noise_stddev": sensors.NOISE_M,
        "dropoff_rate": 0.0,
        "dropoff_intensity_limit": 0.0,
        "dropoff_zero_intensity": 0.0,
    }
    setup = {
        folder: {
            "sensor_type": kind,
            "file_ending": ".npy" if "LIDAR" in kind else ".png",
            "location": list(MOUNT_LOCATION),
            "rotation": list(MOUNT_ROTATION),
            "args": lidar if "LIDAR" in kind else camera,
            "save_data": True,
        }
        for kind, folder in sensor_folders(config.seed).items()
    }
    return json.dumps(setup)


def action_record(world: SceneWorld, frame: int, frame_id: int) -> dict[str, Any]:
    """The 28 lines of an ACTION file."""
    ahead = min(frame + 1, world.num_frames - 1)
    change = float(world.speed[ahead] - world.speed[max(ahead - 1, 0)]) / sensors.FRAME_TIME_S
    turn = float(world.poses[ahead, 2] - world.poses[max(ahead - 1, 0), 2])
    matrix = sensor_matrix(world.poses[frame])
    inverse = np.linalg.inv(matrix)
    wheels = ("FR", "FL", "BR", "BL")
    return {
        "frame_id": frame_id,
        "scenario_id": world.plan.scene_id,
        "vehicle_id": _VEHICLE_ID,
        "vehicle_type_id": VEHICLE,
        "speed": float(world.speed[frame]) * 3.6,
        "throttle": min(1.0, 0.4 + max(0.0, change) * 0.1),
        "steer": max(-1.0, min(1.0, -turn * 3.0)),
        "brake": min(0.5, max(0.0, -change) * 0.1),
        "hand_brake": False,
        "reverse": False,
        "gear": 2 if world.speed[frame] < 10.0 else 3,
        "max_rpm": 5800.0,
        "final_ratio": 4.0,
        "mass": 1845.0,
        "center_of_mass": (0.45, 0.0, -0.3),
        "steering_curve": ("0.0,1.0)", "(20.0/0.9"),
        **{f"{w}_wheel max steer angle": 70.0 if w[0] == "F" else 0.0 for w in wheels},
        **{f"{w}_wheel tire friction": 3.5 for w in wheels},
        "camera transformation matrix": matrix.tolist(),
        "camera inverse transformation matrix": inverse.tolist(),
        "lidar transformation matrix": matrix.tolist(),
        "lidar inverse transformation matrix": inverse.tolist(),
    }


def anomaly_record(world: SceneWorld, frame_id: int) -> dict[str, Any]:
    """An ANOMALY file of the kind that static scenes have (variant A)."""
    kind, size, thing = world.plan.anomaly, world.anomaly_size, world.anomaly
    assert isinstance(kind, AnomalyType)
    assert size is not None
    assert thing is not None
    return {
        "frame_id": frame_id,
        "scenario_id": world.plan.scene_id,
        "anomaly_id": _ANOMALY_ID,
        "anomaly_type_id": anomaly_type_id(kind),
        "anomaly_is_alive": True,
        "semantic_tags": [kind.label],
        "location": _carla_location(thing.x, thing.y),
        "velocity": (0.0, 0.0, 0.0),
        "acceleration": (0.0, 0.0, 0.0),
        "role_name": "anomaly",
        "size": size_name(size),
    }


def sensor_matrix(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """CARLA's sensor-to-world matrix for an ego at right-handed x, y, yaw."""
    x, y, yaw = pose.tolist()
    return carla_transform((x, -y, sensors.MOUNT_HEIGHT_M), 0.0, 0.0, -math.degrees(yaw))


def waypoints(world: SceneWorld) -> NDArray[np.float64]:
    """Poses (N, 3) of the route every metre, from before the first frame to beyond the last."""
    return world.route.middle(
        np.arange(world.s[0] - _ROUTE_BEHIND_M, world.s[-1] + _ROUTE_AHEAD_M, 1.0)
    )


def route_map(route: NDArray[np.float64], pose: NDArray[np.float64]) -> NDArray[np.uint8]:
    """ROUTE_MAP (192, 192): the route as a thick line, ego-aligned, forward up, 5 px per metre."""
    dx, dy = route[:, 0] - pose[0], route[:, 1] - pose[1]
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    forward, right = cos * dx + sin * dy, sin * dx - cos * dy
    column = (_MAP_PX - 1) * (_MAP_PX / 2 + _PX_PER_M * right) / _MAP_PX
    row = (_MAP_PX - 1) * (_EGO_ROW - _PX_PER_M * forward) / _MAP_PX
    image = Image.new("L", (_MAP_PX, _MAP_PX), 0)
    near = np.flatnonzero((np.abs(forward) < 60) & (np.abs(right) < 60))
    line = [(round(column[i]), round(row[i])) for i in near.tolist()]
    ImageDraw.Draw(image).line(line, fill=255, width=16, joint="curve")
    return np.asarray(image)


def scenario_text(town: str, worlds: Sequence[SceneWorld]) -> str:
    """`scenario_config_map_<Town>.json` of one archive."""
    scenarios = [_scenario(world) for world in worlds]
    return json.dumps({"scenario_definition": {"map": town, "scenarios": scenarios}}, indent=4)


def _scenario(world: SceneWorld) -> dict[str, Any]:
    route = waypoints(world)
    places = [_location(x, y) for x, y in route[:, :2].tolist()]
    labels = [thing.label for thing in world.things]
    num_vehicles = sum(labels.count(label) for label in (CAR, TRUCK, BUS))
    return {
        "anomaly_config": _anomaly_config(world, route),
        "id": world.plan.scene_id,
        "ego_spawnpoint": _spawnpoint(route[0]),
        "ego_end_spawnpoint": _spawnpoint(route[-1]),
        "ego_route": {"locations": places},
        "weather_preset": world.weather.name,
        "npc_vehicle_amount": num_vehicles,
        "npc_walker_amount": labels.count(PEDESTRIAN),
    }


def _anomaly_config(world: SceneWorld, route: NDArray[np.float64]) -> dict[str, Any]:
    thing, kind = world.anomaly, world.plan.anomaly
    if thing is None or kind is None:
        none = {"anomaly_bp_name": "---", "distance_to_waypoint": 0, "rotation": 0}
        return {"anomalytype": "NORMALITY", **none}
    nearest = np.hypot(route[:, 0] - thing.x, route[:, 1] - thing.y).argmin()
    return {
        "anomalytype": "STATIC",
        "anomaly_bp_name": anomaly_type_id(kind),
        "distance_to_waypoint": int(nearest),
        "rotation": round(math.degrees(-thing.yaw) % 360),
    }


def _spawnpoint(pose: NDArray[np.float64]) -> dict[str, Any]:
    x, y, yaw = pose.tolist()
    rotation = {"pitch": 0.0, "yaw": -math.degrees(yaw), "roll": 0.0}
    return {"location": _location(x, y), "rotation": rotation}


def _location(x: float, y: float) -> dict[str, float]:
    return dict(zip("xyz", _carla_location(x, y), strict=True))


def _carla_location(x: float, y: float) -> tuple[float, float, float]:
    return x, -y, 0.0
