"""Primitives of a scene as the ray caster takes them: packed on the host in f64 relative to each camera, then rounded to f32."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sv_jax.errors import UserError
from sv_jax.scenes.scene import KINDS, Object, Texture

OBJECTS = 64  # in a scene, at most: silhouettes are kept as bits
MARGIN = 1.0  # pixels around a primitive's projection


class Prims(NamedTuple):
    """Primitives of one scene in F frames, padded to S slots per kind, kinds in KINDS' order. Camera frames unless said otherwise."""

    origin: np.ndarray  # f32 [F, 3, S, 3]: the camera in the unit shape's frame
    matrix: np.ndarray  # f32 [F, 3, S, 3, 3]: camera to unit shape directions
    turn: np.ndarray  # f32 [F, 3, S, 2]: cosine and sine of the yaw
    box: np.ndarray  # f32 [F, 3, S, 4]: left, top, right, bottom of its projection in pixels
    sphere: np.ndarray  # f32 [F, 3, S, 4]: centre and radius in metres of a ball around it; radius -inf: casts no shadow
    inverse: np.ndarray  # f32 [3, S, 3]: 1 / half sizes
    paint: np.ndarray  # f32 [3, S, PAINT]
    owner: np.ndarray  # i32 [3, S]: object id, from 1; 0 for what is no object
    count: np.ndarray  # i32 [3]: primitives in use per kind


PAINT = 17  # albedo, second colour, cells per metre [3], line, bond, checker, grain, noise, noise cells per metre [3]


def paint(albedo, texture: Texture | None) -> list[float]:
    """A row of paint: a colour and what varies it."""
    t = texture or Texture()
    return [
        *albedo, *(t.second or albedo), *(1 / p if p else 0.0 for p in t.pitch), t.line, t.bond, t.checker, t.grain, t.noise,
        *(1 / p if p else 0.0 for p in t.length),
    ]  # fmt: skip


def prims(objects: tuple[Object, ...], props: tuple[Object, ...], poses: np.ndarray, K: np.ndarray, slots: int) -> Prims:
    """Primitives of `objects`, whose ids they carry, and of `props`, which are background, for camera-to-world `poses` f64 [F, 4, 4] and
    K f64 [3, 3]. UserError beyond `slots` of a kind or OBJECTS objects."""
    if len(objects) > OBJECTS:
        raise UserError(f"objects: found {len(objects)}, expected at most {OBJECTS} in a scene")
    frames = len(poses)

    def empty(*shape):
        return np.zeros(shape, np.float32)

    out = Prims(
        empty(frames, 3, slots, 3), empty(frames, 3, slots, 3, 3), empty(frames, 3, slots, 2), empty(frames, 3, slots, 4),
        empty(frames, 3, slots, 4), empty(3, slots, 3), empty(3, slots, PAINT), np.zeros((3, slots), np.int32), np.zeros(3, np.int32),
    )  # fmt: skip
    eyes, axes = poses[:, :3, 3], poses[:, :3, :3]
    for number, thing in [*enumerate(objects, 1), *((0, prop) for prop in props)]:
        center, yaw = thing.places(frames)  # [F, 3], [F]
        cos, sin, zero = np.cos(yaw), np.sin(yaw), np.zeros(frames)
        rotation = np.stack([cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1], -1).reshape(-1, 3, 3)  # object to world
        for part in thing.parts:
            kind = KINDS.index(part.kind)
            slot = out.count[kind]
            if slot == slots:
                raise UserError(f"objects: more than {slots} {part.kind} primitives in a scene")
            half, middle = np.array(part.half), center + rotation @ np.array(part.center)
            to_unit = rotation.swapaxes(1, 2) / half[:, None]  # world to unit shape
            out.origin[:, kind, slot] = np.einsum("fij,fj->fi", to_unit, eyes - middle)  # f64 difference, then f32
            out.matrix[:, kind, slot] = to_unit @ axes
            out.turn[:, kind, slot] = np.stack([cos, sin], -1)
            seen = np.einsum("fji,fnj->fni", axes, middle[:, None] - eyes[:, None] + (SIGNS * half) @ rotation.swapaxes(1, 2))
            out.box[:, kind, slot] = _bounds(seen, K)
            out.sphere[:, kind, slot, :3] = seen.mean(1)
            out.sphere[:, kind, slot, 3] = np.linalg.norm(half) if part.shadow else -np.inf
            out.inverse[kind, slot] = 1 / half
            out.paint[kind, slot] = paint(part.albedo, part.texture)
            out.owner[kind, slot] = number
            out.count[kind] += 1
    return out


SIGNS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])


def _bounds(corners: np.ndarray, K: np.ndarray) -> np.ndarray:
    """f64 [F, 4]: pixels that a box with camera-frame corners [F, 8, 3] may cover; all where it reaches behind the camera, none behind."""
    z = corners[..., 2]
    with np.errstate(all="ignore"):
        pixels = corners[..., :2] / z[..., None] * [K[0, 0], K[1, 1]] + K[:2, 2]
    low, high = pixels.min(1) - MARGIN, pixels.max(1) + MARGIN
    inside = (z > 1e-6 * np.abs(corners).max((1, 2))[:, None]).all(1)[:, None]
    low, high = np.where(inside, low, -np.inf), np.where(inside, high, np.inf)
    high[(z <= 0).all(1)] = -np.inf
    return np.concatenate([low, high], -1)
