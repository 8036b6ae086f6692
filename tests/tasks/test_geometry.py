from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from sv_jax.scenes.scene import Object, Primitive
from sv_jax.tasks import geometry

GREY = (0.5, 0.5, 0.5)


def thing(center, yaw, *parts) -> Object:
    return Object("thing", "grey", np.array(center), yaw, np.ones(3), tuple(Primitive(kind, c, half, GREY) for kind, c, half in parts))


def sample(solid, rng, n=4000) -> np.ndarray:
    """Random points [n, 3] on the surface of a solid."""
    x = rng.normal(size=(n, 3))
    if solid.kind == "ellipsoid":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    elif solid.kind == "box":
        x /= np.abs(x).max(1, keepdims=True)
    else:
        x /= np.maximum(np.linalg.norm(x[:, :2], axis=1), np.abs(x[:, 2]))[:, None]
    cos, sin = np.cos(solid.yaw), np.sin(solid.yaw)
    return solid.center + (x * solid.size / 2) @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])


@pytest.mark.parametrize("seed", range(12))
def test_distance_of_unions_is_below_that_of_any_two_surface_points_and_nearly_reached(seed):
    rng = np.random.default_rng(seed)
    parts = [(kind, tuple(rng.uniform(-0.3, 0.3, 3)), tuple(rng.uniform(0.1, 0.4, 3))) for kind in ("box", "cylinder", "ellipsoid")]
    a, b = thing((0.0, 0.0, 0.0), 0.7, *parts[:2]), thing((1.6, 0.9, 0.5), -0.4, *parts[1:])
    true = geometry.closest_distance(a, b)
    clouds = [np.concatenate([sample(s, rng) for s in o.solids]) for o in (a, b)]
    sampled = cKDTree(clouds[0]).query(clouds[1])[0].min()
    assert true <= sampled <= 1.05 * true
    assert geometry.closest_distance(b, a) == pytest.approx(true, rel=1e-7)


@pytest.mark.parametrize("kind", ["box", "cylinder", "ellipsoid"])
def test_approach_finds_the_smallest_distance_of_convex_clouds(kind):
    rng = np.random.default_rng(0)
    clouds = [
        sample(thing(at, yaw, (kind, (0.0,) * 3, (0.5, 0.2, 0.3))).solids[0], rng)
        for at, yaw in (((0.0,) * 3, 0.4), ((1.5, 0.7, 0.2), 1.1))
    ]
    true = cKDTree(clouds[0]).query(clouds[1])[0].min()
    assert true <= geometry.approach(*map(geometry.tree, clouds)) <= 1.02 * true
    whole = np.concatenate(clouds)
    thin = geometry.thinned(whole, 0.1)
    assert len(thin) < len(whole) / 4 and cKDTree(thin).query(whole)[0].max() < 0.1 * np.sqrt(3)


@pytest.mark.parametrize("seed", range(20))
def test_gaps_of_polygons_are_those_of_all_their_corners(seed):
    rng = np.random.default_rng(seed)
    square = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    a = geometry.hull(rng.normal(size=(40, 2)))
    b = (square if seed % 2 else geometry.hull(rng.normal(size=(9, 2)))) + rng.uniform(-4, 4, 2)
    normals, gaps = geometry.gaps(a, b)
    assert len(gaps) == len(a) + len(b)
    np.testing.assert_allclose(gaps, (normals @ b.T).min(1) - (normals @ a.T).max(1), atol=1e-12)
    for polygon, mine in ((a, normals[: len(a)]), (b, -normals[len(a) :])):
        touching = (polygon @ mine.T >= (polygon @ mine.T).max(0) - 1e-9).sum(0)
        assert (touching == 2).all()  # an outward edge normal: the two ends of its edge are furthest along it


def test_yaw_turns_a_box():
    long = ("box", (0.0, 0.0, 0.0), (1.0, 0.1, 0.1))
    point = thing((0.0, 3.0, 0.0), 0.0, ("ellipsoid", (0.0, 0.0, 0.0), (0.5, 0.5, 0.5)))
    assert geometry.closest_distance(thing((0.0, 0.0, 0.0), 0.0, long), point) == pytest.approx(2.4)
    assert geometry.closest_distance(thing((0.0, 0.0, 0.0), np.pi / 2, long), point) == pytest.approx(1.5)


def test_overlap_is_zero():
    a = thing((0.0, 0.0, 0.0), 0.3, ("box", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    assert geometry.closest_distance(a, thing((0.5, 0.5, 0.5), 0.0, ("cylinder", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))) == 0.0


def test_world_points_of_a_camera_that_looks_down():
    K = np.array([[10.0, 0, 2], [0, 10.0, 2], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.diag([1.0, -1.0, -1.0]), [1.0, 2.0, 5.0]
    points = geometry.world_points(np.full((1, 4, 4), 5.0, np.float32), K, pose[None])
    np.testing.assert_allclose(points[..., 2], 0, atol=1e-12)
    np.testing.assert_allclose(points[0, 0, 0], [1 - 0.75, 2 + 0.75, 0])


def test_box_and_inner_pixel():
    mask = np.zeros((20, 30), bool)
    mask[3:10, 5:16] = True
    mask[4, 16:25] = True  # a thin handle
    assert geometry.box_of(mask) == (5, 3, 25, 10)
    x, y, deep = geometry.inner_pixel(mask)
    assert y == 6 and 8 <= x <= 12 and deep == 4
    assert geometry.inner_pixel(np.ones((5, 5), bool)) == (2, 2, 3)
