"""A blob of Perlin noise on the ground, and where rays from a sensor meet it.

One shape answers both sensors: LiDAR rays end on its surface, camera rays take its colour, so what
the one sees is where the other sees it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pipeline.data.perlin import Perlin

ROUGHNESS = 0.45
"""How far the surface leaves the ellipsoid, as a share of its radius, at noise 1."""
BUMPS = 1.6
"""Lattice cells of the noise per radius of the unit sphere."""
NUM_STEPS = 48
"""Places along a ray at which it is asked whether it is inside, before the surface is refined."""
NUM_HALVINGS = 8
TEXTURE_PER_M = 5.0
"""Lattice cells of the colour's noise per metre."""


@dataclass(frozen=True, kw_only=True)
class Blob:
    """An ellipsoid with a rough surface, cut off at the ground; LiDAR frame, metres."""

    centre: Float[np.ndarray, "3"]
    radii: Float[np.ndarray, "3"]
    ground_z: float
    """Nothing of the blob lies below."""
    shape: Perlin
    texture: Perlin
    colours: Float[np.ndarray, "2 3"]
    """Red, green and blue (0 to 255) at the texture's two ends."""

    @property
    def reach(self) -> float:
        """Radius of a sphere around the centre that holds the blob."""
        return float(self.radii.max() * (1 + ROUGHNESS))

    def holds(self, points: Float[np.ndarray, "*N 3"]) -> Bool[np.ndarray, "*N"]:
        """Which points lie inside."""
        scaled = (points - self.centre) / self.radii
        radius = np.linalg.norm(scaled, axis=-1)
        # The noise is one of direction, so that along a ray from the centre there is one surface.
        direction = scaled / np.maximum(radius, 1e-9)[..., None]
        noise = self.shape.octaves(direction.reshape(-1, 3) * BUMPS, 2).reshape(radius.shape)
        return (radius < 1 + ROUGHNESS * noise) & (points[..., 2] > self.ground_z)

    def colour(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Colours at points of the surface, darker towards the ground as under an open sky."""
        noise = self.texture.octaves(points * TEXTURE_PER_M, 3)
        share = np.clip(0.5 + noise, 0, 1)[:, None]
        height = (points[:, 2] - self.ground_z) / max(float(self.radii[2]) * 2, 1e-6)
        light = 0.55 + 0.45 * np.clip(height, 0, 1)[:, None]
        return light * (share * self.colours[0] + (1 - share) * self.colours[1])


def first_hits(
    blob: Blob, origin: Float[np.ndarray, "3"], directions: Float[np.ndarray, "N 3"]
) -> Float[np.ndarray, "N"]:
    """Distance along unit directions at which a ray from `origin` first meets the blob; inf: never.

    Steps through the sphere that holds the blob find the first place inside, halving finds the
    surface to 1/256 of a step.
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
