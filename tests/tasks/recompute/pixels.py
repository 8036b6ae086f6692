"""What the recomputation sees of a scene: depth, ids, cameras and the names that the ids carry, never sizes or places."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from scipy.spatial import ConvexHull, cKDTree

from sv_jax.inputs.marks import load_mask
from sv_jax.tasks import QA

METRES = {"mm": 0.001, "cm": 0.01, "m": 1.0, "m²": 1.0, "m³": 1.0}


class Unclear(Exception):
    """The question does not say which object it is about, or a careful human could answer it in two ways."""


class Pixels:
    """Depth, ids and cameras of a clip, with the name and colour of each id."""

    def __init__(self, depth: np.ndarray, ids: np.ndarray, K: np.ndarray, poses: np.ndarray, names: Sequence[tuple[str, str]]):
        """Depth [F, H, W] in metres, ids [F, H, W], K [3, 3], poses [F, 4, 4], (colour, name) of ids 1, 2, …"""
        self.depth, self.ids, self.K, self.poses = depth, ids, K, poses
        self.names = dict(enumerate(names, 1))
        self.counts = np.stack([np.bincount(frame.ravel(), minlength=len(names) + 1) for frame in ids])  # [F, ids]
        self._places = np.argsort(ids.ravel(), kind="stable")
        self._ends = np.cumsum(self.counts.sum(0))
        self._clouds: dict[tuple[int, int | None], np.ndarray] = {}
        self._outlines: dict[int, np.ndarray] = {}

    @classmethod
    def of(cls, scene) -> Pixels:
        return cls(scene.depth, scene.ids, scene.K, scene.poses, [(thing.colour, thing.name) for thing in scene.objects])

    @property
    def shown(self) -> list[int]:
        """The ids that some frame shows."""
        return [k for k in self.names if self.counts[:, k].any()]

    def cloud(self, k: int, frame: int | None = None) -> np.ndarray:
        """World points [n, 3] of an id (0: the background) in a frame or all: X = R z ((u + 1/2 - cx) / fx, (v + 1/2 - cy) / fy, 1) + t."""
        if (k, frame) not in self._clouds:
            f, v, u = np.unravel_index(self._places[self._ends[k] - self.counts[:, k].sum() : self._ends[k]], self.ids.shape)
            if frame is not None:
                v, u, f = v[f == frame], u[f == frame], f[f == frame]
            z = self.depth[f, v, u].astype(np.float64)
            f, v, u, z = (part[np.isfinite(z)] for part in (f, v, u, z))
            x, y = (u + 0.5 - self.K[0, 2]) / self.K[0, 0] * z, (v + 0.5 - self.K[1, 2]) / self.K[1, 1] * z
            self._clouds[k, frame] = np.einsum("nij,nj->ni", self.poses[f, :3, :3], np.stack([x, y, z], -1)) + self.poses[f, :3, 3]
        return self._clouds[k, frame]

    def outline(self, k: int) -> np.ndarray:
        """Corners [n, 2], counter-clockwise, of the convex hull of an id's points, seen from above."""
        if k not in self._outlines:
            points = self.cloud(k)[:, :2]
            self._outlines[k] = points[ConvexHull(points).vertices]
        return self._outlines[k]

    def nearest(self, k: int) -> float:
        """The smallest depth of an id in the first frame."""
        return float(self.depth[0][self.ids[0] == k].min())

    def pixel(self, k: int) -> float:
        """Metres that a pixel spans where a clip shows an id nearest."""
        return float(self.depth[self.ids == k].min() / self.K[1, 1])

    def height(self, k: int) -> float:
        """Vertical extent: from the lowest to the highest pixel centre, and half a pixel more at both ends."""
        return float(np.ptp(self.cloud(k)[:, 2]) + self.nearest(k) / self.K[1, 1])

    def gap(self, a: int, b: int) -> float:
        """The smallest distance between points of two ids. Some points bound it from above; of all, only those count that are no farther
        apart than this along the direction between the nearest two of those."""
        p, q = self.cloud(a), self.cloud(b)
        away, nearest = cKDTree(p[::50]).query(q[::50])
        least = int(away.argmin())
        way = q[::50][least] - p[::50][nearest[least]]
        along = [x @ way / max(away[least], 1e-12) for x in (p, q)]
        p, q = p[along[0] >= along[1].min() - away[least]], q[along[1] <= along[0].max() + away[least]]
        return float(cKDTree(p).query(q)[0].min())

    def middle(self, k: int) -> float:
        """Mean column of an id in the first frame."""
        return float(np.nonzero(self.ids[0] == k)[1].mean())

    def find(self, text: str, qa: QA) -> int:
        """The id that "the red mug", "the object in the red box", "at the red point" or "under the red mask" stands for."""
        mark = re.search(r"the object (?:in|at|under) the (\w+) (box|point|mask)", text)
        if mark is None:
            return only([k for k in self.shown if "the {} {}".format(*self.names[k]) == text], text)
        found = only([m for m in qa.marks if m["color"] == mark[1] and m["kind"] == mark[2]], text)
        if found["kind"] == "point":
            x, y = found["xy"]
            return int(self.ids[found["frame"]][int(y), int(x)])
        if found["kind"] == "mask":
            under = load_mask(found["mask"])
            k = int(only(np.unique(self.ids[found["frame"]][under]), text))
            if not k or (under != (self.ids[found["frame"]] == k)).any():
                raise Unclear(text)
            return k
        return self.boxed(found)

    def boxed(self, mark: dict) -> int:
        """The id whose box, with 2 pixels more on each side for the outline, a mark is."""
        height, width = self.ids.shape[1:]
        found = []
        for k in np.flatnonzero(self.counts[mark["frame"], 1:]) + 1:
            v, u = np.nonzero(self.ids[mark["frame"]] == k)
            if [max(0, u.min() - 2), max(0, v.min() - 2), min(width, u.max() + 3), min(height, v.max() + 3)] == mark["xyxy"]:
                found.append(int(k))
        return only(found, f"box {mark['xyxy']}")


def within(points: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """bool [n]: which points [n, 2] lie in a convex outline."""
    x, y = (np.roll(outline, -1, 0) - outline).T
    inward = np.stack([-y, x])  # [2, corners]
    return (points @ inward >= (outline.T * inward).sum(0)).all(1)


def only(found, what: str):
    if len(found) != 1:
        raise Unclear(f"{what}: {len(found)} of them")
    return found[0]


def things(pixels: Pixels, qa: QA, count: int | None = None) -> list[int]:
    """The ids of what the question and its options name, in their order, each once; Unclear where they are not `count`."""
    phrases = sorted({f"the {colour} {name}" for colour, name in pixels.names.values()}, key=len, reverse=True)
    pattern = "|".join([r"the object (?:in|at|under) the \w+ (?:box|point|mask)", *map(re.escape, phrases)])
    text = " ".join([qa.question[0].lower() + qa.question[1:], *(qa.options or ())])
    found = list(dict.fromkeys(pixels.find(name, qa) for name in re.findall(rf"(?:{pattern})\b", text)))
    if count not in (None, len(found)):
        raise Unclear(f"{len(found)} objects instead of {count}")
    return found
