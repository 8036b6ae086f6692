from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.spatial import Delaunay

from sv_jax.inputs.marks import load_mask
from sv_jax.tasks import ask

TEXTS = {
    "on it": "on",
    "under it": "under",
    "in it": "in",
    "around it": "around",
    "right beside it": "beside",
    "at a distance from it": "apart",
}

FLAT = np.array([1.0, 1.0, 0.0])


class Clip:
    """Depth, ids and cameras of a clip, with the phrase of each id; nothing else of the scene."""

    def __init__(self, scene):
        self.depth, self.ids, self.K, self.poses = scene.depth.astype(np.float64), scene.ids, scene.K, scene.poses
        self.phrases = {k: f"{thing.colour} {thing.name}" for k, thing in enumerate(scene.objects, 1)}

    def cloud(self, k: int) -> np.ndarray:
        f, v, u = np.nonzero(self.ids == k)
        z = self.depth[f, v, u]
        camera = np.stack([(u + 0.5 - self.K[0, 2]) / self.K[0, 0] * z, (v + 0.5 - self.K[1, 2]) / self.K[1, 1] * z, z], -1)
        return np.einsum("nij,nj->ni", self.poses[f, :3, :3], camera) + self.poses[f, :3, 3]

    def pixel(self, k: int) -> float:
        return self.depth[self.ids == k].min() / self.K[0, 0]

    def named(self, qa) -> list[int]:
        """The ids of the objects of a question in the order of its anchor: by their marks or by phrases that no other object has."""
        if not qa.marks:
            return [next(k for k in self.phrases if list(self.phrases.values()).count(p) == 1 and self.phrases[k] == p)
                    for p in qa.semantic.split(", ")]  # fmt: skip
        return [self._marked(mark) for mark in qa.marks]

    def _marked(self, mark) -> int:
        ids = self.ids[mark["frame"]]
        if mark["kind"] == "point":
            return int(ids[int(mark["xy"][1]), int(mark["xy"][0])])
        if mark["kind"] == "mask":
            return int(ids[load_mask(mark["mask"])].max())
        edges = np.array(mark["xyxy"]) + [2, 2, -2, -2]
        return min(self.phrases, key=lambda k: self._off(ids, k, edges))

    def _off(self, ids, k, edges) -> float:
        v, u = np.nonzero(ids == k)
        return np.abs(np.array([u.min(), v.min(), u.max() + 1, v.max() + 1]) - edges).max() if len(u) else np.inf


def extent(points: np.ndarray) -> float:
    """The longest side of a cloud's box, in the best of some directions."""
    turns = np.radians(np.arange(0, 90, 5))
    flat = (
        [points[:, 0] * np.cos(t) + points[:, 1] * np.sin(t) for t in turns],
        [points[:, 1] * np.cos(t) - points[:, 0] * np.sin(t) for t in turns],
    )
    sides = np.ptp(np.array(flat), axis=2)  # [2, turns]
    return float(max(sides.max(0)[sides.prod(0).argmin()], np.ptp(points[:, 2])))


def nearest(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (p[:: max(1, len(p) // 1500)] for p in (a, b))
    return float(min(np.sqrt(((a[i : i + 64, None] - b) ** 2).sum(-1)).min() for i in range(0, len(a), 64)))


def rests(clip: Clip, a: int, b: int) -> str | None:
    """Whether points show that `a` stands "on" or "in" `b`: it lies over the other's outline, and its lowest points are at a surface of the
    other's around it, or lower than its walls, which then stand on all sides."""
    p, q = clip.cloud(a), clip.cloud(b)
    over = Delaunay(q[:: max(1, len(q) // 500), :2]).find_simplex(p[:, :2].mean(0)) >= 0
    if not over or extent(p * FLAT) > 1.2 * extent(q * FLAT):
        return None
    base, slack = p[:, 2].min(), 0.06 * extent(p) + 2 * clip.pixel(a)
    if base < q[:, 2].min() + slack / 2 and np.ptp(q[:, 2]) > 4 * slack and not (q[:, 2] > base + slack).any():
        return None
    walls = q[q[:, 2] > base + max(slack / 3, 0.1 * (q[:, 2].max() - q[:, 2].min()))]
    if len(walls):
        around = np.sort(np.arctan2(*(walls[:, :2] - p[:, :2].mean(0)).T))
        if np.diff(np.append(around, around[0] + 2 * np.pi)).max() < np.radians(150):
            return "in"
    near = q[np.linalg.norm(q[:, :2] - p[:, :2].mean(0), axis=1) < 1.5 * extent(p)]
    return "on" if len(near) and np.abs(near[:, 2] - base).min() < slack else None


def relation(clip: Clip, a: int, b: int) -> str:
    if found := rests(clip, a, b):
        return found
    if found := rests(clip, b, a):
        return {"on": "under", "in": "around"}[found]
    p, q = clip.cloud(a), clip.cloud(b)
    gap, sizes = nearest(p, q), sorted((extent(p), extent(q)))
    return "beside" if gap < 0.8 * sizes[0] else "apart" if gap > 0.9 * sizes[1] else "in doubt"


def check(clip: Clip, qa) -> str:
    """The kind of relation of a right answer; fails where the points say something else."""
    chosen = clip.named(qa)
    if qa.options[0] in TEXTS:
        found = relation(clip, *chosen)
        assert TEXTS[qa.options["ABCD".index(qa.answer)]] == found, (found, qa)
        return found
    bearer, *options = chosen
    found = [rests(clip, k, bearer) for k in options]
    (right,) = [i for i, kind in enumerate(found) if kind]
    assert qa.answer == "ABC"[right] and f" {found[right]} " in qa.question, (found, qa)
    return "which"


@pytest.fixture(scope="module")
def questions(full):
    return [(scene, qa) for k, scene in enumerate(full) for qa in ask(scene, np.random.default_rng(k), 6, ["spatial_relation"])]


def test_answers_follow_from_depth_ids_and_cameras(questions):
    kinds = Counter(check(Clip(scene), qa) for scene, qa in questions)
    assert {"beside", "apart"} <= set(kinds) and len(kinds) >= 4, kinds
    assert len({scene.scale for scene, _ in questions}) >= 4
