"""A blob of Perlin noise on the ground, and where rays from a sensor meet it.

One shape answers both sensors: LiDAR rays end on its surface, camera rays take its colour, so what
the one sees is where the other sees it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pipeline.data.transforms.perlin import Perlin

ROUGHNESS = 0.45
"""How far the surface leaves the ellipsoid, as a share of its radius, at noise 1."""
BUMPS = 1.6
"""Lattice cells of the noise per radius of the unit sphere."""
NUM_STEPS = 24
"""Places along a ray at which it is asked whether it is inside, before the surface is refined."""
NUM_HALVINGS = 6
FACETS = (64, 128)
"""Facets of the surface from pole to pole and around: of 3 degrees, 4 cm at the largest blob, which
the LiDAR's noise hides; noise at every place asked for would take ten times as long."""
TEXTURE_PER_M = 5.0
"""Lattice cells of the colour's noise per metre."""


@dataclass(frozen=True, kw_only=True)
class Blob:
    """An ellipsoid with a rough surface, cut off at the ground; LiDAR frame, metres."""

    centre: Float[np.ndarray, "3"]
    radii: Float[np.ndarray, "3"]
    ground_z: float
    """Nothing of the blob lies below."""
    surface: Float[np.ndarray, "rows columns"]
    """Factor on the ellipsoid's radius per facet, by the direction from the centre."""
    texture: Perlin
    colours: Float[np.ndarray, "2 3"]
    """Red, green and blue (0 to 255) at the texture's two ends."""

    @property
    def reach(self) -> float:
        """Radius of a sphere around the centre that holds the blob."""
        return float(self.radii.max() * (1 + ROUGHNESS))

    def holds(self, points: Float[np.ndarray, "*N 3"]) -> Bool[np.ndarray, "*N"]:
        """Which points lie inside."""
        x, y, z = np.moveaxis((points - self.centre) / self.radii, -1, 0)
        across = np.hypot(x, y)
        rows, columns = self.surface.shape
        row = np.arctan2(across, z) * (rows / np.pi)
        column = (np.arctan2(y, x) / (2 * np.pi) % 1) * columns
        place = np.minimum(row.astype(np.int64), rows - 1), column.astype(np.int64) % columns
        return (np.hypot(across, z) < self.surface[place]) & (points[..., 2] > self.ground_z)

    def colour(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Colours at points of the surface, darker towards the ground as under an open sky."""
        noise = self.texture.octaves(points * TEXTURE_PER_M, 3)
        share = np.clip(0.5 + noise, 0, 1)[:, None]
        height = (points[:, 2] - self.ground_z) / max(float(self.radii[2]) * 2, 1e-6)
        light = 0.55 + 0.45 * np.clip(height, 0, 1)[:, None]
        return light * (share * self.colours[0] + (1 - share) * self.colours[1])


def rough_surface(shape: Perlin) -> Float[np.ndarray, "rows columns"]:
    """Perlin noise of direction as factors on a radius, for `Blob.surface`."""
    rows, columns = FACETS
    polar, around = np.meshgrid(
        (np.arange(rows) + 0.5) * np.pi / rows,
        (np.arange(columns) + 0.5) * 2 * np.pi / columns,
        indexing="ij",
    )
    directions = np.stack(
        [np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], axis=-1
    )
    noise = shape.octaves(directions.reshape(-1, 3) * BUMPS, 2)
    return 1 + ROUGHNESS * noise.reshape(rows, columns)


def first_hits(
    blob: Blob, origin: Float[np.ndarray, "3"], directions: Float[np.ndarray, "N 3"]
) -> Float[np.ndarray, "N"]:
    """Distance along unit directions at which a ray from `origin` first meets the blob; inf: never.

    Steps through the sphere that holds the blob find the first place inside, halving finds the
    surface to 1/64 of a step.
    """
    distance = np.full(len(directions), np.inf)
    near, far = _sphere(blob, origin, directions)
    rays = np.flatnonzero(near < far)
    if len(rays) == 0:
        return distance
    directions, near, far = directions[rays], near[rays], far[rays]
    steps = np.linspace(0, 1, NUM_STEPS)
    places = near[:, None] + (far - near)[:, None] * steps
    inside = blob.holds(origin + places[..., None] * directions[:, None])
    hit = np.flatnonzero(inside.any(axis=1))
    first = inside[hit].argmax(axis=1)
    high, low = places[hit, first], places[hit, np.maximum(first - 1, 0)]
    for _ in range(NUM_HALVINGS):
        middle = (low + high) / 2
        is_in = blob.holds(origin + middle[:, None] * directions[hit])
        low, high = np.where(is_in, low, middle), np.where(is_in, middle, high)
    distance[rays[hit]] = high
    return distance


def _sphere(
    blob: Blob, origin: Float[np.ndarray, "3"], directions: Float[np.ndarray, "N 3"]
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Where rays enter and leave the sphere around the blob; near >= far where they miss it."""
    to_centre = blob.centre - origin
    along = directions @ to_centre
    apart = to_centre @ to_centre - along**2
    half = np.sqrt(np.maximum(blob.reach**2 - apart, 0))
    return np.maximum(along - half, 0), np.where(apart < blob.reach**2, along + half, 0)
