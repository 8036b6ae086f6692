"""How one object stands to another, from pixels."""

from __future__ import annotations

import numpy as np
from scipy.spatial import Delaunay

from sv_jax.tasks import QA
from tests.tasks.recompute.pixels import Pixels, Unclear, only, things

TEXTS = {
    "on it": "on", "under it": "under", "in it": "in", "around it": "around", "right beside it": "beside", "at a distance from it": "apart",
}  # fmt: skip
FLAT = np.array([1.0, 1.0, 0.0])


def spatial_relation(pixels: Pixels, qa: QA) -> str:
    """The relation of one object to another; or which option stands on or in one."""
    if qa.options[0] in TEXTS:
        a, b = things(pixels, qa, 2)
        if qa.question.startswith(("Relative to", "Take")):
            a, b = b, a
        return "ABCD"[[TEXTS[option] for option in qa.options].index(relation(pixels, a, b))]
    bearer, *options = things(pixels, qa)
    found = [rests(pixels, k, bearer) for k in options]
    right = only([i for i, kind in enumerate(found) if kind], "objects on or in it")
    if f" {found[right]} " not in qa.question:
        raise Unclear(f"it is {found[right]} it")
    return "ABC"[right]


def relation(pixels: Pixels, a: int, b: int) -> str:
    """A value of TEXTS: how `a` stands to `b`."""
    if found := rests(pixels, a, b):
        return found
    if found := rests(pixels, b, a):
        return {"on": "under", "in": "around"}[found]
    gap, sizes = pixels.gap(a, b), sorted((extent(pixels.cloud(a)), extent(pixels.cloud(b))))
    if 0.8 * sizes[0] <= gap <= 0.9 * sizes[1]:
        raise Unclear(f"{gap:.3g} m apart")
    return "beside" if gap < 0.8 * sizes[0] else "apart"


def rests(pixels: Pixels, a: int, b: int) -> str | None:
    """Whether points show that `a` stands "on" or "in" `b`: it lies over the other's outline, and its lowest points are at a surface of the
    other's around it, or lower than its walls, which then stand on all sides."""
    p, q = pixels.cloud(a), pixels.cloud(b)
    over = Delaunay(q[:: max(1, len(q) // 500), :2]).find_simplex(p[:, :2].mean(0)) >= 0
    if not over or extent(p * FLAT) > 1.2 * extent(q * FLAT):
        return None
    base, slack = p[:, 2].min(), 0.06 * extent(p) + 2 * pixels.pixel(a)
    if base < q[:, 2].min() + slack / 2 and np.ptp(q[:, 2]) > 4 * slack and not (q[:, 2] > base + slack).any():
        return None
    walls = q[q[:, 2] > base + max(slack / 3, 0.1 * (q[:, 2].max() - q[:, 2].min()))]
    if len(walls):
        around = np.sort(np.arctan2(*(walls[:, :2] - p[:, :2].mean(0)).T))
        if np.diff(np.append(around, around[0] + 2 * np.pi)).max() < np.radians(150):
            return "in"
    near = q[np.linalg.norm(q[:, :2] - p[:, :2].mean(0), axis=1) < 1.5 * extent(p)]
    return "on" if len(near) and np.abs(near[:, 2] - base).min() < slack else None


def extent(points: np.ndarray) -> float:
    """The longest side of a cloud's box, in the best of some directions."""
    turns = np.radians(np.arange(0, 90, 5))
    flat = (
        [points[:, 0] * np.cos(t) + points[:, 1] * np.sin(t) for t in turns],
        [points[:, 1] * np.cos(t) - points[:, 0] * np.sin(t) for t in turns],
    )
    sides = np.ptp(np.array(flat), axis=2)  # [2, turns]
    return float(max(sides.max(0)[sides.prod(0).argmin()], np.ptp(points[:, 2])))
