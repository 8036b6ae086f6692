"""Plans of two or three straight legs along two axes, and how much room they leave around what they move. Shared by the tasks that ask
which steps lead somewhere without touching anything."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sv_jax.tasks import geometry
from sv_jax.tasks.view import VISIBLE, View

LONGER = 1.3  # a right plan is at most this much longer than the shortest
COUNT = 25  # places of the leg between two parallel ones that are tried

Walls = list[tuple[np.ndarray, np.ndarray]]  # of each obstacle: unit normals [n, 2] out of it, and how far it reaches along each [n]


def walls(moved: np.ndarray, obstacles: Iterable[np.ndarray], axes: np.ndarray) -> Walls:
    """Obstacles, convex outlines [n, 2], grown by the outline `moved` [m, 2], so that this may count as the point at its origin. They are
    exact for ways along unit vectors `axes` [k, 2]."""
    across = np.stack([-axes[:, 1], axes[:, 0]], -1)
    grown = []
    for obstacle in obstacles:
        edges = np.concatenate([np.roll(p, -1, 0) - p for p in (obstacle, -moved)])
        lengths = np.linalg.norm(edges, axis=1)
        edges = edges[lengths > 0] / lengths[lengths > 0, None]
        normals = np.concatenate([np.stack([edges[:, 1], -edges[:, 0]], -1), across, -across])
        grown.append((normals, _along(normals, obstacle).max(1) - _along(normals, moved).min(1)))
    return grown


def _along(normals: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.einsum("nd,md->nm", normals, points)  # no BLAS: its threads cost more than such small products


def room(points: np.ndarray, grown: Walls) -> np.ndarray:
    """f64 [n, obstacles]: metres between each obstacle and the nearest leg of plans that visit `points` [n, legs + 1, 2]; negative: how deep
    a leg goes into it."""
    found = np.empty((len(points), len(grown)))
    for i, (normals, reach) in enumerate(grown):
        out = np.einsum("pld,nd->pln", points, normals) - reach
        found[:, i] = np.minimum(out[:, 1:], out[:, :-1]).max(-1).min(-1)
    return found


def rounded(lengths: np.ndarray) -> np.ndarray:
    """Lengths to two significant digits, as texts state them."""
    return np.array([float(f"{length:.1e}") for length in lengths.ravel()]).reshape(lengths.shape)


def plans(goal: np.ndarray, aside: float, least: float) -> np.ndarray:
    """f64 [n, 3, 2]: three legs each, along the axes of `goal` [2] in turn, of rounded lengths, from the origin to the goal. The middle leg
    lies up to `aside` metres outside; no leg is shorter than `least`, save for a first or last one of nothing."""
    found = []
    for first in (0, 1):
        places = np.linspace(min(0, goal[first]) - aside, max(0, goal[first]) + aside, COUNT)
        legs = np.zeros((COUNT + 2, 3, 2))
        legs[:, 0, first] = [*places, 0, goal[first]]
        legs[:, 1, 1 - first] = goal[1 - first]
        legs[:, 2, first] = goal[first] - legs[:, 0, first]
        found.append(legs)
    legs = rounded(np.concatenate(found))
    size = np.abs(legs).sum(-1)
    return legs[(size[:, 1] >= least) & ((size >= least) | (size == 0)).all(1) & ((size > 0).sum(1) >= 2)]


def visits(legs: np.ndarray, start: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """f64 [n, 4, 2]: world points at the ends of the legs [n, 3, 2] of plans from `start` [2]; `axes` [2, 2] are the legs' axes."""
    return start + np.concatenate([np.zeros((len(legs), 1, 2)), np.cumsum(legs, 1)], 1) @ axes


def lengths(legs: np.ndarray) -> np.ndarray:
    """f64 [n]: metres of whole plans."""
    return np.abs(legs).sum((1, 2))


def right_and_wrong(
    rng: np.random.Generator, legs: np.ndarray, free: np.ndarray, hits: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """A plan that is `free` [n] and one that `hits` [n] something, of as many legs; a coin decides which is the longer one. None where
    there are no two such."""
    if not free.any() or not hits.any():
        return None
    far, count = lengths(legs), (np.abs(legs).sum(-1) > 0).sum(1)
    good = np.flatnonzero(free & (far <= LONGER * far[free].min()))
    right = good[rng.integers(len(good))]
    bad = np.flatnonzero(hits & (count == count[right]) & ((far > far[right]) if rng.random() < 0.5 else (far < far[right])))
    return (legs[right], legs[bad[rng.integers(len(bad))]]) if len(bad) else None


def outline(view: View, index: int) -> np.ndarray:
    """f64 [n, 2]: corners, counter-clockwise, of an object's solid from above; of one that turns, the circle that it never leaves."""
    return view.once("solid outline", index, lambda: _outline(view, index))


def _outline(view: View, index: int) -> np.ndarray:
    thing = view.scene.objects[index]
    if thing.motion is None:
        return geometry.outline(thing.solids)
    return thing.center[:2] + circle(float(np.hypot(*thing.size[:2])) / 2)


def circle(radius: float) -> np.ndarray:
    """f64 [16, 2]: corners, counter-clockwise, of a polygon around a circle at the origin."""
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    return radius / np.cos(np.pi / 16) * np.stack([np.cos(angles), np.sin(angles)], -1)


def standing(view: View, *without: int) -> list[int]:
    """Indices of what stands on the ground, save for some. What stands on or in others lies within their outlines."""
    return [i for i, thing in enumerate(view.scene.objects) if thing.parent is None and i not in without]


def shown(view: View, *without: int) -> list[int]:
    """Those of `standing` that rest and that some frame shows."""
    enough = view.pixels.max(0) >= VISIBLE * view.scene.ids[0].size
    return [i for i in standing(view, *without) if enough[i] and view.scene.objects[i].motion is None]
