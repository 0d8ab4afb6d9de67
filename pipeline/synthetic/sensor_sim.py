"""What the sensors see of a scene in one frame: every modality from one pair of casts a pose."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.anovox.class_ids import EGO
from pipeline.datasets.anovox.geometry import voxel_from_lidar, voxelise
from pipeline.synthetic.ground import Ground
from pipeline.synthetic.lighting import Light, build_light
from pipeline.synthetic.primitives import Solids, seen_from
from pipeline.synthetic.raycast import GROUND, Grid, Hits, cast
from pipeline.synthetic.scenery import CAR
from pipeline.synthetic.sensors import (
    LIDAR_RANGE_M,
    NOISE_M,
    SensorMount,
    Sensors,
)
from pipeline.synthetic.shading import shade, to_world
from pipeline.synthetic.town import town_ground
from pipeline.synthetic.world import AGENT_CAR, SUDDEN_BRAKING, VIEW_M, SceneWorld

SKY_CLASS = 11
_ATTENUATION_PER_M = 0.004
_GROUND_OBJECT, _FIRST_OBJECT = 1, 16


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One frame of the four cameras of a pose, as AnoVox stores it."""

    image: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    """(H, W) along the optical axis; infinite in the sky."""
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint8]
    """(H, W, 3): native class, object id low byte, high byte."""


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """One frame of the two LiDARs of a pose, in file axes (x forward, y left, z up)."""

    points: NDArray[np.float32]
    """(P, 4): x, y, z with range noise, intensity."""
    exact_xyz: NDArray[np.floating]
    """(P, 3): the same rays without noise."""
    point_class: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One frame's arrays as AnoVox stores them, by the pose's place in the sensor set."""

    pictures: dict[int, Picture]
    clouds: dict[int, Cloud]
    voxels: NDArray[np.uint16]
    """VOXEL_GRID (M, 4) of all clouds together."""


class Observer:
    """Sensors in one scene; keeps what does not change from frame to frame."""

    def __init__(self, world: SceneWorld, sensors: Sensors) -> None:
        self._world, self._sensors = world, sensors
        self._ground: Ground = town_ground(world.town)
        self._light = _scene_light(world)
        self._native = _native_classes(world)

    def observe(self, frame: int) -> Observation:
        """All arrays of one frame; random only by the scene's seed and the frame."""
        world, mounts = self._world, self._sensors.mounts
        solids, class_ids = world.solids_at(frame), world.class_ids(frame)
        pictures: dict[int, Picture] = {}
        clouds: dict[int, Cloud] = {}
        for number, mount in enumerate(mounts):
            rng = np.random.default_rng(
                [world.seed, 3, world.plan.number, frame, *([number] if number else [])]
            )
            view = _View(
                pose=mount.pose(world.poses[frame]),
                height=mount.height_m,
                solids=seen_from(solids, mount.pose(world.poses[frame]), mount.height_m),
                class_ids=class_ids,
                rng=rng,
            )
            if mount.has_lidar:
                clouds[number] = self._cloud(view)
            if mount.has_camera:
                pictures[number] = self._picture(view)
        return Observation(pictures=pictures, clouds=clouds, voxels=voxel_grid(clouds, mounts))

    def _picture(self, view: "_View") -> Picture:
        near = view.taken(_is_near(view.solids, VIEW_M) & (view.solids.x > -8.0))
        camera = self._sensors.camera
        hits = cast(camera, near.solids, ground=-view.height)
        semantic, instance = self._ids(hits, near)
        image = shade(
            hits,
            camera,
            near.solids,
            pose=view.pose,
            height=view.height,
            ground=self._ground,
            light=self._light,
            rng=view.rng,
        )
        return Picture(image=image, depth_m=hits.distance, semantic=semantic, instance=instance)

    def _cloud(self, view: "_View") -> Cloud:
        """Points within range, channel by channel in firing order."""
        grid, order = self._sensors.lidar, self._sensors.file_columns
        near = view.taken(_is_near(view.solids, LIDAR_RANGE_M))
        hits = cast(grid, near.solids, ground=-view.height)
        distance, surface = hits.distance[:, order], hits.surface[:, order]
        limit = LIDAR_RANGE_M / np.sqrt(1 + grid.dz.astype(np.float64) ** 2)
        row, column = np.nonzero(distance <= limit[:, None])
        t, surface = distance[row, column], surface[row, column]
        ray = order[column]
        xyz = np.stack([t * grid.dx[ray], t * grid.dy[ray], t * grid.dz[row]])
        point_class = self._classes(surface, near, xyz[0], xyz[1])
        points = _measured(xyz.T, view.rng)
        return Cloud(points=points, exact_xyz=xyz.T, point_class=point_class)

    def _classes(
        self,
        surface: NDArray[np.int16],
        view: "_View",
        x: NDArray[np.floating],
        y: NDArray[np.floating],
    ) -> NDArray[np.uint8]:
        """Class id (P,) of hits at sensor-frame x, y; the ground's is looked up by place."""
        heads = np.array([SKY_CLASS, 0], np.uint8)
        classes = np.concatenate([heads, view.class_ids[view.solids.thing]])[surface]
        on_ground = np.flatnonzero(surface == GROUND)
        world_x, world_y = to_world(x[on_ground], y[on_ground], view.pose)
        classes[on_ground] = self._ground.label_at(world_x, world_y)
        return classes

    def _ids(self, hits: Hits, view: "_View") -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """SEMANTIC-CAM (H, W) and INSTANCE-CAM (H, W, 3)."""
        surface = hits.surface.reshape(-1)
        x, y = _plane(hits, self._sensors.camera)
        semantic = self._classes(surface, view, x, y)
        native = self._native[semantic]
        objects = np.array([0, _GROUND_OBJECT], np.uint16)
        objects = np.concatenate([objects, (view.solids.thing + _FIRST_OBJECT).astype(np.uint16)])
        number = objects[surface]
        low, high = (number & 255).astype(np.uint8), (number >> 8).astype(np.uint8)
        shape = hits.surface.shape
        instance = np.stack([native, low, high], axis=-1).reshape(*shape, 3)
        return semantic.reshape(shape), instance


def _plane(hits: Hits, grid: Grid) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Sensor-frame x and y (R * C,) of all hits."""
    x, y = hits.distance * grid.dx, hits.distance * grid.dy
    return x.reshape(-1), y.reshape(-1)


def _is_near(solids: Solids, reach: float) -> NDArray[np.bool_]:
    return np.hypot(solids.x, solids.y) - solids.radius < reach


def _measured(exact_xyz: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.float32]:
    """Points (P, 4): Gaussian noise along each ray, intensity from the true range."""
    distance = np.sqrt(np.einsum("pa,pa->p", exact_xyz, exact_xyz))
    noise = rng.standard_normal(len(distance), dtype=np.float32) * np.float32(NOISE_M)
    points = np.empty((4, len(distance)), np.float32)
    points[:3] = exact_xyz.T * (1 + noise / distance)
    points[3] = np.exp(distance * np.float32(-_ATTENUATION_PER_M))
    return points.T


def voxel_grid(clouds: dict[int, Cloud], mounts: tuple[SensorMount, ...]) -> NDArray[np.uint16]:
    """VOXEL_GRID (M, 4) of the clouds of a set's poses, appended to one another in its order.

    Each is moved as AnoVox moves it (`geometry.voxel_from_lidar`), so those of MULTI do not meet.
    """
    moved: list[NDArray[np.float64]] = []
    for number, cloud in clouds.items():
        matrix = voxel_from_lidar(mounts[number].location, mounts[number].rotation)
        # Not `@`: BLAS wakes its threads for a product this small, which costs 25 ms of CPU time.
        turned = np.einsum("ij,jp->ip", matrix[:3, :3], cloud.exact_xyz.T.astype(np.float64))
        moved.append(turned + matrix[:3, 3:])
    point_class = np.concatenate([cloud.point_class for cloud in clouds.values()])
    grid_points = np.concatenate(moved, axis=1).T
    voxels, _ = voxelise(grid_points, point_class, voxel_from_lidar=np.eye(4))
    return voxels


def _native_classes(world: SceneWorld) -> NDArray[np.uint8]:
    """CARLA's own class (256,) of every class id of the scene, as INSTANCE-CAM has it."""
    native = np.arange(256, dtype=np.uint8)
    native[EGO] = CAR
    if world.lead:
        native[[SUDDEN_BRAKING, AGENT_CAR]] = world.lead.thing.label
    return native


@dataclass(frozen=True, kw_only=True)
class _View:
    """What one pose has before it in one frame."""

    pose: NDArray[np.float64]
    """Of the sensors in the world: x, y, yaw."""
    height: float
    solids: Solids
    """In the sensors' frame."""
    class_ids: NDArray[np.uint8]
    """By thing."""
    rng: np.random.Generator

    def taken(self, rows: NDArray[np.bool_]) -> "_View":
        """With these solids only."""
        return replace(self, solids=self.solids.take(np.flatnonzero(rows)))


def _scene_light(world: SceneWorld) -> Light:
    solids = world.solids_at(world.reference)
    return build_light(
        world.weather,
        world.sun_azimuth,
        solids.take(np.flatnonzero(world.stands[solids.thing])),
        world.poses[:, :2],
        np.random.default_rng([world.seed, 4, world.plan.number]),
    )
