"""How one object stands to another, from pixels."""

from __future__ import annotations

import numpy as np

from sv_jax.tasks import QA
from tests.tasks.recompute.pixels import Pixels, Unclear, only, things, within

TEXTS = {
    "on it": "on", "under it": "under", "in it": "in", "around it": "around", "right beside it": "beside", "at a distance from it": "apart",
}  # fmt: skip


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
    gap, sizes = pixels.gap(a, b), sorted((extent(pixels, a), extent(pixels, b)))
    if 0.8 * sizes[0] <= gap <= 0.9 * sizes[1]:
        raise Unclear(f"{gap:.3g} m apart")
    return "beside" if gap < 0.8 * sizes[0] else "apart"


def rests(pixels: Pixels, a: int, b: int) -> str | None:
    """Whether points show that `a` stands "on" or "in" `b`: it lies over the other's outline, and its lowest points are at a surface of the
    other's around it, or lower than its walls, which then stand on all sides."""
    p, q = pixels.cloud(a), pixels.cloud(b)
    if not within(p[:, :2].mean(0)[None], pixels.outline(b))[0] or wide(pixels, a) > 1.2 * wide(pixels, b):
        return None
    base, slack = p[:, 2].min(), 0.06 * extent(pixels, a) + 2 * pixels.pixel(a)
    if base < q[:, 2].min() + slack / 2 and np.ptp(q[:, 2]) > 4 * slack and not (q[:, 2] > base + slack).any():
        return None
    walls = q[q[:, 2] > base + max(slack / 3, 0.1 * (q[:, 2].max() - q[:, 2].min()))]
    if len(walls):
        around = np.sort(np.arctan2(*(walls[:, :2] - p[:, :2].mean(0)).T))
        if np.diff(np.append(around, around[0] + 2 * np.pi)).max() < np.radians(150):
            return "in"
    near = q[np.linalg.norm(q[:, :2] - p[:, :2].mean(0), axis=1) < 1.5 * extent(pixels, a)]
    return "on" if len(near) and np.abs(near[:, 2] - base).min() < slack else None


def extent(pixels: Pixels, k: int) -> float:
    """The longest side of the box around an id's points."""
    return max(wide(pixels, k), float(np.ptp(pixels.cloud(k)[:, 2])))


def wide(pixels: Pixels, k: int) -> float:
    """The longer side of the smallest rectangle around an id's points seen from above, of some directions."""
    turns = np.radians(np.arange(0, 90, 5))
    sides = np.ptp([pixels.outline(k) @ way for way in ((np.cos(turns), np.sin(turns)), (-np.sin(turns), np.cos(turns)))], axis=1)
    return float(sides.max(0)[sides.prod(0).argmin()])
