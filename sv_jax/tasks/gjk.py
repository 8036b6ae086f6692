"""Closest distance between two convex bodies from their support functions (Gilbert-Johnson-Keerthi), float64."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

Support = Callable[[np.ndarray], np.ndarray]  # direction [3] -> the body's furthest point that way [3]


def distance(a: Support, b: Support, *, tolerance: float = 1e-9, below: float = np.inf) -> float:
    """Distance between two convex bodies; 0 where they touch or overlap.

    The error is at most `tolerance` times the distance (a duality gap stops the loop). As soon as the distance is proven to be
    `below` or more, the search ends early with a value >= `below`.
    """
    v = a(np.array([1.0, 0.0, 0.0])) - b(np.array([-1.0, 0.0, 0.0]))
    simplex = v[None]
    reach = np.abs(v).max()
    for _ in range(200):
        norm = np.linalg.norm(v)
        if norm <= 1e-12 * reach:
            return 0.0
        w = a(-v) - b(v)
        bound = v @ w / norm  # the plane through w separates the bodies by this much
        if norm - bound <= tolerance * norm or bound >= below:
            return float(norm)
        reach = max(reach, np.abs(w).max())
        simplex, closer = _nearest(simplex, w)
        if np.linalg.norm(closer) >= norm:  # no progress left in float64
            return float(norm)
        v = closer
        if len(simplex) == 4:
            return 0.0
    return float(np.linalg.norm(v))


def _nearest(simplex: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The point nearest to the origin of the hull of `simplex` [k<=3, 3] and a new vertex `w`, and the vertices that span it.

    The nearest point always uses the newest vertex, so only the faces that hold it are tried."""
    best = (w[None], w)
    for size in range(1, len(simplex) + 1):
        for chosen in combinations(range(len(simplex)), size):
            edges = simplex[list(chosen)] - w
            gram = edges @ edges.T
            try:
                weights = np.linalg.solve(gram, -edges @ w)
            except np.linalg.LinAlgError:  # a flat face; a smaller one spans it
                continue
            if weights.min() < 0 or weights.sum() > 1:
                continue
            point = w + weights @ edges
            if size == 3 and np.abs(point).max() > 1e-9 * np.abs(edges).max():  # a sliver: the origin is not in it
                continue
            if point @ point < best[1] @ best[1]:
                best = (np.vstack([simplex[list(chosen)], w]), point)
    return best
