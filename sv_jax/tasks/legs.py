"""Plans of two or three straight legs along two axes, and how much room they leave around what they move. Shared by the tasks that ask
which steps lead somewhere without touching anything."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sv_jax.tasks import geometry
from sv_jax.tasks.view import VISIBLE, View

LOW, FILLED = 0.25, 0.7  # share of an object's height up to which a part is near the ground, share of the outline that it must fill
COUNT = 49  # places of the leg between two parallel ones that are tried

Walls = list[tuple[np.ndarray, np.ndarray]]  # of each obstacle: unit normals [n, 2] out of it, and how far it reaches along each [n]


def walls(moved: np.ndarray, obstacles: Iterable[np.ndarray], axes: np.ndarray) -> Walls:
    """Obstacles, convex outlines [n, 2], grown by the outline `moved` [m, 2], so that this may count as the point at its origin. They are
    exact for ways along the unit vectors `axes` [2, 2]."""
    grown = []
    for obstacle in obstacles:
        edges = np.concatenate([np.roll(p, -1, 0) - p for p in (obstacle, -moved)])
        edges /= np.linalg.norm(edges, axis=1, keepdims=True)
        normals = np.concatenate([np.stack([edges[:, 1], -edges[:, 0]], -1), axes, -axes])
        grown.append((normals, _along(normals, obstacle).max(-1) - _along(normals, moved).min(-1)))
    return grown


def _along(normals: np.ndarray, points: np.ndarray) -> np.ndarray:
    """[n, m] products of normals [n, 2] and points [m, 2]; einsum is slow over an axis of two, BLAS starts threads."""
    return normals[:, 0, None] * points[:, 0] + normals[:, 1, None] * points[:, 1]


def room(points: np.ndarray, grown: Walls) -> np.ndarray:
    """f64 [n, obstacles]: metres between each obstacle and the nearest leg of plans that visit `points` [n, legs + 1, 2]; negative where a
    leg goes into it: how deep."""
    found = np.empty((len(points), len(grown)))
    for i, (normals, reach) in enumerate(grown):
        out = (_along(normals, points.reshape(-1, 2)) - reach[:, None]).reshape(len(normals), *points.shape[:2])
        found[:, i] = np.minimum(out[..., 1:], out[..., :-1]).max(0).min(-1)
    return found


def rounded(lengths: np.ndarray) -> np.ndarray:
    """Lengths to two significant digits, as texts state them."""
    power = np.floor(np.log10(np.maximum(np.abs(lengths), 1e-9))) - 1
    small, large = 10.0 ** np.maximum(-power, 0), 10.0 ** np.maximum(power, 0)  # powers that are exact
    return np.rint(lengths * small / large) * large / small


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


def right_and_wrong(rng: np.random.Generator, plans: np.ndarray, free: np.ndarray, hits: np.ndarray) -> tuple[int, int] | None:
    """Indices of a plan [n, 3, 2] that is `free` [n] and of one that `hits` [n] something. Both turn alike; it is drawn which of them has
    the longer first leg. None where no turns allow for both, as then the rarer would tell."""
    turns = turning(plans)
    first = np.abs(plans[:, 0]).sum(-1)
    pairs = free[:, None] & hits & (turns[:, None] == turns)
    kinds = [pairs & (sign * first[:, None] > sign * first) for sign in (-1, 1)]
    both = np.logical_and(*(np.isin(turns, turns[kind.any(1)]) for kind in kinds))
    chosen = np.argwhere(kinds[rng.integers(2)] & both[:, None])
    return tuple(chosen[rng.integers(len(chosen))].tolist()) if len(chosen) else None


def turning(plans: np.ndarray) -> np.ndarray:
    """A number [n] for each plan [n, 3, 2], the same for those that turn alike: ways straight ahead run into more than others."""
    return np.unique(np.sign(plans).reshape(len(plans), -1), axis=0, return_inverse=True)[1].ravel()


def outline(view: View, index: int) -> np.ndarray:
    """f64 [n, 2]: corners, counter-clockwise, of an object's solid from above; of one that turns, the circle that it never leaves."""
    return view.once("solid outline", index, lambda: _outline(view, index))


def _outline(view: View, index: int) -> np.ndarray:
    thing = view.scene.objects[index]
    if thing.motion is None:
        return geometry.outline(thing.solids)
    return thing.center[:2] + circle(float(np.hypot(*thing.size[:2])) / 2)


def visible_outline(view: View, index: int) -> np.ndarray:
    """`View.outline` by the corners that reach farthest in any of 32 directions."""
    return view.once("few corners", index, lambda: _few(view.outline(index)))


def _few(corners: np.ndarray) -> np.ndarray:
    return corners[np.unique(_along(circle(1.0, 32), corners).argmax(1))]


def circle(radius: float, corners: int = 16) -> np.ndarray:
    """f64 [corners, 2], counter-clockwise, of a polygon around a circle at the origin."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return radius / np.cos(np.pi / corners) * np.stack([np.cos(angles), np.sin(angles)], -1)


def standing(view: View, *without: int) -> list[int]:
    """Indices of what stands on the ground, save for some. What stands on or in others lies within their outlines."""
    return [i for i, thing in enumerate(view.scene.objects) if thing.parent is None and i not in without]


def blocking(view: View, least: float, *without: int) -> list[int]:
    """Those of `standing` that clearly block a way: they rest, some frame shows them, and they are `solid` and at least so many metres
    high."""
    enough = view.pixels.max(0) >= VISIBLE * view.scene.ids[0].size
    objects = view.scene.objects
    return [
        i for i in standing(view, *without)
        if enough[i] and objects[i].motion is None and objects[i].size[2] >= least and solid(view, i)
    ]  # fmt: skip


def solid(view: View, index: int) -> bool:
    """Whether a part near the ground fills an object's outline: nothing passes below a crown or between legs."""
    return view.once("solid", index, lambda: _solid(view, index))


def _solid(view: View, index: int) -> bool:
    thing = view.scene.objects[index]
    low = thing.center[2] - (0.5 - LOW) * thing.size[2]
    parts = [geometry.area(geometry.outline([s])) for s in thing.solids if s.center[2] - s.size[2] / 2 <= low]
    return max(parts, default=0.0) >= FILLED * geometry.area(geometry.outline(thing.solids))
