import dataclasses

import numpy as np
import pytest

from pipeline.data.transforms.blobs import FACETS, Blob, first_hits
from pipeline.data.transforms.outliers import draw_blob
from pipeline.data.transforms.perlin import Perlin


def ball(radius=1.0, centre=(10.0, 0.0, 0.0), ground_z=-9.0):
    """A smooth ball, which rays meet where school geometry says."""
    return Blob(
        centre=np.array(centre),
        radii=np.full(3, radius),
        ground_z=ground_z,
        surface=np.ones(FACETS),
        texture=Perlin(np.random.default_rng(0)),
        colours=np.array([[200.0, 0, 0], [0, 0, 200.0]]),
    )


def rays(num=3000, seed=0):
    """Directions within 0.2 rad of the x axis."""
    rng = np.random.default_rng(seed)
    directions = np.stack([np.ones(num), *rng.uniform(-0.2, 0.2, (2, num))], axis=1)
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def test_rays_meet_a_ball_where_geometry_says():
    directions = rays()
    along = directions @ [10.0, 0, 0]
    inside = 1 - (100 - along**2)
    expected = np.where(inside > 0, along - np.sqrt(np.maximum(inside, 0)), np.inf)
    found = first_hits(ball(), np.zeros(3), directions)
    sure = np.abs(inside) > 0.05  # a ray that only grazes may pass between two steps
    assert np.isfinite(found[sure]).sum() > 100
    assert found[sure] == pytest.approx(expected[sure], abs=0.02)


def test_what_lies_below_the_ground_is_not_met():
    lying = ball(ground_z=0.0)
    found = first_hits(lying, np.zeros(3), rays())
    hit = np.isfinite(found)
    assert hit.any()
    assert (rays()[hit, 2] * found[hit] > -1e-3).all()


def test_rays_away_from_the_blob_never_meet_it():
    assert np.isinf(first_hits(ball(), np.zeros(3), -rays())).all()


@pytest.mark.parametrize("seed", range(10))
def test_hits_of_a_rough_blob_lie_on_its_surface(seed: int):
    """Just before the hit is outside, at it inside."""
    blob = draw_blob(np.array([9.0, 0.5, -1.8]), np.random.default_rng(seed))
    directions = rays(seed=seed)
    found = first_hits(blob, np.zeros(3), directions)
    hit = np.isfinite(found)
    assert hit.sum() > 30
    assert blob.holds(found[hit, None] * directions[hit]).all()
    assert blob.holds((found[hit, None] - 0.05) * directions[hit]).mean() < 0.05


def test_the_surface_is_rough_and_within_reach():
    blob = draw_blob(np.array([9.0, 0.5, -1.8]), np.random.default_rng(0))
    assert blob.surface.std() > 0.05
    assert blob.surface.min() > 0
    far = blob.centre + 1.001 * blob.reach * rays()
    assert not blob.holds(far).any()


def test_colours_lie_between_the_two_and_darken_towards_the_ground():
    blob = dataclasses.replace(ball(), ground_z=-1.0)
    top, foot = (blob.colour(np.array([[10.0, 0, z]]) + 1e-3 * rays()) for z in (1.0, -1.0))
    assert top.max() <= 200
    assert top.sum(axis=1).mean() > 1.5 * foot.sum(axis=1).mean()


def test_one_draw_is_one_blob():
    place = np.array([9.0, 0.5, -1.8])
    one, same, other = (draw_blob(place, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(one.surface, same.surface)
    assert np.array_equal(one.colours, same.colours)
    assert not np.array_equal(one.surface, other.surface)
