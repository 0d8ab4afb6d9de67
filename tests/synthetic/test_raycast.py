"""Against a caster that knows nothing of grids: one ray and one solid at a time, in float64."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from pipeline.datasets.protocol.geometry import intrinsics
from pipeline.synthetic.primitives import (
    BOX,
    CONE,
    ELLIPSOID,
    Solid,
    Solids,
    Thing,
    box,
    moved,
    pack,
)
from pipeline.synthetic.raycast import (
    FIRST_SOLID,
    GROUND,
    SKY,
    Grid,
    camera_grid,
    cast,
    column_windows,
    lidar_grid,
)

GROUND_Z = -1.8
GREY = (0.5, 0.5, 0.5)


def small_camera() -> Grid:
    return camera_grid(48, 32, intrinsics(48, 32, 90), 999.0)


def small_lidar() -> Grid:
    azimuths = np.arange(60) * (2 * np.pi / 60) - np.pi
    return lidar_grid(azimuths, np.radians(np.linspace(15, -25, 16)))


def random_solids(seed: int, number: int) -> Solids:
    """All kinds at any yaw around the sensor, near and far, high and low, some as big as houses."""
    rng = np.random.default_rng(seed)
    things = []
    for n in range(number):
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(4, 60)
        half = rng.uniform(0.1, 6.0 if n % 5 == 0 else 1.5, 2)
        height = rng.uniform(0.2, 12.0 if n % 5 == 0 else 3.0)
        kind = n % 4
        height = max(height, 2.2 * half.max()) if kind == CONE else height
        bottom = GROUND_Z + rng.uniform(0, 2.5) * (n % 3)
        away = max(away, half.max() * 2 + 1)
        solid = Solid(
            kind=kind,
            bottom=float(bottom),
            top=float(bottom + height),
            half_x=float(half[0]),
            half_y=float(half[1]),
            colour=GREY,
        )
        x, y = away * math.cos(angle), away * math.sin(angle)
        things.append(Thing(label=0, solids=(solid,), x=x, y=y, yaw=rng.uniform(0, 6)))
    return placed(things)


def placed(things: list[Thing]) -> Solids:
    return moved(pack(things), np.array([[t.x, t.y, t.yaw] for t in things]).reshape(-1, 3))


def distance_to(solids: Solids, n: int, ray: np.ndarray) -> float:
    """t of the first hit of one ray with one solid; inf for none."""
    cos, sin = math.cos(solids.yaw[n]), math.sin(solids.yaw[n])
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    middle = np.array([solids.x[n], solids.y[n], (solids.bottom[n] + solids.top[n]) / 2], float)
    half_z = float(solids.top[n] - solids.bottom[n]) / 2
    half = np.array([solids.half_x[n], solids.half_y[n], half_z], float)
    o, d = turn @ -middle / half, turn @ ray / half
    if solids.kind[n] == BOX:
        return first(*slab(o, d, range(3)))
    if solids.kind[n] == ELLIPSOID:
        return first(*roots(d @ d, o @ d, o @ o - 1))
    if solids.kind[n] == CONE:
        low, _ = roots(
            d[0] ** 2 + d[1] ** 2 - d[2] ** 2 / 4,
            o[0] * d[0] + o[1] * d[1] + (1 - o[2]) * d[2] / 4,
            o[0] ** 2 + o[1] ** 2 - (1 - o[2]) ** 2 / 4,
        )
        return low if low > 0.05 and abs(o[2] + low * d[2]) <= 1 else math.inf
    side = roots(d[0] ** 2 + d[1] ** 2, o[0] * d[0] + o[1] * d[1], o[0] ** 2 + o[1] ** 2 - 1)
    flat = slab(o, d, [2])
    return first(max(side[0], flat[0]), min(side[1], flat[1]))


def slab(o: np.ndarray, d: np.ndarray, axes: Iterable[int]) -> tuple[float, float]:
    bounds = [sorted((float(-1 - o[a]) / d[a], float(1 - o[a]) / d[a])) for a in axes]
    return max(b[0] for b in bounds), min(b[1] for b in bounds)


def roots(*coefficients: Any) -> tuple[float, float]:
    """Both solutions of a t^2 + 2 b t + c = 0."""
    a, b, c = (float(number) for number in coefficients)
    inside = b * b - a * c
    if inside < 0:
        return math.inf, -math.inf
    return (-b - math.sqrt(inside)) / a, (-b + math.sqrt(inside)) / a


def first(enter: float, leave: float) -> float:
    return max(enter, 0.05) if enter < leave and leave > 0.05 else math.inf


def cast_one_by_one(grid: Grid, solids: Solids) -> tuple[np.ndarray, np.ndarray]:
    distance = np.full(grid.shape, np.inf)
    surface = np.full(grid.shape, SKY)
    for r, c in np.ndindex(grid.shape):
        ray = np.array([grid.dx[c], grid.dy[c], grid.dz[r]], float)
        hits = [distance_to(solids, n, ray) for n in range(len(solids))]
        ground = GROUND_Z / ray[2] if ray[2] < 0 else math.inf
        ground = ground if ground <= grid.reach else math.inf
        nearest = int(np.argmin(hits)) if hits else 0
        if hits and hits[nearest] < ground:
            distance[r, c], surface[r, c] = hits[nearest], FIRST_SOLID + nearest
        elif ground < math.inf:
            distance[r, c], surface[r, c] = ground, GROUND
    return distance, surface


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("grid", [small_camera(), small_lidar()], ids=["camera", "lidar"])
def test_casting_agrees_with_one_ray_and_solid_at_a_time(grid: Grid, seed: int) -> None:
    solids = random_solids(seed, 40)
    distance, surface = cast_one_by_one(grid, solids)
    hits = cast(grid, solids, ground=GROUND_Z)
    same = hits.surface == surface
    assert same.mean() > 0.998, "only rays that graze an edge may differ"
    np.testing.assert_allclose(hits.distance[same], distance[same], rtol=2e-4)


@pytest.mark.parametrize("grid", [small_camera(), small_lidar()], ids=["camera", "lidar"])
def test_leaving_hidden_solids_out_changes_no_ray(grid: Grid) -> None:
    """Cast alone, a solid is never left out; the nearest of all such casts is the truth."""
    solids = random_solids(7, 60)
    hits = cast(grid, solids, ground=GROUND_Z)
    alone = [cast(grid, solids.take(np.array([n])), ground=GROUND_Z) for n in range(len(solids))]
    distances = np.stack([one.distance for one in alone])
    np.testing.assert_array_equal(hits.distance, distances.min(0))
    r, c = np.nonzero(hits.surface >= FIRST_SOLID)
    np.testing.assert_array_equal(hits.distance[r, c], distances[hits.surface[r, c] - 2, r, c])


def test_a_box_ahead_has_its_face_at_its_depth() -> None:
    solids = placed([Thing(label=0, solids=(box((2, 4, 3), colour=GREY),), x=10.0, y=0.0)])
    hits = cast(small_camera(), solids, ground=GROUND_Z)
    assert hits.surface[15, 24] == FIRST_SOLID
    assert hits.distance[15, 24] == pytest.approx(9.0)
    assert hits.distance[15, 4] == np.inf


def test_the_ground_lies_where_the_slope_meets_it() -> None:
    camera = small_camera()
    hits = cast(camera, random_solids(0, 0), ground=GROUND_Z)
    assert hits.distance[-1, 0] == pytest.approx(1.8 * 24 / 15.5)
    assert (hits.surface[:16] == SKY).all()


def test_a_solid_behind_the_lidar_is_met_on_both_sides_of_the_seam() -> None:
    lidar = small_lidar()
    solids = placed([Thing(label=0, solids=(box((2, 6, 3), colour=GREY),), x=-10.0, y=0.0)])
    assert len(column_windows(lidar, solids).solid) == 2
    hits = cast(lidar, solids, ground=GROUND_Z)
    columns = np.flatnonzero((hits.surface == FIRST_SOLID).any(0))
    assert columns.min() == 0
    assert columns.max() == 59


def test_nothing_to_cast_leaves_ground_and_sky() -> None:
    hits = cast(small_lidar(), random_solids(0, 0), ground=GROUND_Z)
    assert set(np.unique(hits.surface)) == {SKY, GROUND}
