"""What a scene's small files say: ACTION, ANOMALY, ROUTE_MAP, the scenario list.

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

from pipeline.datasets.anovox.geometry import carla_transform
from pipeline.synthetic import sensors
from pipeline.synthetic.props import AnomalyType, anomaly_type_id, size_name
from pipeline.synthetic.scenery import BUS, CAR, PEDESTRIAN, TRUCK
from pipeline.synthetic.sensors import SensorMount
from pipeline.synthetic.world import SceneWorld

VEHICLE = "vehicle.lincoln.mkz_2020"
_VEHICLE_ID, _ANOMALY_ID = 201, 202
_FULL_BRAKE_MPS2 = 6.0
_ROUTE_BEHIND_M, _ROUTE_AHEAD_M = 5.0, 110.0
_MAP_PX, _PX_PER_M, _EGO_ROW = 192, 5, 152


def action_record(
    world: SceneWorld, frame: int, frame_id: int, mounts: Sequence[SensorMount]
) -> dict[str, Any]:
    """The 28 lines of an ACTION file; the matrices are of the last camera and the last LiDAR."""
    return {
        "frame_id": frame_id,
        "scenario_id": world.plan.scene_id,
        "vehicle_id": _VEHICLE_ID,
        "vehicle_type_id": VEHICLE,
        **_driving(world, world.speed, world.poses, frame),
        **_matrices(world.poses[frame], mounts),
    }


def anomaly_record(world: SceneWorld, frame_id: int) -> dict[str, Any]:
    """An ANOMALY file of a static scene (variant A)."""
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


def lead_record(world: SceneWorld, frame: int, frame_id: int) -> dict[str, Any]:
    """An ANOMALY file of a dynamic scene, variant A: the car ahead as the actor that was placed."""
    lead = world.lead
    assert lead is not None
    x, y, yaw = lead.poses[frame].tolist()
    red, green, blue = (round(255 * channel) for channel in lead.thing.solids[1].colour)
    return {
        "frame_id": frame_id,
        "scenario_id": world.plan.scene_id,
        "anomaly_id": _ANOMALY_ID,
        "anomaly_type_id": lead.blueprint,
        "anomaly_is_alive": True,
        "semantic_tags": [lead.thing.label],
        "location": _carla_location(x, y),
        "velocity": _carla_along(yaw, float(lead.speed[frame])),
        "acceleration": _carla_along(yaw, float(lead.acceleration[frame])),
        "base_type": "truck" if lead.thing.label == TRUCK else "car",
        "color": f"{red},{green},{blue}",
        "number_of_wheels": 4,
        "role_name": "anomaly",
        "sticky_control": True,
    }


def lead_action_record(
    world: SceneWorld, frame: int, frame_id: int, mounts: Sequence[SensorMount]
) -> dict[str, Any]:
    """The same in variant B: the lines of ACTION for the car ahead, but the ego's own matrices."""
    lead = world.lead
    assert lead is not None
    return {
        "frame_id": frame_id,
        "scenario_id": world.plan.scene_id,
        "vehicle_id": _ANOMALY_ID,
        "vehicle_type_id": lead.blueprint,
        **_driving(world, lead.speed, lead.poses, frame),
        **_matrices(world.poses[frame], mounts),
    }


def _driving(
    world: SceneWorld, speed: NDArray[np.float64], poses: NDArray[np.float64], frame: int
) -> dict[str, Any]:
    """Speed, control and build of a vehicle with this speed (N,) and way (N, 3).

    A vehicle that stands is held by full braking in dynamic scenes alone: AnoVox threw normal and
    static ones with a brake of 1.0 away.
    """
    ahead = min(frame + 1, len(speed) - 1)
    change = float(speed[ahead] - speed[max(ahead - 1, 0)]) / sensors.FRAME_TIME_S
    turn = float(poses[ahead, 2] - poses[max(ahead - 1, 0), 2])
    stands = bool(speed[ahead] == 0 and change <= 0)
    brake = min(0.5, max(0.0, -change) * 0.1)
    if change < -_FULL_BRAKE_MPS2 or stands:
        brake = 1.0 if world.plan.kind == "dynamic" else 0.5
    wheels = ("FR", "FL", "BR", "BL")
    return {
        "speed": float(speed[frame]) * 3.6,
        "throttle": 0.0 if brake >= 0.5 else min(1.0, 0.4 + max(0.0, change) * 0.1),
        "steer": max(-1.0, min(1.0, -turn * 3.0)),
        "brake": brake,
        "hand_brake": False,
        "reverse": False,
        "gear": 2 if speed[frame] < 10.0 else 3,
        "max_rpm": 5800.0,
        "final_ratio": 4.0,
        "mass": 1845.0,
        "center_of_mass": (0.45, 0.0, -0.3),
        "steering_curve": ("0.0,1.0)", "(20.0/0.9"),
        **{f"{w}_wheel max steer angle": 70.0 if w[0] == "F" else 0.0 for w in wheels},
        **{f"{w}_wheel tire friction": 3.5 for w in wheels},
    }


def _matrices(ego: NDArray[np.float64], mounts: Sequence[SensorMount]) -> dict[str, Any]:
    camera = sensor_matrix(ego, [mount for mount in mounts if mount.has_camera][-1])
    lidar = sensor_matrix(ego, [mount for mount in mounts if mount.has_lidar][-1])
    return {
        "camera transformation matrix": camera.tolist(),
        "camera inverse transformation matrix": np.linalg.inv(camera).tolist(),
        "lidar transformation matrix": lidar.tolist(),
        "lidar inverse transformation matrix": np.linalg.inv(lidar).tolist(),
    }


def sensor_matrix(ego: NDArray[np.float64], mount: SensorMount) -> NDArray[np.float64]:
    """CARLA's sensor-to-world matrix at a mount of an ego at right-handed x, y, yaw."""
    x, y, yaw = mount.pose(ego).tolist()
    return carla_transform((x, -y, mount.height_m), 0.0, 0.0, -math.degrees(yaw))


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
    placed = world.lead.thing if world.lead and world.plan.kind == "dynamic" else None
    labels = [thing.label for thing in world.things if thing is not placed]
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
    thing, kind, lead = world.anomaly, world.plan.anomaly, world.lead
    if lead and world.plan.kind == "dynamic":
        return {
            "anomalytype": "SUDDEN_BREAKING_OF_VEHICLE_AHEAD",
            "anomaly_bp_name": lead.blueprint,
            "approximate_dist_to_spawning_waypoint": min(12, max(7, round(lead.s[0] - world.s[0]))),
        }
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


def _carla_along(yaw: float, length: float) -> tuple[float, float, float]:
    """A vector of this length along a heading."""
    return length * math.cos(yaw), -length * math.sin(yaw), 0.0
