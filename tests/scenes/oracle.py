"""A plain f64 ray tracer in world coordinates: textbook intersections, one ray bundle per solid, no code shared with the package."""

from __future__ import annotations

import numpy as np

from sv_jax.scenes import Solid


def rays(K, pose, size):
    """Origin [3] and directions [H * W, 3] in the world, of unit z-depth, through the pixels' centres."""
    v, u = np.mgrid[: size[0], : size[1]] + 0.5
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    return pose[:3, 3], np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3) @ pose[:3, :3].T


def _roots(a, b, c):
    with np.errstate(all="ignore"):
        root = np.sqrt(b * b - 4 * a * c)
        return (-b - root) / (2 * a), (-b + root) / (2 * a)


def hit(solid, origin, directions):
    """First t > 0 and the outward world normal where rays meet a solid; t is inf for a miss."""
    cos, sin = np.cos(solid.yaw), np.sin(solid.yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    half = np.asarray(solid.size) / 2
    o, d = (origin - solid.center) @ turn, directions @ turn
    found, normals = np.full(len(d), np.inf), np.zeros((len(d), 3))

    def offer(t, inside, normal):
        nonlocal found
        good = inside & (t > 0) & (t < found)
        found = np.where(good, t, found)
        normals[good] = np.broadcast_to(normal, normals.shape)[good]

    def gradient(t, axes):
        n = (o + t[:, None] * d) / half**2 * axes
        return n / np.linalg.norm(n, axis=-1, keepdims=True)

    with np.errstate(all="ignore"):
        if solid.kind == "ellipsoid":
            for t in _roots((d / half**2 * d).sum(-1), 2 * (o / half**2 * d).sum(-1), (o / half**2 * o).sum(-1) - 1):
                offer(t, np.isfinite(t), gradient(t, [1, 1, 1]))
            return found, normals @ turn.T
        if solid.kind == "cylinder":
            e, f, h = o[:2] / half[:2], d[:, :2] / half[:2], half[2]
            for t in _roots((f * f).sum(-1), 2 * (e * f).sum(-1), (e * e).sum(-1) - 1):
                offer(t, np.abs(o[2] + t * d[:, 2]) <= h, gradient(t, [1, 1, 0]))
        for axis in (0, 1, 2) if solid.kind == "box" else (2,):
            for sign in (-1, 1):
                t = (sign * half[axis] - o[axis]) / d[:, axis]
                at = (o + t[:, None] * d) / half
                others = [k for k in range(3) if k != axis]
                inside = (np.abs(at[:, others]) <= 1).all(-1) if solid.kind == "box" else (at[:, :2] ** 2).sum(-1) <= 1
                offer(t, inside, sign * np.eye(3)[axis])
    return found, normals @ turn.T


def placed(thing, frame):
    """The solids of an object as a frame has them."""
    center, yaw = (a[frame] for a in thing.places(frame + 1)) if thing.motion is None else (thing.motion[frame, :3], thing.motion[frame, 3])
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return [Solid(part.kind, center + turn @ np.array(part.center), yaw, 2 * np.array(part.half)) for part in thing.parts]


def trace(objects, K, pose, size, far, props=(), frame=0):
    """depth [H, W], ids [H, W], normals [H, W, 3] and, per object, the mask [H, W] it would have alone; `props` have the id 0."""
    origin, directions = rays(K, pose, size)
    with np.errstate(all="ignore"):
        depth = np.where(directions[:, 2] < 0, -origin[2] / directions[:, 2], np.inf)
    depth[depth > far] = np.inf
    ids = np.zeros(len(depth), int)
    normals = np.where(np.isfinite(depth)[:, None], [0.0, 0.0, 1.0], 0.0)
    alone = np.zeros((len(objects), len(depth)), bool)
    for k, thing in [*enumerate(objects), *((-1, prop) for prop in props)]:
        for solid in placed(thing, frame):
            t, n = hit(solid, origin, directions)
            if k >= 0:
                alone[k] |= np.isfinite(t)
            near = t < depth
            depth, ids = np.where(near, t, depth), np.where(near, k + 1, ids)
            normals[near] = n[near]
    return depth.reshape(size), ids.reshape(size), normals.reshape(*size, 3), alone.reshape(-1, *size)
