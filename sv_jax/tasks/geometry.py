"""Metric geometry of scenes: back-projection, pixel boxes, and the exact closest distance between two solids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_cdt
from scipy.spatial import ConvexHull
from scipy.spatial import cKDTree as Tree

from sv_jax.scenes.scene import Object, Solid
from sv_jax.tasks import gjk


def world_points(depth: np.ndarray, K: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """World points [F, H, W, 3] behind the pixel centres of z-depth maps [F, H, W]; K [3, 3], camera-to-world poses [F, 4, 4]."""
    height, width = depth.shape[1:]
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(K).T
    camera = np.where(np.isfinite(depth), depth, np.nan)[..., None] * rays
    return camera @ poses[:, None, :3, :3].swapaxes(-1, -2) + poses[:, None, None, :3, 3]


def points_at(depth: np.ndarray, column: np.ndarray, row: np.ndarray, K: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """World points [n, 3] behind the centres of pixels at `column`, `row` [n] with z-depth [n]; K [3, 3], poses [n, 4, 4] or [4, 4]."""
    turn, u, v = poses[..., :3, :3] @ np.linalg.inv(K), column + 0.5, row + 0.5
    rays = [turn[..., i, 0] * u + turn[..., i, 1] * v + turn[..., i, 2] for i in range(3)]
    return np.stack([depth * ray + poses[..., i, 3] for i, ray in enumerate(rays)]).T


def thinned(points: np.ndarray, side: float) -> np.ndarray:
    """One of the points [n, 3] in each cube of the given side."""
    cells = np.floor((points - points.min(0)) / side).astype(np.int64)
    sizes = cells.max(0) + 1
    return points[np.unique((cells[:, 0] * sizes[1] + cells[:, 1]) * sizes[2] + cells[:, 2], return_index=True)[1]]


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 (exclusive) of the true pixels of a bool mask [H, W]."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def box_iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1."""
    across, up = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    return across * up / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - across * up)


def corners(solids: Sequence[Solid]) -> np.ndarray:
    """Corners [8 n, 3] of the boxes around solids, along their own axes."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    placed = []
    for solid in solids:
        cos, sin = np.cos(solid.yaw), np.sin(solid.yaw)
        placed.append(solid.center + signs * solid.size / 2 @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]))
    return np.concatenate(placed)


def inner_pixel(mask: np.ndarray) -> tuple[int, int, int]:
    """Column and row of a pixel deepest inside a bool mask [H, W], and how many pixels deep it is (1 at the edge)."""
    inside = distance_transform_cdt(np.pad(mask, 1), "taxicab")
    deep = int(inside.max())
    rows, columns = np.nonzero(inside == deep)
    middle = len(rows) // 2
    return int(columns[middle]) - 1, int(rows[middle]) - 1, deep


def hull(points: np.ndarray) -> np.ndarray:
    """Corners [m, 2], counter-clockwise, of the convex hull of points [n, 2]."""
    return points[ConvexHull(points).vertices]


def area(corners: np.ndarray) -> float:
    """Area of a polygon [n, 2], counter-clockwise."""
    (x, y), (u, v) = corners.T, np.roll(corners, -1, 0).T
    return float((x * v - y * u).sum() / 2)


def outline(solids: Sequence[Solid]) -> np.ndarray:
    """Corners [n, 2], counter-clockwise, of the convex outline of solids seen from above; round ones count as polygons of 64 corners."""
    around = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    corners = {"box": np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]), "round": np.stack([np.cos(around), np.sin(around)], -1)}
    placed = []
    for solid in solids:
        turn = np.array([[np.cos(solid.yaw), np.sin(solid.yaw)], [-np.sin(solid.yaw), np.cos(solid.yaw)]])
        placed.append(solid.center[:2] + corners.get(solid.kind, corners["round"]) * solid.size[:2] / 2 @ turn)
    return hull(np.concatenate(placed))


def gaps(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit edge normals [n + m, 2], out of `a` or into `b`, of two convex polygons [n, 2], [m, 2], counter-clockwise, and the gap [n + m]
    between the two along each of them, negative where they overlap. They are apart where one of the gaps is positive."""
    normals = np.concatenate([_normals(a), -_normals(b)])
    return normals, -_extent(b, -normals) - _extent(a, normals)


def _normals(polygon: np.ndarray) -> np.ndarray:
    """Outward unit normals [n, 2] of the edges of a convex polygon [n, 2], counter-clockwise; edge i leaves corner i."""
    x, y = (np.roll(polygon, -1, 0) - polygon).T
    return np.stack([y, -x], -1) / np.hypot(x, y)[:, None]


def _extent(polygon: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """How far [k] a convex polygon [n, 2], counter-clockwise, reaches along ways [k, 2]: its corner there lies between the two edges whose
    normals turn past the way."""
    turns = np.arctan2(*_normals(polygon).T[::-1])
    first = int(turns.argmin())
    corner = (np.searchsorted(np.roll(turns, -first), np.arctan2(ways[:, 1], ways[:, 0])) + first) % len(polygon)
    return (polygon[corner] * ways).sum(1)


def separation(a: np.ndarray, b: np.ndarray) -> float:
    """By how much two convex polygons stand apart along the best edge normal; negative: how deep one is in the other."""
    return float(gaps(a, b)[1].max())


def run_lengths(mask: np.ndarray) -> dict:
    """A bool mask [H, W] as COCO's uncompressed run lengths, {"size": [H, W], "counts": [zeros, ones, zeros, ...]}, column by column."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def tree(points: np.ndarray) -> Tree:
    """For the search of nearest ones among points [n, 3]; not balanced, as building takes longer than a few searches."""
    return Tree(points, balanced_tree=False, compact_nodes=False)


def approach(a: Tree, b: Tree) -> float:
    """Distance between a point of a cloud and one of another, each the closest to the other: the smallest distance of convex clouds, and
    an upper bound of others'."""
    best, point = np.inf, b.data.mean(0)
    while True:
        point = a.data[a.query(point)[1]]
        distance, nearest = b.query(point)
        if distance >= best:
            return float(best)
        best, point = distance, b.data[nearest]


def closest_distance(a: Object, b: Object) -> float:
    """Closest distance in metres between two objects, each the union of its solids; 0 where they touch."""
    pairs = sorted(((_spheres_apart(p, q), p, q) for p in a.solids for q in b.solids), key=lambda pair: pair[0])
    best = np.inf
    for bound, p, q in pairs:
        if bound >= best:
            break
        best = min(best, gjk.distance(support(p), support(q), below=best))
    return best


def _spheres_apart(p: Solid, q: Solid) -> float:
    """A lower bound of the distance of two solids: the gap between the spheres around them."""
    return float(np.linalg.norm(p.center - q.center) - np.linalg.norm(p.size) / 2 - np.linalg.norm(q.size) / 2)


def support(solid: Solid) -> gjk.Support:
    """Support function of an upright solid turned by its yaw: an ellipsoid, an elliptic cylinder or a box."""
    cos, sin = np.cos(solid.yaw), np.sin(solid.yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    half = solid.size / 2

    def furthest(direction: np.ndarray) -> np.ndarray:
        local = (direction @ turn) * half  # direction in its own axes, scaled so that it is the unit shape
        if solid.kind == "box":
            unit = np.copysign(1.0, local)
        elif solid.kind == "ellipsoid":
            unit = local / (np.linalg.norm(local) or 1.0)
        else:
            unit = np.append(local[:2] / (np.linalg.norm(local[:2]) or 1.0), np.copysign(1.0, local[2]))
        return solid.center + turn @ (unit * half)

    return furthest
