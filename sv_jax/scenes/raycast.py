"""Analytic ray casting of upright boxes, elliptic cylinders and ellipsoids on a textured ground, in f32.

Everything is relative to the camera: the host subtracts positions in f64 and casts only differences. Every primitive becomes the unit
shape of its kind under a ray x(t) = origin + t (matrix . d) with d = (x, y, 1) in the camera frame, so t *is* the z-depth.
Shapes are fixed by the batch size, frames, pixels and `SLOTS`; the number of scenes and of primitives are loop bounds, so one program
serves every content and a scene's pixels do not depend on what it is batched with.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sv_jax.errors import UserError
from sv_jax.scenes.scene import KINDS, Object

SLOTS = 48  # primitives of each kind in a scene, at most
TINY = 1e-12
BIAS = 1e-3  # shadow rays start this share of the depth above the surface
AMBIENT, SUN = 0.50, 0.58


class Prims(NamedTuple):
    """Primitives seen by one camera, padded to `SLOTS` per kind (leading axes [F, 3, SLOTS] with F frames, kinds in KINDS' order)."""

    origin: np.ndarray  # f32 [F, 3, SLOTS, 3]: the camera in the unit shape's frame
    matrix: np.ndarray  # f32 [F, 3, SLOTS, 3, 3]: camera to unit shape directions
    look: np.ndarray  # f32 [3, SLOTS, 8]: cosine and sine of the yaw, 1 / half sizes, albedo
    owner: np.ndarray  # i32 [3, SLOTS]: object id, from 1
    count: np.ndarray  # i32 [3]: primitives in use per kind


class Setting(NamedTuple):
    """Camera and light of one scene. Directions are unit vectors unless said otherwise."""

    axes: np.ndarray  # f32 [F, 3, 3]: camera to world rotation
    height: np.ndarray  # f32 [F]: of the camera above the ground, metres
    tile: np.ndarray  # i32 [F, 2]: ground square under the camera, and ...
    offset: np.ndarray  # f32 [F, 2]: ... where the camera is above it, in squares
    focal: np.ndarray  # f32 [4]: fx, fy, cx, cy in pixels
    far: np.ndarray  # f32: z-depth in metres where the ground ends
    pitch: np.ndarray  # f32: side of a ground square, metres
    sun: np.ndarray  # f32 [3]: world, towards the sun
    colours: np.ndarray  # f32 [4, 3]: two of the ground, horizon, zenith


class Image(NamedTuple):
    """Exact geometry of one view at pixel centres, and its picture."""

    rgb: jax.Array  # u8 [H, W, 3]
    depth: jax.Array  # f32 [H, W]: z-depth in metres, inf for sky
    ids: jax.Array  # u8 [H, W]
    normal: jax.Array  # f32 [H, W, 3]: world, 0 for sky
    albedo: jax.Array  # f32 [H, W, 3]
    alone: jax.Array  # i32 [H, W]: bit k - 1 is set where object k would show if it were alone


def prims(objects: tuple[Object, ...], poses: np.ndarray) -> Prims:
    """Primitives of `objects` for camera-to-world `poses` f64 [F, 4, 4]. UserError beyond SLOTS of a kind or 31 objects."""
    if len(objects) > 31:
        raise UserError(f"objects: found {len(objects)}, expected at most 31 in a scene")
    frames = len(poses)
    out = Prims(
        np.zeros((frames, 3, SLOTS, 3), np.float32), np.zeros((frames, 3, SLOTS, 3, 3), np.float32),
        np.zeros((3, SLOTS, 8), np.float32), np.zeros((3, SLOTS), np.int32), np.zeros(3, np.int32),
    )  # fmt: skip
    for number, thing in enumerate(objects, 1):
        for part, solid in zip(thing.parts, thing.solids, strict=True):
            kind = KINDS.index(part.kind)
            slot = out.count[kind]
            if slot == SLOTS:
                raise UserError(f"objects: more than {SLOTS} {part.kind} primitives in a scene")
            to_unit = thing.rotation.T / np.array(part.half)[:, None]  # world to unit shape
            out.origin[:, kind, slot] = (poses[:, :3, 3] - solid.center) @ to_unit.T  # f64 difference, then f32
            out.matrix[:, kind, slot] = to_unit @ poses[:, :3, :3]
            out.look[kind, slot] = [np.cos(thing.yaw), np.sin(thing.yaw), *(1 / np.array(part.half)), *part.albedo]
            out.owner[kind, slot] = number
            out.count[kind] += 1
    return out


def _along(matrix, x, y, z):
    """matrix . (x, y, z) as three components, for [N] rays or scalars."""
    return tuple(matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] * z for i in range(3))


def _slab(o, d):
    """Parameters where a ray enters and leaves |coordinate| <= 1."""
    d = jnp.where(jnp.abs(d) < TINY, TINY, d)
    inverse = 1 / d
    middle, reach = -o * inverse, jnp.abs(inverse)
    return middle - reach, middle + reach


def _quadric(o, d):
    """Parameters where a ray enters and leaves the unit sphere (3 components) or circle (2).

    The textbook b^2 - a c loses everything at a distance in f32; the closest point p = o - (b / a) d keeps it, and the roots are taken
    from -b -+ sqrt without subtracting like quantities. A miss has enter = inf.
    """
    a = jnp.maximum(sum(k * k for k in d), TINY)
    b = sum(j * k for j, k in zip(o, d, strict=True))
    s = b / a
    disc = 1 - sum((j - s * k) ** 2 for j, k in zip(o, d, strict=True))
    root = jnp.sqrt(a * jnp.maximum(disc, 0))
    q = jnp.where(b < 0, root - b, -root - b)
    q = jnp.where(jnp.abs(q) < TINY, TINY, q)
    c = sum(j * j for j in o) - 1
    first, second = c / q, q / a
    enter, leave = jnp.where(b < 0, first, second), jnp.where(b < 0, second, first)
    return jnp.where(disc < 0, jnp.inf, enter), leave


def _box(o, d):
    spans = [_slab(j, k) for j, k in zip(o, d, strict=True)]
    return _entry(spans)


def _cylinder(o, d):
    return _entry([_quadric(o[:2], d[:2]), _slab(o[2], d[2])])


def _ellipsoid(o, d):
    return _entry([_quadric(o, d)])


def _entry(spans):
    """Where a ray first enters the intersection of spans in front of its start, inf for a miss."""
    enter = spans[0][0]
    leave = spans[0][1]
    for a, b in spans[1:]:
        enter, leave = jnp.maximum(enter, a), jnp.minimum(leave, b)
    return jnp.where((enter <= leave) & (enter > 0), enter, jnp.inf)


SHAPES = (_box, _cylinder, _ellipsoid)  # in KINDS' order


def _nearest(view: Prims, x, y):
    """Closest hit along rays (x, y, 1) [N]: z-depth, index into the [3 * SLOTS] primitives, and the bits of all objects that are hit."""

    def body(kind, slot, carry):
        depth, index, alone = carry
        t = SHAPES[kind](tuple(view.origin[kind, slot]), _along(view.matrix[kind, slot], x, y, 1.0))
        alone = alone | jnp.where(t < jnp.inf, 1 << (view.owner[kind, slot] - 1), 0)
        closer = t < depth
        return jnp.where(closer, t, depth), jnp.where(closer, kind * SLOTS + slot, index), alone

    carry = (jnp.full_like(x, jnp.inf), jnp.zeros(x.shape, jnp.int32), jnp.zeros(x.shape, jnp.int32))
    for kind in range(3):
        carry = lax.fori_loop(0, view.count[kind], partial(body, kind), carry)
    return carry


def _shaded(view: Prims, point, sun):
    """bool [N]: whether anything stands between camera-frame points and the sun (camera-frame direction)."""

    def body(kind, slot, dark):
        matrix = view.matrix[kind, slot]
        o = tuple(j + k for j, k in zip(view.origin[kind, slot], _along(matrix, *point), strict=True))
        return dark | (SHAPES[kind](o, _along(matrix, *sun)) < jnp.inf)

    dark = jnp.zeros(point[0].shape, bool)
    for kind in range(3):
        dark = lax.fori_loop(0, view.count[kind], partial(body, kind), dark)
    return dark


def _surface(view: Prims, index, t, ray):
    """World normals and albedo, three [N] each, of the primitives that world rays hit at `t`."""
    origin = view.origin.reshape(3 * SLOTS, 3)[index]
    cos, sin, *rest = jnp.moveaxis(view.look.reshape(3 * SLOTS, 8)[index], 1, 0)
    inverse, albedo = rest[:3], tuple(rest[3:])
    local = (cos * ray[0] + sin * ray[1], cos * ray[1] - sin * ray[0], ray[2])
    x, y, z = (origin[:, i] + t * inverse[i] * local[i] for i in range(3))  # on the unit shape

    side, front = (jnp.abs(x) >= jnp.abs(y)) & (jnp.abs(x) >= jnp.abs(z)), jnp.abs(y) >= jnp.abs(z)
    box = (jnp.where(side, x, 0), jnp.where(~side & front, y, 0), jnp.where(~side & ~front, z, 0))
    cap = z * z > x * x + y * y
    cylinder = (jnp.where(cap, 0, x), jnp.where(cap, 0, y), jnp.where(cap, z, 0))
    kind = index // SLOTS
    unit = [jnp.where(kind == 0, a, jnp.where(kind == 1, b, c)) for a, b, c in zip(box, cylinder, (x, y, z), strict=True)]
    across, along, up = (a * b for a, b in zip(unit, inverse, strict=True))  # gradients scale by the inverse of the half sizes
    scale = 1 / jnp.maximum(jnp.sqrt(across**2 + along**2 + up**2), TINY)
    return (scale * (cos * across - sin * along), scale * (sin * across + cos * along), scale * up), albedo


def _ground(setting: Setting, frame, t, ray):
    """Albedo, three [N], of a checkerboard whose squares differ a little, filtered over a pixel's footprint; `ray` is in the world."""
    slope = jnp.sqrt(1 + (ray[0] ** 2 + ray[1] ** 2) / jnp.maximum(ray[2] ** 2, 1e-6))
    width = jnp.maximum(t / setting.focal[0] / setting.pitch * slope, 1e-4)  # in squares
    place = [setting.offset[frame, i] + t * ray[i] / setting.pitch for i in range(2)]

    def mean(p):  # of a square wave of period 2 and values +-1, over `width` around p
        bump = [jnp.abs(q - jnp.floor(q) - 0.5) for q in ((p - width / 2) / 2, (p + width / 2) / 2)]
        return 2 * (bump[0] - bump[1]) / width

    odd = 0.5 - 0.5 * mean(place[0] + setting.tile[frame, 0] % 2) * mean(place[1] + setting.tile[frame, 1] % 2)
    a, b = ((jnp.floor(p).astype(jnp.int32) + setting.tile[frame, i]).astype(jnp.uint32) for i, p in enumerate(place))
    mixed = (a * jnp.uint32(73856093)) ^ (b * jnp.uint32(19349663))
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(1274126177)
    grain = ((mixed >> 16).astype(jnp.float32) / 65536 - 0.5) * jnp.clip(1.5 - 2 * width, 0, 1)
    even, other = setting.colours[:2]
    return tuple((even[i] + (other[i] - even[i]) * odd) * (1 + 0.1 * grain) for i in range(3))


def _trace(view: Prims, setting: Setting, frame, x, y) -> Image:
    """What the rays (x, y, 1) of one frame meet; rays and results are [N], colours unclipped f32; `view` has no frame axis."""
    axes = setting.axes[frame]
    ray = _along(axes, x, y, 1.0)  # in the world, unit z-depth
    depth, index, alone = _nearest(view, x, y)

    floor = -setting.height[frame] / jnp.minimum(ray[2], -TINY)
    floor = jnp.where((ray[2] < 0) & (floor < setting.far), floor, jnp.inf)
    on_floor = floor < depth
    depth = jnp.minimum(floor, depth)
    hit = jnp.isfinite(depth)
    t = jnp.where(hit, depth, 0)

    normal, albedo = _surface(view, index, t, ray)
    normal = [jnp.where(on_floor, a, b) for a, b in zip((0.0, 0.0, 1.0), normal, strict=True)]
    albedo = [jnp.where(on_floor, a, b) for a, b in zip(_ground(setting, frame, t, ray), albedo, strict=True)]

    lift = _along(axes.T, *normal)  # the normal in the camera frame
    point = tuple(t * (k + BIAS * n) for k, n in zip((x, y, 1.0), lift, strict=True))
    lambert = jnp.maximum(sum(n * s for n, s in zip(normal, setting.sun, strict=True)), 0)
    lambert = jnp.where(_shaded(view, point, axes.T @ setting.sun), 0, lambert)
    light = AMBIENT * (0.8 + 0.2 * normal[2]) + SUN * lambert

    height = jnp.clip(2.5 * ray[2] / jnp.sqrt(sum(k * k for k in ray)), 0, 1)
    haze = jnp.where(on_floor, (t / setting.far) ** 2, jnp.where(hit, 0, 1))
    low, high = setting.colours[2:]
    sky = [low[i] + (high[i] - low[i]) * height for i in range(3)]
    rgb = [jnp.clip(a * light + haze * (b - a * light), 0, 1) for a, b in zip(albedo, sky, strict=True)]

    ids = jnp.where(hit & ~on_floor, view.owner.reshape(-1)[index], 0).astype(jnp.uint8)
    normal, albedo = ([jnp.where(hit, a, 0) for a in planes] for planes in (normal, albedo))
    return Image(*(jnp.stack(v, -1) if isinstance(v, list) else v for v in (rgb, depth, ids, normal, albedo, alone)))


def _view(view: Prims, setting: Setting, frame, size: tuple[int, int]) -> Image:
    """One frame of one scene. Geometry is of the pixels' centres; a colour is half the centre's, half the mean of the four corners'."""
    height, width = size
    fx, fy, cx, cy = setting.focal

    def rays(rows, columns, at):
        x, y = jnp.meshgrid((jnp.arange(columns) + at - cx) / fx, (jnp.arange(rows) + at - cy) / fy)
        return x.ravel(), y.ravel()

    centres, corners = rays(height, width, 0.5), rays(height + 1, width + 1, 0.0)
    traced = _trace(view, setting, frame, *(jnp.concatenate(pair) for pair in zip(centres, corners, strict=True)))
    image = jax.tree.map(lambda a: a[: height * width].reshape(height, width, *a.shape[1:]), traced)
    around = traced.rgb[height * width :].reshape(height + 1, width + 1, 3)
    around = (around[1:, 1:] + around[1:, :-1] + around[:-1, 1:] + around[:-1, :-1]) / 4
    return image._replace(rgb=(255 * (image.rgb + around) / 2 + 0.5).astype(jnp.uint8))


@partial(jax.jit, static_argnames="size")
def render(count: jax.Array, things: Prims, settings: Setting, *, size: tuple[int, int]) -> Image:
    """Images [B, F, ...] of the first `count` of B scenes (the rest stay 0); every array has a leading B axis; size is (H, W)."""
    batch, frames = settings.height.shape

    def one(scene, frame):
        take = partial(jax.tree.map, lambda a: a[scene])
        view, setting = take(things), take(settings)
        return _view(view._replace(origin=view.origin[frame], matrix=view.matrix[frame]), setting, frame, size)

    shapes = jax.eval_shape(one, 0, 0)
    out = jax.tree.map(lambda a: jnp.zeros((batch * frames, *a.shape), a.dtype), shapes)

    def body(i, out):
        return jax.tree.map(lambda all_, new: lax.dynamic_update_index_in_dim(all_, new, i, 0), out, one(i // frames, i % frames))

    out = lax.fori_loop(0, count * frames, body, out)
    return jax.tree.map(lambda a: a.reshape(batch, frames, *a.shape[1:]), out)
