"""From frames, aligned depth, masks and cameras to a `Scene` of measured objects, which the tasks read like any other.

The world is turned so that the ground lies at z = 0 with up along z. An object is what its pixels show: an oriented box with a vertical
axis, and for distances a stack of boxes, one for each horizontal slice of its points. Sides that no frame shows are not there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sv_jax.annotate.colours import split_phrase
from sv_jax.errors import UserError, unknown
from sv_jax.scenes.scene import SCALES, Object, Primitive, Scene
from sv_jax.tasks import geometry

# a scene's radius in metres, from which it counts as the next scale: between the ranges of radii of `scenes/worlds.py`
RADII = (0.08, 0.6, 3.1, 14.6)
PLANES, SEEN = 400, 8_000  # planes that are tried, and points that vote
NEAR = 0.02  # distance from the plane at which a point votes for it, as a share of its depth
STEEP = np.cos(np.radians(75))  # a ground is less inclined than this to the cameras' own up
SLICES = 8
TAIL = 0.005  # share of an object's points that each end of each axis may lose
BORDER, STEP = 2, 0.015  # pixels at a mask's border whose depth is mixed if it steps by this share ...
SLOPE = 0.04  # ... from a surface that changes by no more than this share there
EDGE, BENT = 0.05, 0.1  # steps of depth at masks, as a share of it, that tell whether it is sharp; by what share of them lines may bend
STANDS = 0.05  # an object whose bottom is nearer to the ground than this share of its height stands on it
HIDDEN = 0.6  # of what shows of its height, at most, lies hidden under a ball
LEAST = 16  # pixels of an object over the clip
FITS, OFF = 0.02, 0.2  # relative difference of one frame's depth seen from the next: below, poses fit it; above, they do not


def lift(
    name: str,
    frames: np.ndarray,
    fps: float,
    depth: np.ndarray,
    ids: np.ndarray,
    phrases: Sequence[str],
    K: np.ndarray,
    poses: np.ndarray | None = None,
    scale: str | None = None,
) -> Scene:
    """A measured scene.

    frames: u8 [F, H, W, 3]. depth: f [F, H, W], z-depth in metres, not finite where unknown. ids: u8 [F, H, W], k for `phrases[k - 1]`.
    K: f64 [3, 3] in pixels. poses: f64 [F, 4, 4] camera to world (OpenCV axes, metres, any world); None is allowed for a single frame.
    scale: one of SCALES; None takes the one whose scenes are about as wide.

    Objects of fewer than 16 pixels are left out. UserError for arrays that do not fit each other, frames without depth, intrinsics of
    another size, poses that contradict the depth, no ground, no object, or an unknown scale.
    """
    _check(frames, depth, ids, phrases, K, scale)
    poses = _poses(poses, len(frames))
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.inf)
    agree(depth, K, poses)
    depth = sharpen(depth, ids, len(phrases))
    return measured(name, frames, fps, depth, ids, phrases, K, upright(depth, ids, K, poses) @ poses, scale)


def measured(
    name: str,
    frames: np.ndarray,
    fps: float,
    depth: np.ndarray,
    ids: np.ndarray,
    phrases: Sequence[str],
    K: np.ndarray,
    poses: np.ndarray,
    scale: str | None,
) -> Scene:
    """As `lift`, for depth that is sharp and poses in a world whose ground lies at z = 0. UserError where no object is left."""
    points = geometry.world_points(depth, K, poses)
    kept, objects = np.zeros_like(ids), []
    for number, phrase in enumerate(phrases, 1):
        here = (ids == number) & np.isfinite(depth)
        if here.sum() < LEAST:
            continue
        pixel = float(np.median(depth[here])) / K[1, 1]
        thing, inside = measure(points[here], pixel, phrase, frames[here], points[below(ids == number) & (ids == 0) & np.isfinite(depth)])
        objects.append(thing)
        kept[tuple(axis[inside] for axis in np.nonzero(here))] = len(objects)
    if not objects:
        raise UserError(f"{name}: no object with {LEAST} pixels of known depth, of {len(phrases)} that were found")
    scale = scale or scale_of(objects)
    return Scene(name, scale, frames, depth.astype(np.float32), kept, np.asarray(K, np.float64), poses, fps, tuple(objects))


def measure(points: np.ndarray, pixel: float, phrase: str, colours: np.ndarray, under: np.ndarray) -> tuple[Object, np.ndarray]:
    """An object from its world points f64 [n, 3] and their colours u8 [n, 3]; `pixel` is what a pixel spans there in metres, `under` f64
    [m, 3] are the points of the background that show just below it.

    Also returns bool [n], which points lie in it: the outermost 0.5 % at each end of each axis may be errors. The box reaches half a pixel
    further, because points are centres of pixels; not at the top, whose face is seen from above. It reaches the ground unless what shows
    below it is something else: the lower side of a ball is never seen, and a bottom that others hide is not measured, so that the height
    must not pass for one that the clip shows."""
    low, high = np.quantile(points[:, 2], [TAIL, 1 - TAIL])
    best = None
    for yaw in np.radians(np.arange(0, 90, 1.5)):  # the rectangle of the least area
        axes = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        bounds = np.quantile(points[:, :2] @ axes, [TAIL, 1 - TAIL], axis=0)
        area = np.prod(bounds[1] - bounds[0] + pixel)
        if best is None or area < best[0]:
            best = area, float(yaw), axes, bounds
    _, yaw, axes, bounds = best
    local = np.concatenate([points[:, :2] @ axes, points[:, 2:]], 1)
    ends = np.array([[*bounds[0], low], [*bounds[1], high]])
    inside = ((local >= ends[0]) & (local <= ends[1])).all(1)
    local = local[inside] if inside.any() else local
    ends = np.stack([local.min(0), local.max(0)]) + np.array([[-0.5, -0.5, -0.5], [0.5, 0.5, 0.0]]) * pixel
    if _stands(ends, np.concatenate([under[:, :2] @ axes, under[:, 2:]], 1), pixel):
        ends[0, 2] = 0.0
    middle, size = ends.mean(0), ends[1] - ends[0]
    colour, noun = split_phrase(phrase, colours)
    albedo = tuple((np.median(colours, 0) / 255).tolist())
    center = np.append(axes @ middle[:2], middle[2])
    return Object(noun, colour, center, yaw, size, _slices(local - middle, size, pixel, albedo)), inside


def below(mask: np.ndarray) -> np.ndarray:
    """bool [F, H, W]: the pixels two under the lowest pixels of masks [F, H, W], column by column, where the mask reaches down far."""
    height = mask.shape[1]
    lowest = np.where(mask.any(1), height - 1 - mask[:, ::-1].argmax(1), -1)  # [F, W]
    rows = mask.any(2)
    first, last = rows.argmax(1), height - 1 - rows[:, ::-1].argmax(1)
    far = (lowest >= (first + 3 * (last - first) / 4)[:, None]) & (lowest >= 0) & (lowest + 2 < height)
    out = np.zeros_like(mask)
    f, column = np.nonzero(far)
    out[f, lowest[f, column] + 2, column] = True
    return out


def _stands(ends: np.ndarray, under: np.ndarray, pixel: float) -> bool:
    """Whether a box with `ends` [2, 3] stands on the ground, in its own axes: what shows below it (points [m, 3]) is mostly ground within
    its sides, as between a ball and the ground, or nothing shows below it at all."""
    height = ends[1, 2] - ends[0, 2]
    if not len(under) or ends[0, 2] <= STANDS * height:  # nothing lies under the ground
        return True
    if ends[0, 2] > HIDDEN * height:
        return False
    room = 0.1 * (ends[1, :2] - ends[0, :2]) + 2 * pixel
    within = ((under[:, :2] >= ends[0, :2] - room) & (under[:, :2] <= ends[1, :2] + room)).all(1)
    return bool((within & (np.abs(under[:, 2]) <= STANDS * height + pixel)).mean() >= 0.5)


def _slices(local: np.ndarray, size: np.ndarray, pixel: float, albedo: tuple[float, float, float]) -> tuple[Primitive, ...]:
    """The boxes around the points [n, 3] of each horizontal slice, in the object's axes."""
    cuts = np.linspace(-size[2] / 2, size[2] / 2, SLICES + 1)
    parts = []
    for bottom, top in zip(cuts, cuts[1:], strict=False):
        flat = local[(local[:, 2] >= bottom) & (local[:, 2] <= top), :2]
        if not len(flat):
            continue
        low, high = flat.min(0) - pixel / 2, flat.max(0) + pixel / 2
        center, half = (low + high) / 2, (high - low) / 2
        parts.append(Primitive("box", (*center.tolist(), (bottom + top) / 2), (*half.tolist(), (top - bottom) / 2), albedo))
    return tuple(parts)


def sharpen(depth: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    """Depth [F, H, W] whose pixels at the border of a mask continue the inner pixels' surface where they step away from it.

    Depth models mix the two sides of an edge; back-projected, such pixels hang in the air between an object and what is behind it. The
    surface goes on from the nearest inner pixel as from its mirror image to it, straight in inverse depth, as a plane does. Depth that is
    sharp already stays as it is: there, what steps is another side of the object."""
    from scipy import ndimage

    if crisp(depth, ids):
        return depth
    out, (_, height, width) = depth.copy(), depth.shape
    rows, columns = np.indices((height, width))
    for frame, number in ((f, k) for f in range(len(ids)) for k in range(1, count + 1)):
        mask, inverse = ids[frame] == number, 1 / depth[frame]
        inner = ndimage.binary_erosion(mask, iterations=BORDER) & (inverse > 0)
        if not inner.any():
            continue
        y, x = ndimage.distance_transform_edt(~inner, return_distances=False, return_indices=True)
        mirror = np.clip(2 * y - rows, 0, height - 1), np.clip(2 * x - columns, 0, width - 1)
        near = inverse[y, x]
        steady = near + np.where(inner[mirror], np.clip(near - inverse[mirror], -SLOPE * near, SLOPE * near), 0.0)
        mixed = mask & ~inner & ~(np.abs(inverse - steady) <= STEP * steady)
        out[frame][mixed] = 1 / steady[mixed]
    return out


def crisp(depth: np.ndarray, ids: np.ndarray) -> bool:
    """Whether depth [F, H, W] steps where masks end from one pixel to the next, and not over several: the three on each side then lie
    on a line in inverse depth."""
    inverse, bent = np.where(np.isfinite(depth), 1 / depth, np.nan), []
    for z, k in ((inverse, ids), (inverse.swapaxes(1, 2), ids.swapaxes(1, 2))):
        k = [k[:, i : k.shape[1] - 5 + i] for i in range(6)]
        edge = (k[0] == k[1]) & (k[1] == k[2]) & (k[2] != k[3]) & (k[3] == k[4]) & (k[4] == k[5])
        a, b, c, d, e, f = (z[:, i : z.shape[1] - 5 + i][edge] for i in range(6))
        step = np.abs(e - b)
        far = step - 1.5 * (np.abs(b - a) + np.abs(f - e)) > EDGE * np.maximum(b, e)
        bent.append((np.abs(a - 2 * b + c) + np.abs(d - 2 * e + f))[far] / step[far])
    bent = np.concatenate(bent)
    return not len(bent) or float(np.median(bent)) < BENT


def agree(depth: np.ndarray, K: np.ndarray, poses: np.ndarray) -> None:
    """UserError where the depth of a frame, seen from the next, is not what the next frame's depth says, or where it fits at least twice as
    well with the poses inverted or in OpenGL's axes: what poses of another convention look like."""
    if len(depth) < 2:
        return
    found = disagreement(depth, K, poses)
    others = {"world-to-camera": np.linalg.inv(poses), "of OpenGL's axes (y up, z backward)": poses @ np.diag([1.0, -1.0, -1.0, 1.0])}
    wanted = "expected camera-to-world poses in metres, x right, y down, z forward"
    if found > FITS:
        fits = {name: disagreement(depth, K, other) for name, other in others.items()}
        best = min(fits, key=fits.get)
        if fits[best] < found / 2:
            raise UserError(f"poses: they look {best}; {wanted}")
    if found > OFF:
        said = f"differ by {100 * found:.0f} %" if np.isfinite(found) else "do not overlap"
        raise UserError(f"poses: seen from the next frame, depths {said}; {wanted}, and the frames' own intrinsics")


def disagreement(depth: np.ndarray, K: np.ndarray, poses: np.ndarray) -> float:
    """Relative difference between depths [F, H, W] and those of the frame before, seen from there: the median over pixels, so that objects
    may move, then over frames. inf where less than a twentieth of a frame shows in the next."""
    _, height, width = depth.shape
    errors = []
    for f in range(len(depth) - 1):
        points = geometry.world_points(depth[f : f + 1], K, poses[f : f + 1])[0]
        points = points[np.isfinite(points).all(-1)]
        camera = (points - poses[f + 1, :3, 3]) @ poses[f + 1, :3, :3]
        camera = camera[camera[:, 2] > 0]
        u, v = np.floor((camera @ K.T)[:, :2] / camera[:, 2:]).T
        shown = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        there = depth[f + 1][v[shown].astype(int), u[shown].astype(int)]
        errors.append(np.median(np.abs(there / camera[shown, 2] - 1)) if shown.sum() > len(points) / 20 else np.inf)
    return float(np.median(errors))


def upright(depth: np.ndarray, ids: np.ndarray, K: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """f64 [4, 4] from the world of `poses` to one with the ground at z = 0, z up, the first camera above the origin and its right along x.

    The ground is the plane that most of the background's points lie near, by RANSAC, among those that face the cameras and are inclined to
    their mean up by less than 75 degrees. UserError where no such plane holds a tenth of the points."""
    free = (ids == 0) & np.isfinite(depth)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(int(free.sum()))[:SEEN]
    points, near = geometry.world_points(depth, K, poses)[free][chosen], NEAR * depth[free][chosen]
    eye, up = poses[0, :3, 3], -poses[:, :3, 1].mean(0)
    best, votes = None, 0
    for _ in range(PLANES if len(points) >= 3 else 0):
        a, b, c = points[rng.choice(len(points), 3, replace=False)]
        plane = _facing(np.cross(b - a, c - a), a, eye)
        if plane is None or plane[:3] @ up < STEEP * np.linalg.norm(up):
            continue
        held = np.abs(points @ plane[:3] + plane[3]) <= near
        if held.sum() > votes:
            best, votes = held, held.sum()
    if votes < 0.1 * len(points) or not votes:
        raise UserError(
            f"ground: no plane holds a tenth of the {len(points)} background points; expected frames that show ground, from above"
        )
    for _ in range(5):  # least squares of the relative distances
        weight = 1 / near[best, None]
        center = (points[best] * weight**2).sum(0) / (weight**2).sum()
        plane = _facing(np.linalg.svd((points[best] - center) * weight, full_matrices=False)[2][2], center, eye)
        best = np.abs(points @ plane[:3] + plane[3]) <= near
    return standing(plane, poses[0])


def standing(plane: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """f64 [4, 4] to the world whose ground is the plane n x + d = 0 of (n, d) [4] and in which the camera of `pose` [4, 4] is above the
    origin, its right along x."""
    z, eye = plane[:3], pose[:3, 3]
    x = pose[:3, 0] - (pose[:3, 0] @ z) * z
    x /= np.linalg.norm(x)
    turn = np.eye(4)
    turn[:3, :3] = np.stack([x, np.cross(z, x), z])
    turn[:3, 3] = -turn[:3, :3] @ (eye - (eye @ z + plane[3]) * z)
    return turn


def _facing(normal: np.ndarray, point: np.ndarray, eye: np.ndarray) -> np.ndarray | None:
    """Plane (n, d) with n x + d = 0 through `point`, n of unit length and on the side of `eye`; None for no normal."""
    length = np.linalg.norm(normal)
    if length < 1e-300:
        return None
    normal = normal / length * (1 if normal @ (eye - point) >= 0 else -1)
    return np.append(normal, -normal @ point)


def scale_of(objects: Sequence[Object]) -> str:
    """The scale whose scenes are about as wide as the circle around these objects."""
    middle = np.mean([thing.center[:2] for thing in objects], axis=0)
    radius = max(float(np.linalg.norm(thing.center[:2] - middle)) + max(thing.size) / 2 for thing in objects)
    return SCALES[int(np.searchsorted(RADII, radius))]


def _poses(poses: np.ndarray | None, frames: int) -> np.ndarray:
    if poses is None:
        if frames > 1:
            raise UserError(f"poses: none for {frames} frames; expected camera-to-world poses, or a single frame")
        return np.eye(4)[None]
    poses = np.asarray(poses, np.float64)
    if poses.shape != (frames, 4, 4):
        raise UserError(f"poses: found {list(poses.shape)}, expected {[frames, 4, 4]}, one for each frame")
    turns = poses[:, :3, :3]
    if not np.isfinite(poses).all() or np.abs(turns @ turns.swapaxes(1, 2) - np.eye(3)).max() > 1e-3 or (np.linalg.det(turns) < 0).any():
        raise UserError("poses: found a matrix that is no rotation and translation")
    return poses


def _check(frames, depth, ids, phrases, K, scale) -> None:
    if frames.ndim != 4 or not len(frames):
        raise UserError(f"frames: found {list(frames.shape)}, expected [F, H, W, 3] with at least one frame")
    shape = frames.shape[:3]
    for what, array in (("depth", depth), ("masks", ids)):
        if array.shape != shape:
            raise UserError(f"{what}: found {list(array.shape)}, expected {list(shape)} as the frames")
    missing = [f for f in range(len(depth)) if not (np.isfinite(depth[f]) & (depth[f] > 0)).any()]
    if missing:
        raise UserError(f"depth: missing in frame {missing[0]} ({len(missing)} of {len(depth)} frames)")
    if ids.max() > len(phrases):
        raise UserError(f"masks: found id {ids.max()} for {len(phrases)} objects")
    check_intrinsics(K, shape[1:])
    if scale is not None and scale not in SCALES:
        raise unknown("scale", scale, SCALES)


def check_intrinsics(K: np.ndarray, size: tuple[int, int]) -> None:
    """UserError where K f64 [3, 3] cannot belong to frames of (H, W)."""
    height, width = size
    if np.shape(K) != (3, 3) or not np.isfinite(K).all() or min(K[0, 0], K[1, 1]) <= 0 or not np.allclose(K[2], [0, 0, 1]):
        raise UserError("intrinsics: expected a 3 x 3 matrix fx 0 cx; 0 fy cy; 0 0 1 in pixels")
    centred = 0.25 * width <= K[0, 2] <= 0.75 * width and 0.25 * height <= K[1, 2] <= 0.75 * height
    if not centred or not all(0.2 <= K[i, i] / max(size) <= 20 for i in (0, 1)):
        found = f"fx {K[0, 0]:.4g}, fy {K[1, 1]:.4g}, centre {K[0, 2]:.4g}, {K[1, 2]:.4g}"
        raise UserError(f"intrinsics: {found} do not belong to frames of {width} x {height} pixels; were they for another size?")
