"""Analytic ray casting of upright boxes, elliptic cylinders and ellipsoids on the ground, in f32.

Everything is relative to the camera: the host subtracts positions in f64 and casts only differences. Every primitive becomes the unit
shape of its kind under a ray x(t) = origin + t (matrix . d) with d = (x, y, 1) in the camera frame, so t *is* the z-depth.
A frame is cast tile by tile, each against the primitives whose projection meets it, and its shadows against those near the way to a
light. Shapes are fixed by the batch, frames, pixels and slots; the numbers of scenes, primitives and lights are loop bounds, so one
program serves every content and a scene's pixels do not depend on what it is batched with.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from sv_jax.scenes import patterns
from sv_jax.scenes.patterns import once
from sv_jax.scenes.primitives import Prims

LIGHTS = 2
TINY = 1e-12
BIAS = 1e-3  # shadow rays start this share of the depth above the surface
TILE = 56  # pixels; a CPU casts tiles one by one, small enough for its cache. Accelerators cast whole frames
BLOCK = 8  # primitives that are cast together


class Setting(NamedTuple):
    """Camera and light of one scene."""

    axes: np.ndarray  # f32 [F, 3, 3]: camera to world rotation
    eye: np.ndarray  # f32 [F, 3]: the camera from the origin of the ground's pattern, world axes, metres
    focal: np.ndarray  # f32 [4]: fx, fy, cx, cy in pixels
    far: np.ndarray  # f32: z-depth in metres where the ground ends
    fog: np.ndarray  # f32: distance in metres over which objects fade into the horizon's colour
    ground: np.ndarray  # f32 [PAINT]
    lamps: np.ndarray  # f32 [F, LIGHTS, 3]: camera frame, metres; the sun is a lamp far away
    power: np.ndarray  # f32 [LIGHTS, 3]: light on a surface that faces a lamp from nearby
    reach: np.ndarray  # f32 [LIGHTS]: distance in metres at which half of it is left
    lights: np.ndarray  # i32: lamps in use
    ambient: np.ndarray  # f32 [3]
    sky: np.ndarray  # f32 [2, 3]: horizon, zenith


class Image(NamedTuple):
    """Exact geometry of one view at pixel centres, and its picture."""

    rgb: jax.Array  # u8 [H, W, 3]
    depth: jax.Array  # f32 [H, W]: z-depth in metres, inf for sky
    ids: jax.Array  # u8 [H, W]
    whole: jax.Array  # i32 [OBJECTS]: pixels that object k + 1 would show if it were alone
    normal: jax.Array  # f32 [H, W, 3]: world, 0 for sky
    albedo: jax.Array  # f32 [H, W, 3]


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


def _listed(mask):
    """Slots [3, S] in order with those of a bool mask [3, S] first, and their numbers [3]."""
    return jnp.argsort(~mask, axis=-1, stable=True), mask.sum(-1)


def _blocks(view: Prims, listed, step, carry):
    """`carry` after `step(slots, hits, carry)` for each BLOCK of listed primitives, all of one kind: `slots` [BLOCK] into [3 * S], and
    `hits(points, directions)`, f32 [BLOCK, N]: where rays meet them, from camera-frame points given as three [N] (None: the camera).

    A block at a time, because XLA on a CPU computes a primitive alone once for each of its results and does not vectorise it."""
    order, count = listed
    per_kind = order.shape[1]

    def body(kind, i, carry):
        slots = lax.dynamic_slice(order[kind], (i * BLOCK,), (BLOCK,))
        valid = i * BLOCK + jnp.arange(BLOCK) < count[kind]
        origin, matrix, slots, valid = once((view.origin[kind, slots], view.matrix[kind, slots], slots, valid))
        origin, matrix = jnp.moveaxis(origin, 1, 0)[..., None], jnp.moveaxis(matrix, 0, 2)[..., None]  # [3, BLOCK, 1], [3, 3, BLOCK, 1]

        def hits(point, direction):
            o = tuple(origin)
            if point is not None:
                o = tuple(j + k for j, k in zip(o, _along(matrix, *point), strict=True))
            t = SHAPES[kind](o, _along(matrix, *direction))
            return once(jnp.where(valid[:, None], t, jnp.inf))

        return step(kind * per_kind + slots, hits, carry)

    for kind in range(3):
        carry = lax.fori_loop(0, -(-count[kind] // BLOCK), partial(body, kind), carry)
    return carry


def _nearest(view: Prims, listed, x, y):
    """Closest hit along rays (x, y, 1) [N] of the listed primitives: z-depth, index into the [3 * S] primitives, and the bits of all
    objects that are hit, u32 [N] for ids up to 32 and for those above."""
    last = jnp.iinfo(jnp.int32).max

    def step(slots, hits, carry):
        depth, index, *bits = carry
        t = hits(None, (x, y, 1.0))
        first = t.min(0)
        index = jnp.where(first < depth, jnp.where(t == first, slots[:, None], last).min(0), index)
        bit = view.owner.reshape(-1)[slots] - 1
        flag = jnp.uint32(1) << (bit % 32).astype(jnp.uint32)
        for i, mine in enumerate(((bit >= 0) & (bit < 32), bit >= 32)):
            hit = jnp.where((t < jnp.inf) & mine[:, None], flag[:, None], 0)
            bits[i] = bits[i] | lax.reduce(hit, jnp.uint32(0), lax.bitwise_or, (0,))
        return jnp.minimum(first, depth), index, *bits

    none = jnp.zeros(x.shape, jnp.uint32)
    return _blocks(view, listed, step, (jnp.full_like(x, jnp.inf), jnp.zeros(x.shape, jnp.int32), none, none))


def _shaded(view: Prims, listed, point, way):
    """bool [N]: whether a listed primitive stands between camera-frame points and their lamp, which lies `way` from them."""
    return _blocks(view, listed, lambda slots, hits, dark: dark | (hits(point, way).min(0) < 1), jnp.zeros(point[0].shape, bool))


def _surface(view: Prims, index, t, ray):
    """World normals, own coordinates in metres and own normals, three [N] each, and paint [N, PAINT], of the primitives that world rays
    hit at `t`."""
    slots = view.owner.shape[1]
    origin, turn, inverse, look = (a.reshape(3 * slots, -1)[index] for a in (view.origin, view.turn, view.inverse, view.paint))
    cos, sin = turn.T
    local = (cos * ray[0] + sin * ray[1], cos * ray[1] - sin * ray[0], ray[2])
    x, y, z = (origin[:, i] + t * inverse[:, i] * local[i] for i in range(3))  # on the unit shape

    side, front = (jnp.abs(x) >= jnp.abs(y)) & (jnp.abs(x) >= jnp.abs(z)), jnp.abs(y) >= jnp.abs(z)
    box = (jnp.where(side, x, 0), jnp.where(~side & front, y, 0), jnp.where(~side & ~front, z, 0))
    cap = z * z > x * x + y * y
    cylinder = (jnp.where(cap, 0, x), jnp.where(cap, 0, y), jnp.where(cap, z, 0))
    kind = index // slots
    unit = [jnp.where(kind == 0, a, jnp.where(kind == 1, b, c)) for a, b, c in zip(box, cylinder, (x, y, z), strict=True)]
    own = [a * inverse[:, i] for i, a in enumerate(unit)]  # gradients scale by the inverse of the half sizes
    scale = 1 / jnp.maximum(jnp.sqrt(sum(a * a for a in own)), TINY)
    across, along, up = own = [scale * a for a in own]
    place = [a / inverse[:, i] for i, a in enumerate((x, y, z))]
    return [cos * across - sin * along, sin * across + cos * along, up], place, own, look


def _near_way(sphere, center, radius, lamp):
    """bool [3, S]: whether balls [3, S, 4] reach into the way of a ball at `center` to `lamp`."""
    way = lamp - center
    along = jnp.clip(((sphere[..., :3] - center) @ way) / jnp.maximum(way @ way, TINY), 0, 1)
    apart = jnp.linalg.norm(sphere[..., :3] - center - along[..., None] * way, axis=-1)
    return apart <= (radius + sphere[..., 3]) * 1.001


def _light(view: Prims, setting: Setting, frame, used, t, point, lift, up):
    """Light on camera-frame points, three [N], with camera-frame normals `lift`; `up` is the world normal's z. `used` are the slots in
    use, bool [3, S]. Points with t = 0 do not matter."""
    lit = jnp.stack(point, -1)
    low, high = (f(jnp.where(t[:, None] > 0, lit, fill), axis=0) for f, fill in ((jnp.min, jnp.inf), (jnp.max, -jnp.inf)))
    center, radius = (low + high) / 2, jnp.linalg.norm(high - low) / 2  # nan where nothing was hit: no primitive is near

    def body(i, light):
        lamp = setting.lamps[frame, i]
        way = tuple(lamp[j] - point[j] for j in range(3))
        square = sum(a * a for a in way)
        lambert = jnp.maximum(sum(a * b for a, b in zip(lift, way, strict=True)) / jnp.sqrt(square), 0)
        listed = _listed(used & _near_way(view.sphere, center, radius, lamp))
        lambert = once(jnp.where(_shaded(view, listed, point, way), 0, lambert) / (1 + square / setting.reach[i] ** 2))
        return [a + setting.power[i, c] * lambert for c, a in enumerate(light)]

    return lax.fori_loop(0, setting.lights, body, [setting.ambient[c] * (0.8 + 0.2 * up) for c in range(3)])


def _trace(view: Prims, setting: Setting, frame, inside, x, y):
    """What the rays (x, y, 1) of one frame meet, all of them in a tile that meets the slots `inside` bool [3, S]: depth, ids, bits,
    normals, albedo and unclipped colours, [N] each; `view` has no frame axis."""
    axes, slots = setting.axes[frame], view.owner.shape[1]
    used = jnp.arange(slots) < view.count[:, None]
    ray = _along(axes, x, y, 1.0)  # in the world, unit z-depth
    depth, index, *bits = _nearest(view, _listed(used & inside), x, y)

    floor = -setting.eye[frame, 2] / jnp.minimum(ray[2], -TINY)
    floor = jnp.where((ray[2] < 0) & (floor < setting.far), floor, jnp.inf)
    on_floor = floor < depth
    depth = jnp.minimum(floor, depth)
    hit = jnp.isfinite(depth)
    t = jnp.where(hit, depth, 0)

    normal, place, own, look = _surface(view, index, t, ray)
    up = (0.0, 0.0, 1.0)
    normal, own = ([jnp.where(on_floor, a, b) for a, b in zip(up, n, strict=True)] for n in (normal, own))
    place = [jnp.where(on_floor, setting.eye[frame, i] + t * ray[i], p) for i, p in enumerate(place)]
    look = jnp.where(on_floor[:, None], setting.ground, look)
    length = jnp.sqrt(sum(k * k for k in ray))
    normal, own, place, look, length = once((normal, own, place, look, length))
    slope = length / jnp.maximum(jnp.abs(sum(n * k for n, k in zip(normal, ray, strict=True))), 1e-3)
    albedo = patterns.albedo(look, place, own, t / setting.focal[0] * slope)

    lift = _along(axes.T, *normal)  # the normal in the camera frame
    point = tuple(t * (k + BIAS * n) for k, n in zip((x, y, 1.0), lift, strict=True))
    light = _light(view, setting, frame, used, t, point, lift, normal[2])

    height = jnp.clip(2.5 * ray[2] / length, 0, 1)
    haze = jnp.minimum((t / jnp.where(on_floor, jnp.minimum(setting.far, setting.fog), setting.fog)) ** 2, 1)
    rgb = []
    for i in range(3):
        sky = setting.sky[0, i] + (setting.sky[1, i] - setting.sky[0, i]) * height
        lit = albedo[i] * light[i]
        rgb.append(jnp.clip(jnp.where(hit, lit + haze * (sky - lit), sky), 0, 1))
    ids = jnp.where(hit & ~on_floor, view.owner.reshape(-1)[index], 0).astype(jnp.uint8)
    normal, albedo = (jnp.stack([jnp.where(hit, a, 0) for a in planes], -1) for planes in (normal, albedo))
    return depth, ids, bits, normal, albedo, jnp.stack(rgb, -1)


def _view(view: Prims, setting: Setting, frame, size: tuple[int, int], tile: tuple[int, int]) -> Image:
    """One frame of one scene. Geometry is of the pixels' centres; a colour is half the centre's, half the mean of the four corners'."""
    rows, columns = (-(-a // b) for a, b in zip(size, tile, strict=True))
    fx, fy, cx, cy = setting.focal

    def rays(height, width, top, left):
        x, y = jnp.meshgrid((left + jnp.arange(width) - cx) / fx, (top + jnp.arange(height) - cy) / fy)
        return x.ravel(), y.ravel()

    def cast(corner):
        top, left = corner
        inside = (view.box[..., 0] < left + tile[1]) & (view.box[..., 2] > left)
        inside &= (view.box[..., 1] < top + tile[0]) & (view.box[..., 3] > top)
        centres, corners = rays(*tile, top + 0.5, left + 0.5), rays(tile[0] + 1, tile[1] + 1, top, left)
        x, y = (jnp.concatenate(pair) for pair in zip(centres, corners, strict=True))
        depth, ids, bits, normal, albedo, rgb = _trace(view, setting, frame, inside, x, y)
        count = tile[0] * tile[1]
        around = rgb[count:].reshape(tile[0] + 1, tile[1] + 1, 3)
        around = (around[1:, 1:] + around[1:, :-1] + around[:-1, 1:] + around[:-1, :-1]) / 4
        depth, ids, normal, albedo, rgb = (a[:count].reshape(*tile, *a.shape[1:]) for a in (depth, ids, normal, albedo, rgb))
        row, column = top + jnp.arange(tile[0])[:, None], left + jnp.arange(tile[1])
        valid = ((row < size[0]) & (column < size[1])).ravel()
        flags = [(jnp.where(valid, b[:count], 0)[None] >> jnp.arange(32, dtype=jnp.uint32)[:, None] & 1).astype(jnp.int32) for b in bits]
        return Image((255 * (rgb + around) / 2 + 0.5).astype(jnp.uint8), depth, ids, jnp.concatenate(flags).sum(-1), normal, albedo)

    top, left = jnp.meshgrid(jnp.arange(rows) * tile[0], jnp.arange(columns) * tile[1], indexing="ij")
    tiles = lax.map(cast, (top.ravel(), left.ravel()))

    def join(a):
        a = a.reshape(rows, columns, *a.shape[1:]).swapaxes(1, 2)
        return a.reshape(rows * tile[0], columns * tile[1], *a.shape[4:])[: size[0], : size[1]]

    return Image(*(a.sum(0) if name == "whole" else join(a) for name, a in zip(Image._fields, tiles, strict=True)))


@partial(jax.jit, static_argnames=("size", "planes"))
def render(count: jax.Array, things: Prims, settings: Setting, *, size: tuple[int, int], planes: bool = False) -> Image:
    """Images [B, F, ...] of the first `count` of B scenes (the rest stay 0); every array has a leading B axis; size is (H, W).
    Without `planes` normals and albedo are left empty. Each device of this process casts its share of the frames, where F divides."""
    frames = settings.eye.shape[1]
    devices = jax.local_devices()
    mesh = Mesh(devices[: math.gcd(frames, len(devices))], ("frame",))
    own, whole = P(None, "frame"), P()
    split = (
        whole,
        Prims(**{name: own if name in MOVING else whole for name in Prims._fields}),
        Setting(**{name: own if name in ("axes", "eye", "lamps") else whole for name in Setting._fields}),
    )
    cast = partial(_render, size=size, planes=planes)
    return jax.shard_map(cast, mesh=mesh, in_specs=split, out_specs=own, check_vma=False)(count, things, settings)


MOVING = ("origin", "matrix", "turn", "box", "sphere")  # of Prims: those with a frame axis


def _render(count, things: Prims, settings: Setting, size: tuple[int, int], planes: bool) -> Image:
    """`render` on one device."""
    batch, frames = settings.eye.shape[:2]
    tile = tuple(min(side, TILE) for side in size) if jax.default_backend() == "cpu" else size

    def one(scene, frame):
        view, setting = (jax.tree.map(lambda a: a[scene], a) for a in (things, settings))
        image = _view(view._replace(**{name: getattr(view, name)[frame] for name in MOVING}), setting, frame, size, tile)
        return image if planes else image._replace(normal=jnp.zeros(0), albedo=jnp.zeros(0))

    shapes = jax.eval_shape(one, 0, 0)
    out = jax.tree.map(lambda a: jnp.zeros((batch * frames, *a.shape), a.dtype), shapes)

    def body(i, out):
        return jax.tree.map(lambda all_, new: lax.dynamic_update_index_in_dim(all_, new, i, 0), out, one(i // frames, i % frames))

    out = lax.fori_loop(0, count * frames, body, out)
    return jax.tree.map(lambda a: a.reshape(batch, frames, *a.shape[1:]), out)
