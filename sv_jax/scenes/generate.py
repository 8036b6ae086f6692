"""Scenes from (scale, seed): the same scene whatever it is batched with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import jax
import numpy as np

from sv_jax.errors import UserError, unknown
from sv_jax.scenes import camera, primitives, raycast
from sv_jax.scenes.draw import KINDS, draw
from sv_jax.scenes.layout import Layout
from sv_jax.scenes.plain import OBJECTS
from sv_jax.scenes.scene import SCALES, Scene

FPS = 2.0
SLOTS = (48, 256)  # primitives of a kind that a program has room for
PIXELS = 80 / 112**2  # share of the first frame that every object of a plain scene must show ...
VISIBLE = 0.6  # ... and share of its own silhouette
CLEAR = 5, 0.003  # objects of a full scene that must show this share
DRAFT = 5  # a layout is tried at this fraction of its size
NEAR = 0.06  # median depths that stay free before the camera
BATCH = 16 * 4 * 112 * 112  # pixels of all frames that are rendered together, at least one scene
ATTEMPTS = 100


def generate(scale: str, seed: int, *, kind: str = "full", frames: int = 16, size: tuple[int, int] = (448, 448)) -> Scene:
    """The scene of (scale, seed), with `frames` frames of `size` (H, W)."""
    return next(generate_many([(scale, seed)], kind=kind, frames=frames, size=size))


def generate_many(
    specs: Iterable[tuple[str, int]],
    *,
    kind: str = "full",
    frames: int = 16,
    size: tuple[int, int] = (448, 448),
    objects: tuple[int, int] = OBJECTS,
) -> Iterator[Scene]:
    """The scenes of (scale, seed) pairs, in order, of one of KINDS; some are rendered together by one compiled program. `objects` (least,
    most) of each plain scene. In the first frame of a plain scene every object shows at least 60 % of itself, else at least CLEAR do."""
    if kind not in KINDS:
        raise unknown("kind of world", kind, KINDS)
    if frames < 1 or min(size) < 16:
        raise UserError(f"frames, size: found {frames} frames of {size[0]}x{size[1]}, expected at least 1 frame of 16x16")
    batch = int(np.clip(BATCH // (frames * size[0] * size[1]), 1, 16))
    left = iter(specs)
    while chunk := list(islice(left, batch)):
        yield from _chunk(chunk, kind, frames, tuple(size), objects, batch)


def _chunk(
    specs: list[tuple[str, int]], kind: str, frames: int, size: tuple[int, int], objects: tuple[int, int], batch: int
) -> list[Scene]:
    """Scenes of at most `batch` specs. A scene that is not clear is drawn again from its own seed and rendered in the next round."""
    done: dict[int, Scene] = {}
    for attempt in range(ATTEMPTS):
        pending = [i for i in range(len(specs)) if i not in done]
        if not pending:
            return [done[i] for i in range(len(specs))]
        layouts = {i: draw(kind, specs[i][0], rng_of(*specs[i], attempt), frames, size, objects) for i in pending}
        if kind != "plain":
            layouts = _promising(layouts, size, batch)
        if not layouts:
            continue
        images = render(list(layouts.values()), size, batch)
        for row, (i, layout) in enumerate(layouts.items()):
            rgb, depth, ids, whole = (np.array(a[row]) for a in images[:4])
            whole = whole[:, : len(layout.objects)]
            if _clear(ids[0], depth, whole[0], all_of_them=kind == "plain"):
                scale, seed = specs[i]
                name, K = f"{scale}-{seed:07d}", camera.intrinsics(size, layout.fov)
                done[i] = Scene(name, scale, rgb, depth, ids, K, layout.poses, FPS, layout.objects, whole, layout.room)
    raise RuntimeError(f"no clear scene for {[specs[i] for i in range(len(specs)) if i not in done]} in {ATTEMPTS} attempts")


def _promising(layouts: dict[int, Layout], size: tuple[int, int], batch: int) -> dict[int, Layout]:
    """Those layouts whose first frame, drawn small, is clear: the others need not be rendered."""
    small = tuple(max(side // DRAFT, 32) for side in size)
    images = render([replace(layout, poses=layout.poses[:1]) for layout in layouts.values()], small, batch)
    clear = [_clear(images.ids[row, 0], images.depth[row], images.whole[row, 0], all_of_them=False) for row in range(len(layouts))]
    return {i: layout for (i, layout), good in zip(layouts.items(), clear, strict=True) if good}


def rng_of(scale: str, seed: int, attempt: int) -> np.random.Generator:
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    if seed < 0:
        raise UserError(f"seed: found {seed}, expected 0 or more")
    return np.random.default_rng([SCALES.index(scale), seed, attempt])


def _clear(ids: np.ndarray, depth: np.ndarray, whole: np.ndarray, *, all_of_them: bool) -> bool:
    """Whether enough objects show enough pixels of the first frame, ids [H, W], and enough of those they would show alone, [objects]; and
    nothing stands right before the camera in any frame, depth [F, H, W]."""
    visible = np.bincount(ids.ravel(), minlength=len(whole) + 1)[1:]
    least, share = (len(whole), PIXELS) if all_of_them else CLEAR
    if ((visible >= share * ids.size) & (visible >= VISIBLE * whole)).sum() < least:
        return False
    if all_of_them:
        return True
    near = depth.min((1, 2)) >= NEAR * np.median(np.where(np.isfinite(depth), depth, 0), (1, 2))
    return bool(near.all())


def render(layouts: list[Layout], size: tuple[int, int], batch: int, planes: bool = False) -> raycast.Image:
    """Numpy images [batch, F, ...] of at most `batch` layouts; rows beyond them are empty."""
    Ks = [camera.intrinsics(size, layout.fov) for layout in layouts]
    parts = max(sum(len(thing.parts) for thing in (*layout.objects, *layout.props)) for layout in layouts)
    slots = next((n for n in SLOTS if n >= parts), SLOTS[-1])
    views = [primitives.prims(layout.objects, layout.props, layout.poses, K, slots) for layout, K in zip(layouts, Ks, strict=True)]
    settings = [setting(layout, K) for layout, K in zip(layouts, Ks, strict=True)]
    rest = batch - len(layouts)

    def stack(*rows):
        return np.concatenate([np.stack(rows), np.zeros((rest, *np.shape(rows[0])), np.asarray(rows[0]).dtype)])

    images = raycast.render(
        np.int32(len(layouts)), jax.tree.map(stack, *views), jax.tree.map(stack, *settings), size=tuple(size), planes=planes
    )
    return jax.device_get(images)


def setting(layout: Layout, K: np.ndarray) -> raycast.Setting:
    """Camera, light and ground of a layout for the ray caster."""
    axes, eyes = layout.poses[:, :3, :3], layout.poses[:, :3, 3]
    rest = raycast.LIGHTS - len(layout.lamps)
    places = np.stack([*(lamp.place for lamp in layout.lamps), *[np.zeros(3)] * rest])
    colour, texture = layout.ground
    return raycast.Setting(
        axes=axes.astype(np.float32),
        eye=(eyes - [*layout.origin, 0.0]).astype(np.float32),
        focal=np.array([K[0, 0], K[1, 1], K[0, 2], K[1, 2]], np.float32),
        far=np.float32(layout.far),
        fog=np.float32(layout.fog),
        ground=np.array(primitives.paint(colour, texture), np.float32),
        lamps=np.einsum("fji,flj->fli", axes, places - eyes[:, None]).astype(np.float32),
        power=np.array([*(lamp.power for lamp in layout.lamps), *[np.zeros(3)] * rest], np.float32),
        reach=np.array([*(lamp.reach for lamp in layout.lamps), *[1.0] * rest], np.float32),
        lights=np.int32(len(layout.lamps)),
        ambient=layout.ambient.astype(np.float32),
        sky=np.array(layout.sky, np.float32),
    )
