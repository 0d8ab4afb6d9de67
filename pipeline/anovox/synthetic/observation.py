"""What the sensors see of a scene in one frame: every modality from one pair of casts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.anovox.geometry import voxel_from_lidar, voxelise
from pipeline.anovox.labels import EGO
from pipeline.anovox.synthetic.casting import GROUND, Grid, Hits, cast
from pipeline.anovox.synthetic.ground import Ground
from pipeline.anovox.synthetic.light import Light, build_light
from pipeline.anovox.synthetic.scenery import CAR
from pipeline.anovox.synthetic.sensors import (
    LIDAR_RANGE_M,
    MOUNT_HEIGHT_M,
    MOUNT_LOCATION,
    MOUNT_ROTATION,
    NOISE_M,
    Sensors,
)
from pipeline.anovox.synthetic.shading import shade, to_world
from pipeline.anovox.synthetic.solids import Solids, seen_from
from pipeline.anovox.synthetic.town import town_ground
from pipeline.anovox.synthetic.world import VIEW_M, SceneWorld

SKY_CLASS = 11
ATTENUATION_PER_M = 0.004
_GROUND_OBJECT, _FIRST_OBJECT = 1, 16


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One frame's arrays as AnoVox stores them, in LiDAR file axes (x forward, y left, z up)."""

    image: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    """(H, W) along the optical axis; infinite in the sky."""
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint8]
    """(H, W, 3): native class, object id low byte, high byte."""
    points: NDArray[np.float32]
    """(P, 4): x, y, z with range noise, intensity."""
    exact_xyz: NDArray[np.floating]
    """(P, 3): the same rays without noise."""
    point_class: NDArray[np.uint8]
    voxels: NDArray[np.uint16]


class Observer:
    """Sensors in one scene; keeps what does not change from frame to frame."""

    def __init__(self, world: SceneWorld, sensors: Sensors) -> None:
        self._world, self._sensors = world, sensors
        self._ground: Ground = town_ground(world.town)
        self._light = _scene_light(world)

    def observe(self, frame: int) -> Observation:
        """All arrays of one frame; random only by the scene's seed and the frame."""
        world = self._world
        pose = world.poses[frame]
        rng = np.random.default_rng([world.seed, 3, world.plan.number, frame])
        solids = seen_from(world.solids_at(frame), pose, MOUNT_HEIGHT_M)
        exact_xyz, point_class = self._cloud(solids, pose)
        points = _measured(exact_xyz, rng)
        voxels, _ = voxelise(
            exact_xyz,
            point_class,
            voxel_from_lidar=voxel_from_lidar(MOUNT_LOCATION, MOUNT_ROTATION),
        )
        near = solids.take(np.flatnonzero(_is_near(solids, VIEW_M) & (solids.x > -8.0)))
        camera = self._sensors.camera
        hits = cast(camera, near, ground=-MOUNT_HEIGHT_M)
        semantic, instance = self._ids(hits, near, pose)
        image = shade(
            hits,
            camera,
            near,
            pose=pose,
            height=MOUNT_HEIGHT_M,
            ground=self._ground,
            light=self._light,
            rng=rng,
        )
        return Observation(
            image=image,
            depth_m=hits.distance,
            semantic=semantic,
            instance=instance,
            points=points,
            exact_xyz=exact_xyz,
            point_class=point_class,
            voxels=voxels,
        )

    def _cloud(
        self, solids: Solids, pose: NDArray[np.float64]
    ) -> tuple[NDArray[np.floating], NDArray[np.uint8]]:
        """Points (P, 3) within range, channel by channel in firing order, and their classes."""
        grid, order = self._sensors.lidar, self._sensors.file_columns
        near = solids.take(np.flatnonzero(_is_near(solids, LIDAR_RANGE_M)))
        hits = cast(grid, near, ground=-MOUNT_HEIGHT_M)
        distance, surface = hits.distance[:, order], hits.surface[:, order]
        limit = LIDAR_RANGE_M / np.sqrt(1 + grid.dz.astype(np.float64) ** 2)
        row, column = np.nonzero(distance <= limit[:, None])
        t, surface = distance[row, column], surface[row, column]
        ray = order[column]
        xyz = np.stack([t * grid.dx[ray], t * grid.dy[ray], t * grid.dz[row]])
        return xyz.T, self._classes(surface, near, xyz[0], xyz[1], pose)

    def _classes(
        self,
        surface: NDArray[np.int16],
        solids: Solids,
        x: NDArray[np.floating],
        y: NDArray[np.floating],
        pose: NDArray[np.float64],
    ) -> NDArray[np.uint8]:
        """Class id (P,) of hits at sensor-frame x, y."""
        classes = self._class_table(solids)[surface]
        on_ground = np.flatnonzero(surface == GROUND)
        world_x, world_y = to_world(x[on_ground], y[on_ground], pose)
        classes[on_ground] = self._ground.label_at(world_x, world_y)
        return classes

    def _class_table(self, solids: Solids) -> NDArray[np.uint8]:
        """Class id by `Hits.surface`; the ground's is looked up by place instead."""
        heads = np.array([SKY_CLASS, 0], np.uint8)
        return np.concatenate([heads, self._world.class_ids[solids.thing]])

    def _ids(
        self, hits: Hits, solids: Solids, pose: NDArray[np.float64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """SEMANTIC-CAM (H, W) and INSTANCE-CAM (H, W, 3)."""
        surface = hits.surface.reshape(-1)
        x, y = _plane(hits, self._sensors.camera)
        semantic = self._classes(surface, solids, x, y, pose)
        native = np.where(semantic == EGO, np.uint8(CAR), semantic)
        objects = np.array([0, _GROUND_OBJECT], np.uint16)
        objects = np.concatenate([objects, (solids.thing + _FIRST_OBJECT).astype(np.uint16)])
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
    points[3] = np.exp(distance * np.float32(-ATTENUATION_PER_M))
    return points.T


def _scene_light(world: SceneWorld) -> Light:
    solids = world.solids_at(world.reference)
    stands = np.array([t.speed == 0 and t.follow_gap is None for t in world.things] + [False])
    return build_light(
        world.weather,
        world.sun_azimuth,
        solids.take(np.flatnonzero(stands[solids.thing])),
        world.poses[:, :2],
        np.random.default_rng([world.seed, 4, world.plan.number]),
    )
