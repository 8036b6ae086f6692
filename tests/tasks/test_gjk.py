from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from sv_jax.tasks import gjk

RNG = np.random.default_rng(0)


def box(center, half):
    return lambda d: center + np.copysign(half, d)


def ellipsoid(center, radii):
    return lambda d: center + radii**2 * d / np.linalg.norm(radii * d)


def cylinder(center, radius, half):
    def furthest(d):
        flat = d[:2] / (np.linalg.norm(d[:2]) or 1.0)
        return center + np.array([*(radius * flat), np.copysign(half, d[2])])

    return furthest


@pytest.mark.parametrize("offset", RNG.normal(size=(40, 3)) * 3)
def test_axis_aligned_boxes_cylinders_and_spheres_in_closed_form(offset):
    a, b = RNG.uniform(0.2, 1, (2, 3))
    boxes = gjk.distance(box(np.zeros(3), a), box(offset, b))
    assert boxes == pytest.approx(np.linalg.norm(np.maximum(0, np.abs(offset) - a - b)), abs=1e-9)
    spheres = gjk.distance(ellipsoid(np.zeros(3), np.full(3, a[0])), ellipsoid(offset, np.full(3, b[0])))
    assert spheres == pytest.approx(max(0, np.linalg.norm(offset) - a[0] - b[0]), abs=1e-6)
    cylinders = gjk.distance(cylinder(np.zeros(3), a[0], a[1]), cylinder(offset, b[0], b[1]))
    flat, up = np.linalg.norm(offset[:2]) - a[0] - b[0], abs(offset[2]) - a[1] - b[1]
    assert cylinders == pytest.approx(np.hypot(max(0, flat), max(0, up)), abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_ellipsoids_against_a_constrained_optimiser(seed):
    rng = np.random.default_rng(seed)
    offset, a, b = rng.normal(size=3) + 2, rng.uniform(0.1, 1, 3), rng.uniform(0.1, 1, 3)
    inside = [
        {"type": "ineq", "fun": lambda x: 1 - ((x[:3] / a) ** 2).sum()},
        {"type": "ineq", "fun": lambda x: 1 - ((x[3:] / b) ** 2).sum()},
    ]
    found = minimize(
        lambda x: ((x[:3] - x[3:] - offset) ** 2).sum(), np.zeros(6), constraints=inside, method="SLSQP", options={"ftol": 1e-14}
    )
    assert gjk.distance(ellipsoid(np.zeros(3), a), ellipsoid(offset, b)) == pytest.approx(np.sqrt(found.fun), rel=1e-6)


def test_distance_scales_with_the_world_and_far_from_the_origin():
    a, b, offset = RNG.uniform(0.2, 1, 3), RNG.uniform(0.2, 1, 3), np.array([1.5, 2.0, 1.0])
    one = gjk.distance(ellipsoid(np.zeros(3), a), cylinder(offset, b[0], b[1]))
    for factor in (1e-3, 1e3):
        far = np.array([1e3, -2e3, 5e2]) * factor
        moved = cylinder(far + offset * factor, b[0] * factor, b[1] * factor)
        assert gjk.distance(ellipsoid(far, a * factor), moved) == pytest.approx(one * factor, rel=1e-7)


def test_below_ends_early_but_never_hides_a_smaller_distance():
    a, b = box(np.zeros(3), np.ones(3)), ellipsoid(np.array([4.0, 1.0, 2.0]), np.ones(3))
    true = gjk.distance(a, b)
    assert gjk.distance(a, b, below=true * 1.01) == pytest.approx(true)
    assert gjk.distance(a, b, below=true * 0.5) >= true * 0.5
