"""What the tests of plans share: outlines from pixels alone, and whether something that moves along legs runs into them."""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull, Delaunay

from tests.tasks.recompute import Pixels


def corners(pixels: Pixels, k: int) -> np.ndarray:
    """Corners [n, 2] of the convex outline of an id's visible points, seen from above."""
    points = pixels.cloud(k)[:, :2]
    hull = points[ConvexHull(points).vertices]
    return hull[:: max(1, len(hull) // 48)] if len(hull) > 96 else hull


def others(pixels: Pixels, *without: int) -> list[Delaunay]:
    """The outlines of all ids that show, but some."""
    shown = [k for k in pixels.names if k not in without and (pixels.ids == k).sum() >= 50]
    return [Delaunay(corners(pixels, k)) for k in shown]


def collides(body: np.ndarray, legs: list[np.ndarray], obstacles: list[Delaunay]) -> bool:
    """Whether points `body` [n, 2] that move along legs, each [2], come to lie in an obstacle."""
    at, places = np.zeros(2), max(30, 300 // len(body))
    for leg in legs:
        way = body + (at + np.linspace(0, 1, places)[:, None] * leg)[:, None]
        if any((obstacle.find_simplex(way.reshape(-1, 2)) >= 0).any() for obstacle in obstacles):
            return True
        at = at + leg
    return False
